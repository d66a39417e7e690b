"""Validation of the Keras encoder during training: one-shot tasks on the held-out groups."""

import keras
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from edge_oneshot.data.dataset import Dataset
from edge_oneshot.errors import DataError
from edge_oneshot.training.objectives import OBJECTIVES
from edge_oneshot.training.runs import RunRecord, Similarity
from edge_oneshot_device.bundle.manifest import Metric
from edge_oneshot_export.formats.conversion import reference_embeddings
from edge_oneshot_export.judging.bounds import mean_interval
from edge_oneshot_export.judging.drift import unit
from edge_oneshot_export.judging.protocols import genuine_and_impostor, one_shot, one_shot_episodes

_EPISODES = 1000
_WAYS = 20


class Validation:
    """Held-out images, and one-shot episodes over them that are drawn once."""

    def __init__(self, held_out: Dataset, record: RunRecord) -> None:
        self.held_out, self.section = held_out, record.input
        self.metric = OBJECTIVES[record.settings.objective].metric
        self.last: float | None = None
        alphabets = held_out.drawers is not None
        sizes = [len(np.unique(held_out.labels[held_out.groups == g])) for g in range(len(held_out.group_names))]
        self.ways = min(_WAYS, max(sizes) if alphabets else len(held_out.identities))
        self.episodes = one_shot_episodes(
            held_out.labels,
            self.ways,
            _EPISODES,
            record.settings.seed,
            groups=held_out.groups if alphabets else None,
            drawers=held_out.drawers,
        )

    def accuracy(self, encoder: keras.Model) -> tuple[float, tuple[float, float]]:
        """One-shot accuracy of the Keras encoder, 0..1, and its 95 % confidence interval."""
        correct = one_shot(self._embeddings(encoder, self.metric), self.episodes, self.metric).astype(np.float64)
        self.last = float(correct.mean())
        return self.last, mean_interval(correct, self.held_out.labels[self.episodes.query])

    def similarity(self, encoder: keras.Model) -> Similarity:
        """The logistic curve from cosine to degree of similarity, at equal priors (Platt 1999)."""
        pairs = genuine_and_impostor(self._embeddings(encoder, "cosine"), self.held_out.labels, "cosine")
        cosines = np.concatenate([pairs.genuine, pairs.impostor])[:, None]
        same = np.repeat([1, 0], [len(pairs.genuine), len(pairs.impostor)])
        fit = LogisticRegression(class_weight="balanced").fit(cosines, same)
        return Similarity(slope=float(fit.coef_[0, 0]), offset=float(fit.intercept_[0]))

    def _embeddings(self, encoder: keras.Model, metric: Metric) -> npt.NDArray[np.float32]:
        raw = reference_embeddings(encoder, self.held_out.images, self.section)
        return raw if metric == "euclidean" else unit(raw).astype(np.float32)


def require_enough(training: Dataset, validation: Dataset) -> None:
    """Refuse data that is too little to train on or to validate with.

    Args:
        training: The images to train on.
        validation: The images to validate with.

    Raises:
        DataError: Reason ``too_little_data``: one of them has fewer than two identities, or an identity with one image.
    """
    for part, name in ((training, "to train on"), (validation, "held out")):
        people, images = len(part.identities), np.bincount(part.labels)
        if people < 2:
            message = f"{part.name}: {people} identities {name}, at least 2 are needed; add some"
            raise DataError(message, reason="too_little_data")
        if images.min() < 2:
            message = f"{part.name}: {part.identities[int(images.argmin())]} has 1 image, at least 2 are needed"
            raise DataError(message, reason="too_little_data")

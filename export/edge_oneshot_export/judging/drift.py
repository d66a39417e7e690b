"""Drift: how the embeddings and the error rates of an exported variant differ from those of the float model."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.drift_section import Change, Drift, LayerError
from edge_oneshot_device.bundle.manifest import Metric
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.judging.cells import Integers
from edge_oneshot_export.judging.protocols import Episodes, genuine_and_impostor, one_shot, one_shot_episodes
from edge_oneshot_export.judging.verification import Linearised, change, rate_changes
from edge_oneshot_export.variants import VariantKind

MAX_LOSS: Final = 0.02
"""A variant is not shipped when the 95 % interval says that it loses more than this share of the genuine accepts or of
the one-shot tasks."""

COLLAPSED: Final[dict[Metric, float]] = {"cosine": 0.98, "euclidean": 0.9999}
"""Largest mean cosine between different images. Above it the encoder has collapsed: every image gives the same
embedding, and drift would always be zero. Euclidean embeddings may be far from the origin, so their bound is higher."""

_EPISODES: Final = 4000
_WAYS: Final = 20
_PAIRS: Final = 1_000_000
_ROWS_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True, eq=False)
class FloatReference:
    """The float model's embeddings of held-out images, to which its variants are compared.

    Attributes:
        embeddings: float32 (n, size); of length 1 for the cosine.
        labels: int64 (n,), the identity of each image, 0..people-1.
        metric: How embeddings are compared.
        rates: The error rates over all pairs.
        episodes: One-shot tasks over all identities.
        solved: bool (episodes,), whether the float model solves each task.
    """

    embeddings: NDArray[np.float32]
    labels: NDArray[np.int64]
    metric: Metric
    rates: Linearised
    episodes: Episodes
    solved: NDArray[np.bool_]

    @classmethod
    def of(
        cls, answered: NDArray[np.float32], identities: Integers, metric: Metric, *, seed: int = 0
    ) -> "FloatReference":
        """Make the reference.

        Args:
            answered: float32 (n, size), the float model's embeddings.
            identities: Integers (n,), the identity of each image.
            metric: How embeddings are compared.
            seed: Random seed of the one-shot tasks.

        Returns:
            The reference.

        Raises:
            ModelError: Fewer than two identities have two images.
        """
        labels = np.unique(identities, return_inverse=True)[1]
        embeddings = unit(answered).astype(np.float32) if metric == "cosine" else answered
        people = np.count_nonzero(np.bincount(labels) > 1)
        episodes = one_shot_episodes(labels, min(_WAYS, int(people)), _EPISODES, seed)
        solved = one_shot(embeddings, episodes, metric)
        return cls(embeddings, labels, metric, _rates(embeddings, labels, metric), episodes, solved)


def measure_drift(
    answered: NDArray[np.float32], reference: FloatReference, layers: tuple[LayerError, ...] = ()
) -> Drift:
    """Compare a variant, run as the device runs it, with the float model.

    For the cosine between both embeddings of an image, Euclidean embeddings are first centred on the mean of the
    reference, since a common offset would dominate it. Error rates are those of all pairs of images, with thresholds
    for each encoder. Intervals are paired: what is hard for both encoders cancels.

    Args:
        answered: float32 (n, size), the variant's embeddings of the images of `reference`.
        reference: The float model's embeddings.
        layers: Quantization error by layer, see `edge_oneshot_export.formats.layers.layer_errors`.

    Returns:
        The drift, for the manifest.
    """
    metric, labels = reference.metric, reference.labels
    origin = reference.embeddings.mean(axis=0) if metric == "euclidean" else np.float32(0)
    cosines = np.sum(unit(answered - origin) * unit(reference.embeddings - origin), axis=1)
    changed = nearest(answered, metric) != nearest(reference.embeddings, metric)
    rates = rate_changes(reference.rates, _rates(answered, labels, metric))
    return Drift(
        images=len(answered),
        people=int(labels.max()) + 1,
        cosine_mean=float(cosines.mean()),
        cosine_p01=float(np.percentile(cosines, 1)),
        cosine_min=float(cosines.min()),
        neighbour_changed=float(changed.mean()),
        eer=rates.pop("eer"),
        tpr_at_fpr=rates,
        one_shot=_one_shot_change(reference, one_shot(answered, reference.episodes, metric)),
        ways=reference.episodes.support.shape[1],
        layers=layers,
    )


def _rates(embeddings: NDArray[np.float32], labels: NDArray[np.int64], metric: Metric) -> Linearised:
    return Linearised.of(genuine_and_impostor(embeddings, labels, metric, limit=_PAIRS), labels)


def _one_shot_change(reference: FloatReference, solved: NDArray[np.bool_]) -> Change:
    """The change of one-shot accuracy, paired over tasks and clustered by the identity of the query."""
    lead = solved.astype(np.float64) - reference.solved
    asked = reference.labels[reference.episodes.query]
    parts = np.bincount(asked, lead - lead.mean()) / len(lead)
    variance = float(np.square(parts).sum()) + 1.0 / len(reference.labels) ** 2
    people = len(np.unique(asked))
    return change(float(reference.solved.mean()), float(solved.mean()), variance, people)


def gate(kind: VariantKind, drift: Drift) -> str | None:
    """Check a variant's drift against its gates.

    Args:
        kind: The variant, whose row holds the gates of the cosine.
        drift: What was measured.

    Returns:
        Why the variant must not be shipped; None if it passes.
    """
    bounds = [(one.name, getattr(drift, f"cosine_{one.statistic}"), one.bound) for one in kind.gates]
    for name, measured, bound in bounds:
        if not measured >= bound:  # NaN fails as well
            where = f"on {drift.images} images, below {bound}{_worst(drift)}"
            return f"the {name} cosine to the float model is {measured:.4f} {where}"
    rates = {f"genuine accepts at a FAR of {rate}": found for rate, found in drift.tpr_at_fpr.items()}
    for name, found in (rates | {f"{drift.ways}-way one-shot tasks": drift.one_shot}).items():
        least, most = -found.interval[1], -found.interval[0]
        if least > MAX_LOSS:
            return f"it loses {least:.1%} to {most:.1%} of the {name}, more than {MAX_LOSS:.0%}{_worst(drift)}"
    return None


def _worst(drift: Drift) -> str:
    if not drift.layers:
        return ""
    worst = min(drift.layers, key=lambda layer: layer.sqnr_db)
    return f"; the layer that loses most is {worst.op} {worst.name} ({worst.sqnr_db:.0f} dB)"


def check_alive(reference: NDArray[np.float32], metric: Metric) -> None:
    """Refuse an encoder whose embeddings of different images do not differ.

    Args:
        reference: float32 (n, size), the embeddings of n different images.
        metric: How embeddings are compared.

    Raises:
        ModelError: ``zero_embedding`` or ``collapsed``.
    """
    if metric == "cosine" and not np.linalg.norm(reference, axis=1).all():
        message = "the model answers all zeros for some image, which has no direction to compare: train it anew"
        raise ModelError(message, reason="zero_embedding")
    units = unit(reference)
    count = len(units)
    # the mean over all ordered pairs of different rows, without their matrix
    alike = float((np.square(units.sum(axis=0)).sum() - np.square(units).sum()) / (count * (count - 1)))
    if not alike <= COLLAPSED[metric]:
        message = (
            f"the encoder has collapsed: the mean cosine between different images is {alike:.4f}, at most "
            f"{COLLAPSED[metric]} is accepted; train it anew, or give images that differ"
        )
        raise ModelError(message, reason="collapsed")


def nearest(embeddings: NDArray[np.float32], metric: Metric) -> NDArray[np.int64]:
    """The nearest other row of each row.

    Args:
        embeddings: float32 (n, size).
        metric: How rows are compared.

    Returns:
        int64 (n,), positions.
    """
    rows = unit(embeddings) if metric == "cosine" else embeddings.astype(np.float64)
    found = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        alike = rows[start : start + _ROWS_AT_ONCE] @ rows.T
        if metric == "euclidean":
            alike = 2 * alike - np.square(rows).sum(axis=1)  # minus the squared distance, up to a constant per row
        own = np.arange(len(alike))
        alike[own, start + own] = -np.inf
        found[start : start + _ROWS_AT_ONCE] = alike.argmax(axis=1)
    return found


def unit(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rows (n, d) scaled to length 1; a row of zeros stays as it is."""
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide / np.maximum(lengths, np.finfo(np.float64).tiny))

"""What an exported variant costs beside the float model: in embeddings, and in accepts and rejects of a door."""

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
"""Mean cosine between different images from which on every image looks the same, and every drift perfect.

Euclidean embeddings may lie far from the origin, so only those that hardly vary at all are refused.
"""

_EPISODES: Final = 4000
_WAYS: Final = 20
_PAIRS: Final = 1_000_000
_ROWS_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True, eq=False)
class FloatReference:
    """What the float model answers on held-out images: the measure of its variants.

    Attributes:
        embeddings: float32 (n, size); of length 1 for cosine.
        labels: int64 (n,), the identity of each, 0..people-1.
        metric: How they are compared.
        rates: Of all pairs.
        episodes: One-shot tasks over all identities.
        solved: bool (episodes,).
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
        """From what the float model answers, float32 (n, size), for images of these identities, integers (n,).

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

    Euclidean embeddings are compared as seen from the mean reference: a common offset has a
    cosine of its own. The rates are those of all pairs of images, at thresholds of their own.
    Differences are paired: what is hard for both encoders is in neither interval.

    Args:
        answered: float32 (n, size), the variant's embeddings of the images behind `reference`.
        reference: What the float model answers.
        layers: See `edge_oneshot_export.formats.layers.layer_errors`.
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
    """Paired over tasks, which cluster by the identity asked for; see `verification.rate_changes` for the rest."""
    lead = solved.astype(np.float64) - reference.solved
    asked = reference.labels[reference.episodes.query]
    parts = np.bincount(asked, lead - lead.mean()) / len(lead)
    variance = float(np.square(parts).sum()) + 1.0 / len(reference.labels) ** 2
    people = len(np.unique(asked))
    return change(float(reference.solved.mean()), float(solved.mean()), variance, people)


def gate(kind: VariantKind, drift: Drift) -> str | None:
    """Why a variant has drifted too far to be shipped, or None.

    Args:
        kind: The variant, whose row holds the bounds on the cosine.
        drift: What was measured.
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
    """Refuse an encoder that tells no images apart.

    Args:
        reference: float32 (n, size), what the Keras model answers for n different images.
        metric: How its embeddings are compared.

    Raises:
        ModelError: ``zero_embedding`` or ``collapsed``.
    """
    if metric == "cosine" and not np.linalg.norm(reference, axis=1).all():
        message = "the model answers all zeros for some image, which has no direction to compare: train it anew"
        raise ModelError(message, reason="zero_embedding")
    units = unit(reference)
    count = len(units)
    # the sum over all ordered pairs of different rows, without the matrix of them
    alike = float((np.square(units.sum(axis=0)).sum() - np.square(units).sum()) / (count * (count - 1)))
    if not alike <= COLLAPSED[metric]:
        message = (
            f"the encoder has collapsed: the mean cosine between different images is {alike:.4f}, at most "
            f"{COLLAPSED[metric]} is accepted; train it anew, or give images that differ"
        )
        raise ModelError(message, reason="collapsed")


def nearest(embeddings: NDArray[np.float32], metric: Metric) -> NDArray[np.int64]:
    """For each row of (n, size) the position of its nearest other row."""
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
    """Rows (n, d) of length 1; all zeros stay so."""
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide / np.maximum(lengths, np.finfo(np.float64).tiny))

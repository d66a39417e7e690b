"""Verification of given pairs by cross-validation: the threshold of each fold comes from all others."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.matching.decision import scores
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.judging.metrics import Scores, eer, tpr_at_fpr

_RATES: Final = {"1e-1": 1e-1, "1e-2": 1e-2, "1e-3": 1e-3}
_MIN_FALSE_ACCEPTS: Final = 3  # that a rate has to allow to be reported


@dataclass(frozen=True, slots=True, eq=False)
class FoldedPairs:
    """Pairs of images in folds, each of one person or of two.

    Attributes:
        images: uint8 (n, h, w, c), each image once.
        shown: bool (n,), which of them have content: a face that was found, say.
        faults: For each image with content the reason why the bundle's quality gate refuses it, or None.
        pairs: int64 (p, 2), positions of both images of each pair.
        same: bool (p,), whether both show the same person.
        folds: int64 (p,), the fold of each pair, from 0 on.
        people: How many different people they show.
    """

    images: NDArray[np.uint8]
    shown: NDArray[np.bool_]
    faults: tuple[str | None, ...]
    pairs: NDArray[np.int64]
    same: NDArray[np.bool_]
    folds: NDArray[np.int64]
    people: int


@dataclass(frozen=True, slots=True)
class GatedFolds:
    """The folds when photos that the quality gate refuses are failures to acquire.

    Attributes:
        accuracy: Mean over the folds; a pair with a refused photo counts as an error.
        accuracy_acquired: The mean without these pairs.
        standard_error: Standard error of `accuracy_acquired`.
        pairs_lost: Number of these pairs.
    """

    accuracy: float
    accuracy_acquired: float
    standard_error: float
    pairs_lost: int


@dataclass(frozen=True, slots=True)
class FoldsResult:
    """Verification of given pairs, as in LFW's protocol (Huang et al. 2007).

    Photos that the quality gate of a bundle for faces refuses are used all the same; `gated` leaves them out.

    Attributes:
        protocol: ``lfw``.
        accuracy: Mean over the folds; a pair with an image without content counts as an error.
        standard_error: Standard error of that mean.
        folds: Accuracy of each fold.
        accuracy_acquired: The mean without the pairs that lack content.
        eer: Equal error rate over all pairs; those that lack content are never accepted.
        tpr_at_fpr: Share of genuine pairs accepted at a false positive rate of at most the key, likewise.
        genuine, impostor: Number of pairs of each kind.
        people: Number of people in them.
        failures_to_acquire: Number of images without content.
        pairs_lost: Number of pairs that lack content.
        refused: How many images the bundle's quality gate refuses, by reason.
        gated: Where the gate refuses some.
        variant, runtime, fingerprint: The encoder that made the embeddings.
    """

    protocol: str
    accuracy: float
    standard_error: float
    folds: list[float]
    accuracy_acquired: float
    eer: float
    tpr_at_fpr: dict[str, float]
    genuine: int
    impostor: int
    people: int
    failures_to_acquire: int
    pairs_lost: int
    refused: dict[str, int]
    gated: GatedFolds | None
    variant: str
    runtime: str
    fingerprint: str


def evaluate_folds(
    encoder: Encoder, data: FoldedPairs, *, progress: Callable[[int], None] | None = None
) -> FoldsResult:
    """Accuracy of each fold at the threshold that is best on the other folds, and the standard error of their mean.

    Args:
        encoder: The variant on its runtime; it was trained on other people.
        data: The pairs.
        progress: Called with the number of images embedded so far.

    Returns:
        The accuracy and the error rates.

    Raises:
        ModelError: ``bad_protocol``: fewer than two folds; ``too_few_people``: the other folds of one, or all pairs,
            lack a kind of pair with content.
    """
    same, shown = data.same, data.shown
    if int(data.folds.max(initial=-1)) < 1:
        message = f"{int(data.folds.max(initial=-1)) + 1} folds: at least 2 are needed, the threshold is others'"
        raise ModelError(message, reason="bad_protocol")
    alike, acquired = _pair_scores(encoder, data, progress)
    shares, without = _fold_accuracies(alike, acquired, data)
    genuine, impostor = alike[same], alike[~same]
    refused = shown & np.array([fault is not None for fault in data.faults], bool)
    return FoldsResult(
        protocol="lfw",
        accuracy=float(np.mean(shares)),
        standard_error=_standard_error(shares),
        folds=shares,
        accuracy_acquired=float(np.mean(without)),
        eer=eer(genuine, impostor),
        tpr_at_fpr={
            name: tpr_at_fpr(genuine, impostor, rate)
            for name, rate in _RATES.items()
            if rate * len(impostor) >= _MIN_FALSE_ACCEPTS - 1e-9
        },
        genuine=len(genuine),
        impostor=len(impostor),
        people=data.people,
        failures_to_acquire=int((~shown).sum()),
        pairs_lost=int((~acquired).sum()),
        refused=dict(sorted(Counter(fault for fault in data.faults if fault is not None).items())),
        gated=_gated(alike, ~refused, acquired, data) if refused.any() else None,
        variant=encoder.variant,
        runtime=encoder.runtime,
        fingerprint=encoder.fingerprint,
    )


def _gated(alike: Scores, passed: NDArray[np.bool_], acquired: NDArray[np.bool_], data: FoldedPairs) -> GatedFolds:
    taken = acquired & np.logical_and(*passed[data.pairs].T)
    shares, without = _fold_accuracies(alike, taken, data)
    return GatedFolds(
        accuracy=float(np.mean(shares)),
        accuracy_acquired=float(np.mean(without)),
        standard_error=_standard_error(without),
        pairs_lost=int((~taken).sum()),
    )


def _standard_error(shares: list[float]) -> float:
    return float(np.std(shares, ddof=1) / np.sqrt(len(shares)))


def _pair_scores(
    encoder: Encoder, data: FoldedPairs, progress: Callable[[int], None] | None
) -> tuple[Scores, NDArray[np.bool_]]:
    """The score of each pair, minus infinity where an image has no content, and which pairs have content."""
    embeddings = np.zeros((len(data.images), encoder.embedding.size), np.float32)
    embeddings[data.shown] = encoder.embed_many(data.images[data.shown], progress)
    alike = np.full(len(data.pairs), -np.inf, np.float32)
    acquired: NDArray[np.bool_] = np.logical_and(*data.shown[data.pairs].T)
    for row in np.flatnonzero(acquired):
        one, other = data.pairs[row]
        alike[row] = scores(embeddings[one], embeddings[other : other + 1], encoder.embedding.metric)[0]
    return alike, acquired


def _fold_accuracies(alike: Scores, acquired: NDArray[np.bool_], data: FoldedPairs) -> tuple[list[float], list[float]]:
    """The accuracy of each fold, over all of its pairs and over those with content."""
    shares, without, same = [], [], data.same
    for fold in range(int(data.folds.max()) + 1):
        inside = data.folds == fold
        others = ~inside & acquired
        if not (same[others].any() and (~same[others]).any() and acquired[inside].any()):
            message = f"fold {fold + 1}: too few pairs have content to choose a threshold or to evaluate it"
            raise ModelError(f"{message}; give other photos", reason="too_few_people")
        threshold = best_threshold(alike[others & same], alike[others & ~same])
        right = ((alike >= threshold) == same) & acquired
        shares.append(float(right[inside].mean()))
        without.append(float(right[inside & acquired].mean()))
    return shares, without


def best_threshold(genuine: Scores, impostor: Scores) -> float:
    """The threshold that decides most pairs correctly; of several, the middle of the widest gap between scores.

    Args:
        genuine: float32 (g,), at least one.
        impostor: float32 (m,), at least one.

    Returns:
        The threshold.
    """
    values = np.unique(np.concatenate([genuine, impostor])).astype(np.float64)
    # between any two neighbours, and beyond both ends
    ends = np.concatenate([values[:1] - 2.0, values, values[-1:] + 2.0])
    places = (ends[1:] + ends[:-1]) / 2
    right = len(genuine) - np.searchsorted(np.sort(genuine), places) + np.searchsorted(np.sort(impostor), places)
    best = np.flatnonzero(right == right.max())
    return float(places[best[np.argmax(np.diff(ends)[best])]])

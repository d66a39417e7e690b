"""Verification of given pairs in folds: the threshold of each comes from all others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.matching.decision import scores
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.judging.cells import Integers
from edge_oneshot_export.judging.metrics import Scores, eer, tpr_at_fpr

_RATES: Final = {"1e-1": 1e-1, "1e-2": 1e-2, "1e-3": 1e-3}
_FEWEST: Final = 3  # false accepts that a rate has to allow, to be given


@dataclass(frozen=True, slots=True)
class FoldsResult:
    """Verification of given pairs, as in LFW's protocol (Huang et al. 2007).

    Attributes:
        protocol: ``lfw``.
        accuracy: Mean over the folds; a pair of which an image shows nothing counts as an error.
        standard_error: Of that mean.
        folds: Accuracy of each.
        accuracy_acquired: The mean without those pairs.
        eer: Equal error rate over all pairs; those of which an image shows nothing are never accepted.
        tpr_at_fpr: Likewise the share of genuine pairs accepted at a false positive rate of at most the key.
        genuine, impostor: Counts of pairs.
        people: Who are in them.
        failures_to_acquire: Images that show nothing.
        pairs_lost: Pairs that they are in.
        refused: How many images the bundle's quality gate would refuse, by reason; they are judged all the same.
        variant, runtime, fingerprint: What made the embeddings.
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
    variant: str
    runtime: str
    fingerprint: str


def evaluate_folds(
    encoder: Encoder,
    images: NDArray[np.uint8],
    shown: NDArray[np.bool_],
    pairs: Integers,
    same: NDArray[np.bool_],
    folds: Integers,
    *,
    people: int,
    refused: dict[str, int],
    progress: Callable[[int], None] | None = None,
) -> FoldsResult:
    """Accuracy at the threshold that is best on the other folds, with its standard error.

    Args:
        encoder: The variant on its runtime, which was trained on other people.
        images: uint8 (n, h, w, c).
        shown: bool (n,), which of them show something.
        pairs: Integers (p, 2), positions of the images of each.
        same: bool (p,), whether they show the same.
        folds: Integers (p,), from 0 on.
        people: For the result.
        refused: Likewise.
        progress: Called with the number of images embedded so far.

    Raises:
        ModelError: ``bad_protocol``: fewer than two folds; ``too_few_people``: all others of a fold, or all
            pairs, lack a kind of pair that shows something.
    """
    count = int(folds.max(initial=-1)) + 1
    if count < 2:
        raise ModelError(f"{count} folds: at least 2 are needed, the threshold is others'", reason="bad_protocol")
    embeddings = np.zeros((len(images), encoder.embedding.size), np.float32)
    embeddings[shown] = encoder.embed_many(images[shown], progress)
    alike = np.full(len(pairs), -np.inf, np.float32)
    acquired: NDArray[np.bool_] = np.logical_and(*shown[pairs].T)
    for row in np.flatnonzero(acquired):
        one, other = pairs[row]
        alike[row] = scores(embeddings[one], embeddings[other : other + 1], encoder.embedding.metric)[0]
    shares, without = [], []
    for fold in range(count):
        inside = folds == fold
        others = ~inside & acquired
        if not (same[others].any() and (~same[others]).any() and acquired[inside].any()):
            message = f"fold {fold + 1}: too few pairs show something to choose a threshold, or to judge it"
            raise ModelError(f"{message}; give other photos", reason="too_few_people")
        threshold = best_threshold(alike[others & same], alike[others & ~same])
        right = ((alike >= threshold) == same) & acquired
        shares.append(float(right[inside].mean()))
        without.append(float(right[inside & acquired].mean()))
    genuine, impostor = alike[same], alike[~same]
    return FoldsResult(
        protocol="lfw",
        accuracy=float(np.mean(shares)),
        standard_error=float(np.std(shares, ddof=1) / np.sqrt(count)),
        folds=shares,
        accuracy_acquired=float(np.mean(without)),
        eer=eer(genuine, impostor),
        tpr_at_fpr={
            name: tpr_at_fpr(genuine, impostor, rate)
            for name, rate in _RATES.items()
            if rate * len(impostor) >= _FEWEST - 1e-9
        },
        genuine=len(genuine),
        impostor=len(impostor),
        people=people,
        failures_to_acquire=int((~shown).sum()),
        pairs_lost=int((~acquired).sum()),
        refused=refused,
        variant=encoder.variant,
        runtime=encoder.runtime,
        fingerprint=encoder.fingerprint,
    )


def best_threshold(genuine: Scores, impostor: Scores) -> float:
    """The threshold that decides most pairs rightly; of several the middle of the widest gap between scores.

    Args:
        genuine: float32 (g,), at least one.
        impostor: float32 (m,), at least one.
    """
    values = np.unique(np.concatenate([genuine, impostor])).astype(np.float64)
    # between any two neighbours, and beyond both ends
    ends = np.concatenate([values[:1] - 2.0, values, values[-1:] + 2.0])
    places = (ends[1:] + ends[:-1]) / 2
    right = len(genuine) - np.searchsorted(np.sort(genuine), places) + np.searchsorted(np.sort(impostor), places)
    best = np.flatnonzero(right == right.max())
    return float(places[best[np.argmax(np.diff(ends)[best])]])

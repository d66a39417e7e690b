"""Error rates from scores, and their intervals. A comparison is accepted when its score is at least the threshold."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Roc:
    """Rates at each distinct score, from the strictest threshold to the most lenient.

    Attributes:
        thresholds: float32 (t,), falling; the first is above every score.
        far: float64 (t,), false accept rate, rising from 0 to 1.
        frr: float64 (t,), false reject rate, falling from 1 to 0.
    """

    thresholds: Scores
    far: NDArray[np.float64]
    frr: NDArray[np.float64]


def far_at(impostor: Scores, threshold: float) -> float:
    """The false accept rate: the share of impostor scores at or above a threshold.

    Args:
        impostor: float32 (m,), at least one.
        threshold: The threshold.

    Returns:
        The rate, 0..1.
    """
    return float(np.mean(impostor >= threshold))


def frr_at(genuine: Scores, threshold: float) -> float:
    """The false reject rate: the share of genuine scores below a threshold.

    Args:
        genuine: float32 (g,), at least one.
        threshold: The threshold.

    Returns:
        The rate, 0..1.
    """
    return float(np.mean(genuine < threshold))


def threshold_at(impostor: Scores, far: float) -> float:
    """The lowest threshold with at most a given false accept rate on these scores.

    Args:
        impostor: float32 (m,).
        far: The false accept rate, 0..1.

    Returns:
        The threshold.

    Raises:
        ValueError: There are no scores.
    """
    return thresholds_at(impostor, (far,))[0]


def thresholds_at(impostor: Scores, fars: Sequence[float], weights: Weights | None = None) -> list[float]:
    """`threshold_at` for several rates, with one sort.

    Args:
        impostor: float32 (m,).
        fars: The false accept rates, 0..1.
        weights: How many comparisons each score stands for, see `edge_oneshot_export.judging.protocols.Pairs`.

    Returns:
        A threshold for each rate.

    Raises:
        ValueError: There are no scores.
    """
    if not len(impostor):
        raise ValueError("no impostor scores")
    if weights is None:
        rising, allowed = np.sort(impostor), [int(far * len(impostor) + 1e-9) for far in fars]
    else:
        order = np.argsort(impostor)
        rising, accepted = impostor[order], np.cumsum(weights[order[::-1]])
        allowed = [int(np.searchsorted(accepted, far * accepted[-1] + 1e-9, side="right")) for far in fars]
    refused = [None if many >= len(rising) else rising[len(rising) - 1 - many] for many in allowed]
    return [
        float(rising[0] if score is None else np.nextafter(score, np.float32(np.inf), dtype=np.float32))
        for score in refused
    ]


def roc(genuine: Scores, impostor: Scores, weights: Weights | None = None) -> Roc:
    """The receiver operating characteristic.

    Args:
        genuine: float32 (g,), at least one.
        impostor: float32 (m,), at least one.
        weights: As `thresholds_at` takes them.

    Returns:
        The rates at each distinct score.
    """
    distinct = np.unique(np.concatenate([genuine, impostor]))[::-1]
    thresholds = np.concatenate([np.nextafter(distinct[:1], np.float32(np.inf)), distinct])
    rejected = np.searchsorted(np.sort(genuine), thresholds, side="left")
    if weights is None:
        far = 1.0 - np.searchsorted(np.sort(impostor), thresholds, side="left") / len(impostor)
    else:
        order = np.argsort(impostor)
        # summed from the top, where the weights are 1, so that rounding changes no small rate
        accepted = np.concatenate([[0.0], np.cumsum(weights[order[::-1]])])[::-1]
        far = accepted[np.searchsorted(impostor[order], thresholds, side="left")] / accepted[0]
    return Roc(thresholds, far, rejected / len(genuine))


def eer(genuine: Scores, impostor: Scores) -> float:
    """The equal error rate: where false accept rate and false reject rate cross, linear between thresholds.

    Args:
        genuine: float32 (g,), at least one.
        impostor: float32 (m,), at least one.

    Returns:
        The rate, 0..1.
    """
    curve = roc(genuine, impostor)
    return crossing(curve.far, curve.frr)


def crossing(far: NDArray[np.float64], frr: NDArray[np.float64]) -> float:
    """The rate at which a rising and a falling curve cross, linear between their points.

    Args:
        far: float64 (t,), rising.
        frr: float64 (t,), falling.

    Returns:
        The rate, 0..1.
    """
    lead = far - frr
    after = int(np.argmax(lead >= 0.0))
    if after == 0:
        return float((far[0] + frr[0]) / 2)
    before = after - 1
    share = -lead[before] / (lead[after] - lead[before])
    return float(far[before] + share * (far[after] - far[before]))


def tpr_at_fpr(genuine: Scores, impostor: Scores, fpr: float) -> float:
    """The share of genuine scores that are accepted at the lowest threshold with at most a given false positive rate.

    Args:
        genuine: float32 (g,), at least one.
        impostor: float32 (m,), at least one.
        fpr: The false positive rate, 0..1.

    Returns:
        The true positive rate, 0..1.
    """
    return 1.0 - frr_at(genuine, threshold_at(impostor, fpr))


def proportion_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a rate from independent trials (Wilson 1927).

    Args:
        successes: Number of trials that succeeded.
        trials: Number of trials.

    Returns:
        Both ends, 0..1.

    Raises:
        ValueError: No trials, or more successes than trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials have no interval")
    return wilson_interval(successes / trials, trials, NormalDist().inv_cdf(0.975))


def wilson_interval(rate: float, size: float, quantile: float) -> tuple[float, float]:
    """Wilson's interval (1927) of a rate.

    Args:
        rate: The measured rate, 0..1.
        size: Number of trials; an effective sample size may be fractional.
        quantile: Half the width in standard errors.

    Returns:
        Both ends, 0..1.
    """
    square = quantile**2 / size
    middle = (rate + square / 2) / (1 + square)
    reach = quantile / (1 + square) * math.sqrt(rate * (1 - rate) / size + square / (4 * size))
    # rounding must not exclude the rate itself
    return max(min(middle - reach, rate), 0.0), min(max(middle + reach, rate), 1.0)

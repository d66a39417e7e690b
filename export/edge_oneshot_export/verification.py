"""Error rates of verification with the intervals that people, not pairs, allow."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_export.bounds import far_bounds, rate_interval, supports
from edge_oneshot_export.cells import Integers
from edge_oneshot_export.metrics import Roc, Scores, crossing, roc
from edge_oneshot_export.protocols import Pairs

FALSE_POSITIVE_RATES: Final = {"1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}

_POINTS_A_DECADE: Final = 20
_DECADES: Final = 5


@dataclass(frozen=True, slots=True)
class RocPoint:
    """A point of the receiver operating characteristic.

    Attributes:
        far: False accept rate, 0..1.
        tpr: Share of genuine pairs accepted there.
        interval: 95 % interval of ``tpr`` at this rate.
    """

    far: float
    tpr: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class VerificationRates:
    """Rates over pairs of images; see `edge_oneshot_export.evaluation.VerificationResult`."""

    eer: float
    tpr_at_fpr: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    far_upper_95: dict[str, float | None]
    roc: tuple[RocPoint, ...]


def verification_rates(pairs: Pairs, labels: Integers, *, seed: int = 0) -> VerificationRates:
    """Error rates, their intervals over other people, and the curve.

    The variance of a rate is the sum over people of the square of what each adds to it, as a
    genuine and as an impostor (the linear jackknife for a mean over pairs, Arvesen 1969). A rate
    at a threshold that is itself estimated varies by the threshold's error as well: by the slope
    of the curve times that of the false accept rate (Bahadur 1966). The slope is the secant
    over one standard deviation to either side. Intervals are those of `rate_interval`; pairs
    share images, so there are no more independent trials than images.

    Args:
        pairs: At least one of each kind.
        labels: Integers (n,), the identity of each image, 0..people-1.
        seed: Draws the halvings of `far_bounds`.
    """
    people = int(labels.max()) + 1
    sides = labels[pairs.impostor_pairs]
    whole = roc(pairs.genuine, pairs.impostor)
    equal = crossing(whole.far, whole.frr)
    wanted = list(FALSE_POSITIVE_RATES.values())
    grid = np.logspace(-_DECADES, 0, _DECADES * _POINTS_A_DECADE + 1)
    # rounding must not take a point's last comparison from it
    places = np.searchsorted(whole.far, np.append(wanted, grid[grid * len(pairs.impostor) >= 1.0]) + 1e-12, "right") - 1
    drawn = np.unique(places[len(wanted) :])
    places = np.concatenate([[np.argmax(whole.far >= whole.frr)], places[: len(wanted)], drawn])
    genuine = _Parts.of(pairs.genuine, labels[pairs.genuine_pairs[:, :1]], people, whole.thresholds[places])
    impostor = _Parts.of(pairs.impostor, sides, people, whole.thresholds[places])
    slopes = _slopes(whole, impostor)
    variances = ((genuine.parts - slopes * impostor.parts) ** 2).sum(axis=0)
    # where both errors are equal, each moves the crossing by its share of the slope
    variances[0] /= (1.0 + slopes[0]) ** 2
    shown = len(np.unique(labels[pairs.genuine_pairs[:, 0]]))
    variances *= shown / max(shown - 1, 1)
    rates = np.append(equal, genuine.rates[1:])
    intervals = [
        rate_interval(float(rate), float(variance), shown, most=len(labels))
        for rate, variance in zip(rates, variances, strict=True)
    ]
    names = ("eer", *FALSE_POSITIVE_RATES)
    curve = slice(len(names), None)
    upper: dict[str, float | None] = dict.fromkeys(FALSE_POSITIVE_RATES)
    supported = {name: rate for name, rate in FALSE_POSITIVE_RATES.items() if supports(people, rate)}
    if supported:
        bounds = far_bounds(pairs.impostor, sides, list(supported.values()), np.random.default_rng(seed))
        upper.update((name, bound.upper_95) for name, bound in zip(supported, bounds, strict=True))
    return VerificationRates(
        eer=equal,
        tpr_at_fpr=dict(zip(names[1:], rates[1 : len(names)].tolist(), strict=True)),
        intervals=dict(zip(names, intervals[: len(names)], strict=True)),
        far_upper_95=upper,
        roc=tuple(
            RocPoint(float(far), float(tpr), interval)
            for far, tpr, interval in zip(impostor.rates[curve], rates[curve], intervals[curve], strict=True)
        ),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """Shares of scores accepted at thresholds, float64 (t,), and what each person adds to their error (people, t)."""

    rates: NDArray[np.float64]
    parts: NDArray[np.float64]

    @classmethod
    def of(cls, scores: Scores, sides: Integers, people: int, thresholds: Scores) -> "_Parts":
        """Of scores (m,) between people (m, 1 or 2), at thresholds (t,) in any order."""
        order = np.argsort(thresholds)
        bins = len(order) + 1
        place = np.searchsorted(thresholds[order], scores, side="right")
        counts = np.zeros(people * bins)
        for side in sides.T:
            counts += np.bincount(side * bins + place, minlength=people * bins)
        at_least = counts.reshape(people, bins)[:, ::-1].cumsum(axis=1)[:, ::-1]
        made, accepted = at_least[:, :1], np.empty((people, len(order)))
        accepted[:, order] = at_least[:, 1:]
        rates = accepted.sum(axis=0) / made.sum()
        return cls(rates, (accepted - rates * made) / len(scores))


def _slopes(whole: Roc, impostor: _Parts) -> NDArray[np.float64]:
    """How much the true positive rate changes with the false accept rate, where that was measured."""
    spread = np.sqrt((impostor.parts**2).sum(axis=0))
    low, high = np.maximum(impostor.rates - spread, 0.0), np.minimum(impostor.rates + spread, 1.0)
    tpr = np.interp(high, whole.far, 1.0 - whole.frr) - np.interp(low, whole.far, 1.0 - whole.frr)
    return np.asarray(tpr / np.maximum(high - low, 1e-12))

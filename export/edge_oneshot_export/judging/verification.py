"""Error rates of verification, with intervals that account for pairs that share people."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.drift_section import Change
from edge_oneshot_device.matching.support import supports
from edge_oneshot_export.judging.bounds import far_bounds, rate_interval
from edge_oneshot_export.judging.cells import Integers
from edge_oneshot_export.judging.metrics import Roc, Scores, Weights, crossing, roc
from edge_oneshot_export.judging.protocols import Pairs

FALSE_POSITIVE_RATES: Final = {"1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4, "1e-5": 1e-5}

_POINTS_A_DECADE: Final = 20
_DECADES: Final = 5


@dataclass(frozen=True, slots=True)
class RocPoint:
    """A point of the receiver operating characteristic.

    Attributes:
        far: False accept rate, 0..1.
        tpr: Share of genuine pairs that are accepted at this rate.
        interval: 95 % interval of ``tpr``.
    """

    far: float
    tpr: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class VerificationRates:
    """Error rates over pairs of images, named as in `edge_oneshot_export.judging.evaluation.VerificationResult`."""

    eer: float
    tpr_at_fpr: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    far_upper_95: dict[str, float | None]
    roc: tuple[RocPoint, ...]


def verification_rates(pairs: Pairs, labels: Integers, *, seed: int = 0) -> VerificationRates:
    """Error rates, their intervals over other people, and the ROC.

    The variance of a rate is the sum over people of the square of what each contributes to it, in genuine and in
    impostor pairs (the linear jackknife for a mean over pairs, Arvesen 1969). A rate at a threshold that is itself
    estimated varies with the error of the threshold as well: by the slope of the ROC times the error of the false
    accept rate (Bahadur 1966). The slope is the secant over one standard deviation to either side. Intervals are those
    of `rate_interval`. Pairs share images, so there are at most as many independent trials as images.

    Args:
        pairs: Scores of the pairs, at least one of each kind.
        labels: Integers (n,), the identity of each image, 0..people-1.
        seed: Random seed of the halvings of `far_bounds`.

    Returns:
        The rates.
    """
    people = int(labels.max()) + 1
    sides = labels[pairs.impostor_pairs]
    linear = Linearised.of(pairs, labels, curve=True)
    rates, far = linear.rates, linear.far
    variances = linear.variances(linear.parts)
    shown = linear.people
    intervals = [
        rate_interval(float(rate), float(variance), shown, most=len(labels))
        for rate, variance in zip(rates, variances, strict=True)
    ]
    names = ("eer", *FALSE_POSITIVE_RATES)
    curve = slice(len(names), None)
    equal = float(rates[0])
    upper: dict[str, float | None] = dict.fromkeys(FALSE_POSITIVE_RATES)
    supported = {name: rate for name, rate in FALSE_POSITIVE_RATES.items() if supports(people, rate)}
    if supported:
        rng = np.random.default_rng(seed)
        bounds = far_bounds(pairs.impostor, sides, list(supported.values()), rng, pairs.weights)
        upper.update((name, bound.upper_95) for name, bound in zip(supported, bounds, strict=True))
    return VerificationRates(
        eer=equal,
        tpr_at_fpr=dict(zip(names[1:], rates[1 : len(names)].tolist(), strict=True)),
        intervals=dict(zip(names, intervals[: len(names)], strict=True)),
        far_upper_95=upper,
        roc=tuple(
            RocPoint(float(far), float(tpr), interval)
            for far, tpr, interval in zip(far[curve], rates[curve], intervals[curve], strict=True)
        ),
    )


def rate_changes(reference: "Linearised", variant: "Linearised") -> dict[str, Change]:
    """The differences of the EER and of the rates at `FALSE_POSITIVE_RATES` between two encoders.

    The intervals are paired: the contributions of each person to both rates are subtracted before they are squared, so
    that what is hard for both encoders cancels (see `verification_rates`). Where no decision changed the variance would
    be 0, which is too small, so one changed image of each kind is added (Agresti and Min 2005).

    Args:
        reference: Rates of the float model.
        variant: Rates of the variant, on the same pairs of images.

    Returns:
        The change of ``eer`` and of each key of `FALSE_POSITIVE_RATES` that the people support.
    """
    variances = reference.variances(variant.parts - reference.parts) + 1.0 / reference.images**2
    named = zip(("eer", *FALSE_POSITIVE_RATES), reference.rates, variant.rates, variances, strict=True)
    return {
        name: change(float(before), float(after), float(variance), reference.people)
        for name, before, after, variance in named
        if name == "eer" or supports(len(reference.parts), FALSE_POSITIVE_RATES[name])
    }


def change(reference: float, variant: float, variance: float, people: int) -> Change:
    """The change of a rate with Student's 95 % interval.

    Args:
        reference: The rate of the float model, 0..1.
        variant: The rate of the variant.
        variance: Variance of the difference.
        people: Number of people that it comes from.

    Returns:
        The change.
    """
    from scipy.stats import t

    difference = variant - reference
    reach = float(t.ppf(0.975, max(people - 1, 1))) * math.sqrt(variance)
    interval = (max(difference - reach, -1.0), min(difference + reach, 1.0))
    return Change(reference=reference, variant=variant, difference=difference, interval=interval)


@dataclass(frozen=True, slots=True, eq=False)
class Linearised:
    """The EER, the rates at `FALSE_POSITIVE_RATES` and of an ROC, and what each person contributes to their error.

    Attributes:
        rates: float64 (r,).
        far: float64 (r,), the false accept rate at each.
        parts: float64 (people, r), the contributions.
        people: Number of people in genuine pairs.
        images: Number of images.
    """

    rates: NDArray[np.float64]
    far: NDArray[np.float64]
    parts: NDArray[np.float64]
    people: int
    images: int

    @classmethod
    def of(cls, pairs: Pairs, labels: Integers, *, curve: bool = False) -> "Linearised":
        """Linearise the rates of these pairs.

        Args:
            pairs: Scores of the pairs, at least one of each kind.
            labels: Integers (n,), the identity of each image, 0..people-1.
            curve: Whether the rates of an ROC are among them.

        Returns:
            The rates and the contributions.
        """
        people = int(labels.max()) + 1
        whole = roc(pairs.genuine, pairs.impostor, pairs.weights)
        wanted = list(FALSE_POSITIVE_RATES.values())
        grid = np.logspace(-_DECADES, 0, _DECADES * _POINTS_A_DECADE + 1) if curve else np.zeros(0)
        grid = np.append(wanted, grid[grid * pairs.impostors >= 1.0])
        # rounding must not lose the last comparison of a point
        places = np.searchsorted(whole.far, grid + 1e-12, "right") - 1
        drawn = np.unique(places[len(wanted) :])
        places = np.concatenate([[np.argmax(whole.far >= whole.frr)], places[: len(wanted)], drawn])
        thresholds = whole.thresholds[places]
        genuine = _Parts.of(pairs.genuine, labels[pairs.genuine_pairs[:, :1]], people, thresholds)
        impostor = _Parts.of(pairs.impostor, labels[pairs.impostor_pairs], people, thresholds, pairs.weights)
        slopes = _slopes(whole, impostor)
        parts = genuine.parts - slopes * impostor.parts
        # at the crossing both errors move the EER by their share of the slope; the EER rises as the TPR falls
        parts[:, 0] /= -(1.0 + slopes[0])
        rates = np.append(crossing(whole.far, whole.frr), genuine.rates[1:])
        return cls(rates, impostor.rates, parts, len(np.unique(labels[pairs.genuine_pairs[:, 0]])), len(labels))

    def variances(self, parts: NDArray[np.float64]) -> NDArray[np.float64]:
        """The variance (r,) of sums of contributions (people, r)."""
        return np.asarray(np.square(parts).sum(axis=0) * self.people / max(self.people - 1, 1))


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """The shares of scores accepted at thresholds (t,), and what each person contributes to their error (people, t)."""

    rates: NDArray[np.float64]
    parts: NDArray[np.float64]

    @classmethod
    def of(
        cls, scores: Scores, sides: Integers, people: int, thresholds: Scores, weights: Weights | None = None
    ) -> "_Parts":
        """From scores (m,) with weights (m,) between people (m, 1 or 2), at thresholds (t,) in any order."""
        order = np.argsort(thresholds)
        bins = len(order) + 1
        place = np.searchsorted(thresholds[order], scores, side="right")
        counts = np.zeros(people * bins)
        for side in sides.T:
            counts += np.bincount(side * bins + place, weights, minlength=people * bins)
        at_least = counts.reshape(people, bins)[:, ::-1].cumsum(axis=1)[:, ::-1]
        made, accepted = at_least[:, :1], np.empty((people, len(order)))
        accepted[:, order] = at_least[:, 1:]
        rates = accepted.sum(axis=0) / made.sum()
        return cls(rates, (accepted - rates * made) / (made.sum() / sides.shape[1]))


def _slopes(whole: Roc, impostor: _Parts) -> NDArray[np.float64]:
    """The slope of the true positive rate over the false accept rate, at the measured rates."""
    spread = np.sqrt((impostor.parts**2).sum(axis=0))
    low, high = np.maximum(impostor.rates - spread, 0.0), np.minimum(impostor.rates + spread, 1.0)
    tpr = np.interp(high, whole.far, 1.0 - whole.frr) - np.interp(low, whole.far, 1.0 - whole.frr)
    return np.asarray(tpr / np.maximum(high - low, 1e-12))

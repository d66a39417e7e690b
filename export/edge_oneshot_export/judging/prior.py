"""Combine the thresholds that a bundle has with those of a user's own people, so that a few people loosen none.

A few people say nothing of rare false accepts: four support no rate below 0.5. So for each target FAR the new threshold
is that of the bundle, at which the upper 95 % bound of its own people is the target, plus the lead of the user's
people. The lead says how much more alike they are than the bundle's people: the largest difference between both
thresholds at the targets that the user's people support, and at least 0.

Only people who are ample for a target, with ten times as many pairs as the rule of three asks for, make its threshold
looser: down to their own, at which the upper 95 % bound of their own rate is the target.

docs/experiments/calibration.md has what this keeps, and where it falls short.
"""

import math
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import numpy as np

from edge_oneshot_device.bundle.manifest import Calibration, Metric, OperatingPoint, Tail
from edge_oneshot_device.matching.support import supported_by
from edge_oneshot_device.matching.thresholds import highest_score, threshold_for
from edge_oneshot_export.judging.protocols import ROUNDING

AMPLE: Final = 10.0
"""How many times as many pairs of people as the rule of three asks for may loosen a threshold."""


def smallest_target(priors: Iterable[Calibration]) -> float:
    """The smallest target FAR that each of a bundle's calibrations has a threshold for; 1 without a calibration."""
    return max((prior.points[-1].target_far for prior in priors), default=1.0)


def combine(
    own: Calibration, prior: Calibration, metric: Metric, target_far: float, frr: Callable[[float], float]
) -> Calibration:
    """The calibration of a user's people with the bundle's as its prior.

    The module's docstring has the method. What the people do not support (thresholds, the tail below, the degree of
    similarity) stays the bundle's; the FRR is always that of the user's people.

    Args:
        own: Made from the user's people alone, with a point for each target of `prior` that they support.
        prior: The bundle's, of the same variant, rule and number of templates.
        metric: How embeddings are compared.
        target_far: The new default, which the people support or `prior` has a threshold for.
        frr: From a threshold to the false reject rate of the user's people.

    Returns:
        The calibration, provisional where the people do not support `target_far`.
    """
    raised = lead(own, prior, metric)
    targets = sorted({point.target_far for one in (own, prior) for point in one.points} | {target_far}, reverse=True)
    points: list[OperatingPoint] = []
    for target in targets:
        score, far, upper = _raised(prior, metric, target, raised)
        if supported_by(own, target / AMPLE):
            score, far, upper = min((score, far, upper), _bounded(own, metric, target))
        score = max([score, *(point.threshold for point in points)])
        points.append(OperatingPoint(target, score, far, upper, frr(score)))
    few = not supported_by(own, target_far)
    return msgspec.structs.replace(
        own,
        points=tuple(points),
        target_far=target_far,
        tail=_tail(own, prior, points[-1]),
        similarity=prior.similarity if few else own.similarity,
        provisional=few,
    )


def lead(own: Calibration, prior: Calibration, metric: Metric) -> float:
    """How much higher a user's people score with others than the bundle's do, at least 0.

    Args:
        own: Of the user's people.
        prior: Of the bundle's.
        metric: How embeddings are compared.

    Returns:
        The largest difference of thresholds at the targets that the user's people support, in units of the score.
    """
    largest = prior.points[0].target_far
    shared = [point for point in own.points if point.target_far <= largest and supported_by(own, point.target_far)]
    leads = [point.threshold - threshold_for(prior, metric, point.target_far).value for point in shared]
    return max([0.0, *leads])


def keep(prior: Calibration, metric: Metric, target_far: float, raised: float) -> Calibration:
    """A bundle's calibration for a number of templates that the user's images cannot give, raised by a lead.

    Args:
        prior: The bundle's.
        metric: How embeddings are compared.
        target_far: The new default, which `prior` has a threshold for.
        raised: How much higher the user's people score, see `lead`.

    Returns:
        The calibration, provisional. Its false reject rates are those of the bundle's people at the new thresholds.
    """
    known = [point.threshold for point in prior.points]
    points = []
    for target in sorted({target_far, *(point.target_far for point in prior.points)}, reverse=True):
        score, far, upper = _raised(prior, metric, target, raised)
        frr = float(np.interp(score, known, [point.frr for point in prior.points]))
        points.append(OperatingPoint(target, score, far, upper, frr))
    tail = msgspec.structs.replace(prior.tail, threshold=points[-1].threshold)
    return msgspec.structs.replace(prior, points=tuple(points), target_far=target_far, tail=tail, provisional=True)


def _raised(prior: Calibration, metric: Metric, target: float, raised: float) -> tuple[float, float, float]:
    """As `_bounded`, with the threshold raised, but no higher than a score can be."""
    score, far, upper = _bounded(prior, metric, target)
    return max(score, min(score + raised, highest_score(metric))), far, upper


def _bounded(calibration: Calibration, metric: Metric, target: float) -> tuple[float, float, float]:
    """The threshold at which the upper 95 % bound of the false accept rate is `target`; the rate there and its bound.

    Where a calibration does not reach so far, the strictest threshold that it has.
    """
    rising = calibration.points[::-1]
    rates = np.log([point.target_far for point in rising])
    bounds = np.maximum.accumulate(np.log([max(point.far_upper_95, point.target_far) for point in rising]))
    wanted = math.log(target)
    # below the smallest bound, the bound is the same multiple of the rate
    rate = math.exp(float(np.interp(wanted, bounds, rates)) + min(wanted - float(bounds[0]), 0.0))
    found = threshold_for(calibration, metric, rate)
    return found.value, found.kept_far, min(target * found.kept_far / rate, 1.0)


def _tail(own: Calibration, prior: Calibration, last: OperatingPoint) -> Tail:
    """The tail below the last point: at no rate looser than the bundle's, unless the user's people are ample for it."""
    # a generalized Pareto tail keeps its shape above any higher threshold
    tails = [
        (tail.shape, tail.scale + tail.shape * max(last.threshold - tail.threshold, 0.0) * (tail.far > last.target_far))
        for tail in (prior.tail, own.tail)
    ]
    if not supported_by(own, last.target_far):
        tails = tails[:1]
    elif supported_by(own, last.target_far / AMPLE):
        tails = tails[1:]
    shape, scale = (max(values) for values in zip(*tails, strict=True))
    least = ROUNDING * max(1.0, abs(last.threshold))
    return Tail(threshold=last.threshold, far=last.target_far, scale=max(scale, least), shape=shape)

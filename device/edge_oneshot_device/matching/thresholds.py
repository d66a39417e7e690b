"""The score that accepts: which one keeps a wanted false accept rate, and what a calibration cannot promise."""

import math
import sys
from typing import Final

import msgspec
import numpy as np

from edge_oneshot_device.bundle.manifest import Calibration, Manifest, Metric, OperatingPoint, Tail
from edge_oneshot_device.errors import InputError

MAX_TEMPLATES: Final = 5
"""Templates a person may have."""

LOOSE_FAR: Final = 0.01
"""A false accept rate of an attempt above which a door is said to be unfit: too many strangers get in."""

EXTRAPOLATED: Final = 10.0
"""Times below the smallest calibrated rate that the tail is trusted; docs/explanation/matching.md says why."""

_ROUNDING: Final = 1e-6  # below 1, that the cosine of equal vectors may come out; measured: 4.2e-7


class AcceptanceThreshold(msgspec.Struct, frozen=True):
    """A score to accept at or above, and what it keeps.

    Attributes:
        value: The score.
        provisional: Whether it rests on less data than it should.
        kept_far: The false accept rate of an attempt: the one wanted, or the smallest that can be promised.
        most_people: Up to how many people enrolled the wanted rate is kept; 0: not even for one.
    """

    value: float
    provisional: bool
    kept_far: float
    most_people: int


class Outlook(msgspec.Struct, frozen=True):
    """What a door does with so many people enrolled.

    Attributes:
        people: How many.
        target_far: The false accept rate that is wanted of an attempt in 1:N.
        kept_far, most_people, provisional: See `AcceptanceThreshold`.
        frr: Share of genuine comparisons below the threshold; where that is extrapolated, the least that it can be.
    """

    people: int
    target_far: float
    kept_far: float
    most_people: int
    provisional: bool
    frr: float


def calibration_for(manifest: Manifest, variant: str, templates: int, fewest: int | None = None) -> Calibration:
    """The calibration of the manifest's rule for persons with so many templates, on the safe side.

    The best of more templates scores higher, so for ``best`` it is that of the next count up from the most that
    anybody has. The mean of fewer templates varies more, so for ``mean`` it is that of the next count down
    from the fewest.

    Args:
        manifest: The bundle's.
        variant: Name of the variant.
        templates: The most that a person has.
        fewest: That a person has; None where all have `templates`.

    Raises:
        InputError: Reason ``too_many_templates`` above `MAX_TEMPLATES`, ``uncalibrated`` when
            the bundle has none for so many.
    """
    if templates > MAX_TEMPLATES:
        message = f"{templates} templates a person: at most {MAX_TEMPLATES} are possible"
        raise InputError(message, reason="too_many_templates")
    own = [c for c in manifest.calibration if c.variant == variant and c.rule == manifest.rule]
    enough = [c for c in own if c.templates >= templates]
    if enough and manifest.rule == "best":
        return min(enough, key=lambda c: c.templates)
    least = templates if fewest is None else fewest
    few = [c for c in own if c.templates <= least]
    if enough and few:
        return max(few, key=lambda c: c.templates)
    if enough:
        message = f"variant {variant} is calibrated for more than {least} templates a person: enrol further images"
    elif own:
        most = max(c.templates for c in own)
        message = f"variant {variant} is calibrated for at most {most} templates a person, {templates} are enrolled"
    else:
        message = f"variant {variant} of {manifest.name} is uncalibrated: export it with calibration images"
    raise InputError(message, reason="uncalibrated")


def highest_score(metric: Metric) -> float:
    """The score that equal images reach, whatever rounding does to it: no threshold lies above."""
    return 1.0 - _ROUNDING if metric == "cosine" else 0.0


def threshold_for(calibration: Calibration, metric: Metric, target_far: float, people: int = 1) -> AcceptanceThreshold:
    """The threshold that keeps the false accept rate of one attempt at `target_far`, as far as one can.

    In 1:N each person gets an equal share of the target: an attempt is compared with N people,
    so its false positive identification rate is at most N times the rate of one comparison.

    Between calibrated points the threshold is linear in the logarithm of the rate; above the
    largest it is that point's. Below the smallest it is extrapolated from the tail of the impostor
    scores, and provisional, down to a tenth of that rate (`EXTRAPOLATED`) and up to the highest score
    that there is. From there on it stays, and a smaller rate is not kept.

    Args:
        calibration: Operating points and tail.
        metric: How embeddings are compared.
        target_far: Wanted rate, above 0 and below 1.
        people: Persons in the gallery, at least 1.

    Raises:
        InputError: Reason ``bad_target_far``.
    """
    if not 0.0 < target_far < 1.0:
        raise InputError(f"target FAR {target_far}: must be above 0 and below 1", reason="bad_target_far")
    if people < 1:
        raise ValueError(f"people {people}: must be at least 1")
    highest = highest_score(metric)
    points = [point for point in calibration.points if point.threshold <= highest]
    if not points:  # others score as high as equal images do: then nobody is let in
        strictest = calibration.points[-1]
        return AcceptanceThreshold(
            strictest.threshold, True, min(max(target_far, people * strictest.target_far), 1.0), 0
        )
    smallest, least = points[-1].target_far, _smallest_rate(calibration, points, highest)
    share = target_far / people
    wanted = max(share, least)
    if wanted < smallest:
        # held inside: rounding must not lift it above what can be reached
        value = max(points[-1].threshold, min(_tail_threshold(calibration.tail, wanted), highest))
    else:
        value = _between_points(points, wanted)
    most = int(min(target_far / least * (1 + 1e-9), sys.maxsize))
    return AcceptanceThreshold(
        value=value,
        provisional=calibration.provisional or share < smallest,
        kept_far=target_far if people <= most else min(people * least, 1.0),
        most_people=most,
    )


def outlook(calibration: Calibration, metric: Metric, target_far: float, people: int) -> Outlook:
    """What a door does with so many people enrolled; arguments and errors as of `threshold_for`."""
    threshold = threshold_for(calibration, metric, target_far, max(people, 1))
    thresholds = [point.threshold for point in calibration.points]
    return Outlook(
        people=people,
        target_far=target_far,
        kept_far=threshold.kept_far,
        most_people=threshold.most_people,
        provisional=threshold.provisional,
        frr=float(np.interp(threshold.value, thresholds, [point.frr for point in calibration.points])),
    )


def similarity(calibration: Calibration, score: float) -> float:
    """Degree of similarity, 0..1: the posterior, at equal priors, that both show the same."""
    return float(np.interp(score, calibration.similarity.scores, calibration.similarity.degrees))


def likeness(calibration: Calibration, metric: Metric, score: float) -> float:
    """A score, or a threshold, on a scale for people: 0 to 100, the same whatever the metric.

    100 is what the very same image reaches; 0 is a score that the loosest calibrated threshold, which many strangers
    pass, lets through at best. It rises with the score, so that it decides as the score does.
    """
    least, most = calibration.points[0].threshold, highest_score(metric)
    if least >= most:
        return 100.0 if score >= most else 0.0
    return min(max(100.0 * (score - least) / (most - least), 0.0), 100.0)


def _smallest_rate(calibration: Calibration, points: list[OperatingPoint], highest: float) -> float:
    """The smallest false accept rate of a comparison that can be promised.

    Args:
        calibration: Its tail counts.
        points: Those that can be reached. Where one cannot, what lies between it and the one before is unknown.
        highest: The highest threshold.
    """
    smallest = points[-1].target_far
    if len(points) < len(calibration.points):
        return smallest
    return min(smallest, max(smallest / EXTRAPOLATED, _tail_rate(calibration.tail, highest)))


def _between_points(points: list[OperatingPoint], wanted: float) -> float:
    """Threshold at `wanted`, at or above the smallest calibrated rate."""
    right = points[0]
    if wanted >= right.target_far:
        return right.threshold
    for left in points[1:]:
        if wanted >= left.target_far:
            break
        right = left
    share = math.log(wanted / right.target_far) / math.log(left.target_far / right.target_far)
    # held inside: rounding must not lift it above the next point
    return min(right.threshold + share * (left.threshold - right.threshold), left.threshold)


def _tail_threshold(tail: Tail, wanted: float) -> float:
    """Score at which the generalized Pareto tail reaches `wanted`; its start for larger rates."""
    depth = math.log(tail.far) - math.log(wanted)
    if depth <= 0.0:
        return tail.threshold
    if abs(tail.shape) < 1e-12:
        return tail.threshold + tail.scale * depth
    # a heavy tail far out leaves the range of a float: then no score is high enough
    excess = math.expm1(min(tail.shape * depth, 600.0)) / tail.shape
    return min(tail.threshold + tail.scale * excess, sys.float_info.max)


def _tail_rate(tail: Tail, score: float) -> float:
    """The rate that the generalized Pareto tail has at a score, the inverse of `_tail_threshold`."""
    excess = max((score - tail.threshold) / tail.scale, 0.0)
    if abs(tail.shape) < 1e-12:
        return tail.far * math.exp(-excess)
    if tail.shape * excess <= -1.0:
        return 0.0  # beyond the end of a bounded tail
    return tail.far * math.exp(-math.log1p(tail.shape * excess) / tail.shape)

"""Thresholds: the score that keeps a target false accept rate, and how far a calibration supports it."""

import math
import sys
from typing import Final

import msgspec
import numpy as np

from edge_oneshot_device.bundle.manifest import Calibration, Manifest, Metric, OperatingPoint, Tail
from edge_oneshot_device.errors import InputError

MAX_TEMPLATES: Final = 5
"""Most templates that a person may have."""

LOOSE_FAR: Final = 0.01
"""A false accept rate of an attempt above which a door is reported as unfit: too many strangers get in."""

EXTRAPOLATED: Final = 10.0
"""Factor below the smallest calibrated rate to which the tail is trusted; docs/explanation/matching.md says why."""

_ROUNDING: Final = 1e-6  # how far below 1 the cosine of equal vectors may be; measured: 4.2e-7


class AcceptanceThreshold(msgspec.Struct, frozen=True):
    """The score from which a probe is accepted, and the false accept rate that it keeps.

    Attributes:
        value: The score.
        provisional: Whether it rests on less data than it should.
        kept_far: The false accept rate of an attempt: the target, or the smallest rate that the calibration supports.
        most_people: Up to how many people enrolled the target is kept; 0: not even for one.
    """

    value: float
    provisional: bool
    kept_far: float
    most_people: int


class Outlook(msgspec.Struct, frozen=True):
    """The error rates that a door has with so many people enrolled.

    Attributes:
        people: Number of people enrolled.
        target_far: Target false accept rate of an attempt in 1:N.
        kept_far, most_people, provisional: See `AcceptanceThreshold`.
        frr: Share of genuine comparisons below the threshold; a lower bound where the threshold is extrapolated.
    """

    people: int
    target_far: float
    kept_far: float
    most_people: int
    provisional: bool
    frr: float


def calibration_for(manifest: Manifest, variant: str, templates: int, fewest: int | None = None) -> Calibration:
    """The calibration of the manifest's rule for people with so many templates; the stricter one between two counts.

    The best of more templates scores higher, so the rule ``best`` takes the next calibrated count at or above the most
    templates of a person. The mean of fewer templates varies more, so the rule ``mean`` takes the next calibrated
    count at or below the fewest.

    Args:
        manifest: The bundle's manifest.
        variant: Name of the variant.
        templates: The most templates that a person has.
        fewest: The fewest templates that a person has; None when all have `templates`.

    Raises:
        InputError: Reason ``too_many_templates`` above `MAX_TEMPLATES`, ``uncalibrated`` when
            the bundle has no calibration for so many.
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
    """The score that equal images reach in spite of rounding: no threshold lies above it."""
    return 1.0 - _ROUNDING if metric == "cosine" else 0.0


def threshold_for(calibration: Calibration, metric: Metric, target_far: float, people: int = 1) -> AcceptanceThreshold:
    """The threshold that keeps the false accept rate of one attempt at `target_far`, or as near as is supported.

    In 1:N each person gets an equal share of the target: an attempt is compared with N people,
    so its false positive identification rate is at most N times the rate of one comparison.

    Between calibrated points the threshold is linear in the logarithm of the rate; above the largest rate it is the
    threshold of that point. Below the smallest rate it is extrapolated from the tail of the impostor scores, and
    provisional, down to a tenth of that rate (`EXTRAPOLATED`) and up to the highest possible score. Beyond that
    the threshold stays the same, and a smaller target is not kept.

    Args:
        calibration: Operating points and tail.
        metric: How embeddings are compared.
        target_far: Target rate of the attempt, above 0 and below 1.
        people: Number of people in the gallery, at least 1.

    Raises:
        InputError: Reason ``bad_target_far``.
    """
    if not 0.0 < target_far < 1.0:
        raise InputError(f"target FAR {target_far}: must be above 0 and below 1", reason="bad_target_far")
    if people < 1:
        raise ValueError(f"people {people}: must be at least 1")
    highest = highest_score(metric)
    points = [point for point in calibration.points if point.threshold <= highest]
    if not points:  # impostors score as high as equal images do: then nobody is accepted
        strictest = calibration.points[-1]
        return AcceptanceThreshold(
            strictest.threshold, True, min(max(target_far, people * strictest.target_far), 1.0), 0
        )
    smallest, least = points[-1].target_far, _smallest_rate(calibration, points, highest)
    share = target_far / people
    wanted = max(share, least)
    if wanted < smallest:
        # clipped: rounding must not lift it above the highest score
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
    """The error rates with so many people enrolled.

    Args:
        calibration: Operating points and tail.
        metric: How embeddings are compared.
        target_far: Target rate of an attempt, above 0 and below 1.
        people: Number of people in the gallery; 0 counts as 1.

    Raises:
        InputError: Reason ``bad_target_far``.
    """
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
    """Degree of similarity, 0..1: the posterior probability, at equal priors, that both images show the same person.

    Args:
        calibration: Has the map from scores to degrees.
        score: As `decision.join` computes it.
    """
    return float(np.interp(score, calibration.similarity.scores, calibration.similarity.degrees))


def likeness(calibration: Calibration, metric: Metric, score: float) -> float:
    """A score or a threshold on a scale for people, 0 to 100, which does not depend on the metric.

    100 is the score of the very same image; 0 is the loosest calibrated threshold, which many strangers pass, and any
    score below. The scale rises with the score.

    Args:
        calibration: Its first operating point is the loosest.
        metric: How embeddings are compared.
        score: A score or a threshold.
    """
    least, most = calibration.points[0].threshold, highest_score(metric)
    if least >= most:
        return 100.0 if score >= most else 0.0
    return min(max(100.0 * (score - least) / (most - least), 0.0), 100.0)


def _smallest_rate(calibration: Calibration, points: list[OperatingPoint], highest: float) -> float:
    """The smallest false accept rate of a comparison that the calibration supports.

    Args:
        calibration: Has the tail of the impostor scores.
        points: The operating points whose thresholds can be reached. When some cannot, the rates below are unknown.
        highest: The highest possible threshold.
    """
    smallest = points[-1].target_far
    if len(points) < len(calibration.points):
        return smallest
    return min(smallest, max(smallest / EXTRAPOLATED, _tail_rate(calibration.tail, highest)))


def _between_points(points: list[OperatingPoint], wanted: float) -> float:
    """Threshold at the rate `wanted`, which is at or above the smallest calibrated rate."""
    right = points[0]
    if wanted >= right.target_far:
        return right.threshold
    for left in points[1:]:
        if wanted >= left.target_far:
            break
        right = left
    share = math.log(wanted / right.target_far) / math.log(left.target_far / right.target_far)
    # clipped: rounding must not lift it above the next point
    return min(right.threshold + share * (left.threshold - right.threshold), left.threshold)


def _tail_threshold(tail: Tail, wanted: float) -> float:
    """Score at which the generalized Pareto tail reaches `wanted`; its start for larger rates."""
    depth = math.log(tail.far) - math.log(wanted)
    if depth <= 0.0:
        return tail.threshold
    if abs(tail.shape) < 1e-12:
        return tail.threshold + tail.scale * depth
    # a heavy tail can exceed the range of a float: then no score is high enough
    exceedance = math.expm1(min(tail.shape * depth, 600.0)) / tail.shape
    return min(tail.threshold + tail.scale * exceedance, sys.float_info.max)


def _tail_rate(tail: Tail, score: float) -> float:
    """The rate of the generalized Pareto tail at a score: the inverse of `_tail_threshold`."""
    exceedance = max((score - tail.threshold) / tail.scale, 0.0)
    if abs(tail.shape) < 1e-12:
        return tail.far * math.exp(-exceedance)
    if tail.shape * exceedance <= -1.0:
        return 0.0  # beyond the end of a bounded tail
    return tail.far * math.exp(-math.log1p(tail.shape * exceedance) / tail.shape)

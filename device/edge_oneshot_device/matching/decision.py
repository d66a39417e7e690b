"""Scores, thresholds and decisions: the one place where a probe is compared with templates."""

import math
import sys
from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Calibration, Manifest, Metric, Rule, Tail
from edge_oneshot_device.errors import InputError, MachineError

MAX_TEMPLATES: Final = 5
"""Templates a person may have."""


class Origin(Protocol):
    """What makes embeddings; `edge_oneshot_device.Encoder` is one."""

    @property
    def variant(self) -> str:
        """Name of the variant in its bundle."""

    @property
    def runtime(self) -> str:
        """Name of the runtime that runs it."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the variant."""


class Threshold(msgspec.Struct, frozen=True):
    """A score to accept at or above, and whether it rests on less data than it should."""

    value: float
    provisional: bool


class Candidate(msgspec.Struct, frozen=True):
    """Somebody whom a probe may show, and how well it fits."""

    person: str
    score: float


class Decision(msgspec.Struct, frozen=True):
    """The answer to a probe.

    Attributes:
        person: Who was accepted, or None.
        accepted: Whether anybody was.
        score: The best score; None when there was nothing to compare with.
        similarity: The degree of similarity, 0..1, that belongs to the score.
        threshold: What the score was held against; in 1:N the one for the people enrolled.
        target_far: The false accept rate that is wanted of one attempt.
        runner_up: In 1:N, the best other person.
        reason: ``match``, ``below_threshold``, ``ambiguous`` or ``empty_gallery``; ``not_yet_valid``, ``expired`` or
            ``outside_hours``; ``delayed``, ``disabled`` or ``rate_limited``; ``audit_unavailable``.
        provisional: True when the threshold rests on less data than it should.
        variant, runtime, fingerprint: What made the embeddings.
        candidate: The best match where it was not accepted for another reason than its score.
        retry_after: Seconds until the next attempt is looked at, after too many.
        fault: Why the decision could not be recorded, one line.
    """

    person: str | None
    accepted: bool
    score: float | None
    similarity: float | None
    threshold: float
    target_far: float
    runner_up: Candidate | None
    reason: str
    provisional: bool
    variant: str
    runtime: str
    fingerprint: str
    candidate: Candidate | None = None
    retry_after: float | None = None
    fault: str | None = None


def scores(probe: NDArray[np.float32], templates: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """Score of a probe against each template; higher is more alike.

    Args:
        probe: float32 (d,); for ``cosine`` of unit length.
        templates: float32 (n, d); for ``cosine`` of unit length.
        metric: ``cosine``: the cosine, -1..1; ``euclidean``: the negative distance, at most 0.

    Returns:
        float32 (n,), always finite.

    Raises:
        MachineError: A score is no finite number, because an embedding is none.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if metric == "cosine":
            result = templates @ probe
        else:
            difference = templates - probe
            result = -np.sqrt(np.einsum("ij,ij->i", difference, difference))
    if not np.isfinite(result).all():
        message = "a score is no finite number: the model or its runtime is at fault; check it with inspect and bench"
        raise MachineError(message, reason="not_finite")
    if metric == "cosine":
        # rounding lifts the cosine of equal vectors just above 1
        np.minimum(result, 1.0, out=result)
        np.maximum(result, -1.0, out=result)
    return result


def join(
    template_scores: NDArray[np.float32], owners: NDArray[np.integer[Any]], people: int, rule: Rule = "best"
) -> NDArray[np.float32]:
    """Score of each person from the scores of their templates.

    Args:
        template_scores: float32 (n,).
        owners: Integers (n,): the person, 0..people-1, that each template belongs to.
        people: How many persons there are.
        rule: ``best``: the highest score of the person's templates; ``mean``: their mean.

    Returns:
        float32 (people,); minus infinity for a person without a template.
    """
    joined = np.full(people, -np.inf, dtype=np.float32)
    if rule == "best":
        np.maximum.at(joined, owners, template_scores)
        return joined
    counts = np.bincount(owners, minlength=people)
    sums = np.bincount(owners, weights=template_scores, minlength=people)
    np.divide(sums, counts, out=joined, where=counts > 0, casting="same_kind")
    return joined


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


def threshold_for(calibration: Calibration, target_far: float, people: int = 1) -> Threshold:
    """The threshold that keeps the false accept rate of one attempt at `target_far`.

    In 1:N each person gets an equal share of the target: an attempt is compared with N people,
    so its false positive identification rate is at most N times the rate of one comparison.

    Between calibrated points the threshold is linear in the logarithm of the rate; above the
    largest it is that point's. Below the smallest that the data supports it is extrapolated
    from the tail of the impostor scores, and provisional.

    Args:
        calibration: Operating points and tail.
        target_far: Wanted rate, above 0 and below 1.
        people: Persons in the gallery, at least 1.

    Raises:
        InputError: Reason ``bad_target_far``.
    """
    if not 0.0 < target_far < 1.0:
        raise InputError(f"target FAR {target_far}: must be above 0 and below 1", reason="bad_target_far")
    if people < 1:
        raise ValueError(f"people {people}: must be at least 1")
    wanted = max(target_far / people, sys.float_info.min)
    if wanted < calibration.target_far:
        floor = calibration.points[-1].threshold
        return Threshold(max(floor, _tail_threshold(calibration.tail, wanted)), provisional=True)
    return Threshold(_between_points(calibration, wanted), provisional=calibration.provisional)


def similarity(calibration: Calibration, score: float) -> float:
    """Degree of similarity, 0..1: the posterior, at equal priors, that both show the same."""
    return float(np.interp(score, calibration.similarity.scores, calibration.similarity.degrees))


def decide_verify(person: str, score: float, calibration: Calibration, target_far: float, origin: Origin) -> Decision:
    """Decide 1:1 whether the probe shows `person`, whose templates gave `score`."""
    threshold = threshold_for(calibration, target_far)
    accepted = score >= threshold.value
    return Decision(
        person=person if accepted else None,
        accepted=accepted,
        score=score,
        similarity=similarity(calibration, score),
        threshold=threshold.value,
        target_far=target_far,
        runner_up=None,
        reason="match" if accepted else "below_threshold",
        provisional=threshold.provisional,
        variant=origin.variant,
        runtime=origin.runtime,
        fingerprint=origin.fingerprint,
    )


def decide_identify(
    names: Sequence[str],
    person_scores: NDArray[np.float32],
    calibration: Calibration,
    target_far: float,
    origin: Origin,
) -> Decision:
    """Decide 1:N who the probe shows, if anybody: `decide_among` the best two.

    Args:
        names: The persons enrolled.
        person_scores: float32 (len(names),), as `join` returns them.
        calibration: That of the largest count of templates among them.
        target_far: Wanted false accept rate of the attempt.
        origin: What made the embeddings.
    """
    found = [Candidate(names[index], float(person_scores[index])) for index in best_two(person_scores)]
    first, second, *_ = [*found, None, None]
    return decide_among(first, second, len(names), calibration, target_far, origin)


def decide_among(
    best: Candidate | None,
    runner_up: Candidate | None,
    people: int,
    calibration: Calibration,
    target_far: float,
    origin: Origin,
) -> Decision:
    """Decide 1:N who the probe shows, from the best two of everybody enrolled.

    The best person is accepted when the score clears the threshold for so many people and
    leads the best other person by `calibration.margin`; a tie is always ambiguous.

    Args:
        best: None when nobody is enrolled.
        runner_up: The best other person; None when there is none.
        people: How many are enrolled.
        calibration: That of the largest count of templates among them.
        target_far: Wanted false accept rate of the attempt.
        origin: What made the embeddings.
    """
    threshold = threshold_for(calibration, target_far, max(people, 1))
    reason = "empty_gallery"
    if best is not None:
        lead = math.inf if runner_up is None else best.score - runner_up.score
        if best.score < threshold.value:
            reason = "below_threshold"
        elif lead < calibration.margin or lead == 0.0:
            reason = "ambiguous"
        else:
            reason = "match"
    accepted = best is not None and reason == "match"
    return Decision(
        person=best.person if best is not None and accepted else None,
        accepted=accepted,
        score=None if best is None else best.score,
        similarity=None if best is None else similarity(calibration, best.score),
        threshold=threshold.value,
        target_far=target_far,
        runner_up=runner_up,
        reason=reason,
        provisional=threshold.provisional,
        variant=origin.variant,
        runtime=origin.runtime,
        fingerprint=origin.fingerprint,
    )


def best_two(person_scores: NDArray[np.float32]) -> list[int]:
    """Indices of the best and of the second best of float32 (people,); fewer where there are fewer."""
    if len(person_scores) == 0:
        return []
    best = int(person_scores.argmax())
    if len(person_scores) == 1:
        return [best]
    others = person_scores.copy()
    others[best] = -np.inf
    return [best, int(others.argmax())]


def _between_points(calibration: Calibration, wanted: float) -> float:
    """Threshold at `wanted`, at or above the smallest supported rate."""
    right = calibration.points[0]
    if wanted >= right.target_far:
        return right.threshold
    for left in calibration.points[1:]:
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

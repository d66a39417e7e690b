"""Scores and decisions: the one place where a probe is compared with templates."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Calibration, EmbeddingSection, Metric, Rule
from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.matching.thresholds import likeness, similarity, threshold_for


class EmbeddingSource(Protocol):
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

    @property
    def embedding(self) -> EmbeddingSection:
        """How embeddings are compared."""


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
        kept_far: The one that is kept: more than `target_far` where the calibration promises no smaller one for so
            many people.
        runner_up: In 1:N, the best other person.
        reason: ``match``, ``below_threshold``, ``ambiguous`` or ``empty_gallery``; ``not_yet_valid``, ``expired``,
            ``outside_hours`` or ``unknown_zone``; ``delayed``, ``disabled`` or ``rate_limited``; ``audit_unavailable``.
        provisional: True when the threshold rests on less data than it should.
        variant, runtime, fingerprint: What made the embeddings.
        candidate: The best match where it was not accepted for another reason than its score.
        retry_after: Seconds until the next attempt is looked at, after too many.
        fault: Why the decision could not be recorded, one line.
        likeness: The score on a scale from 0 to 100, see `thresholds.likeness`; None without a score.
        likeness_needed: The threshold on that scale.
        likeness_of_runner_up: The runner-up's score on that scale.
    """

    person: str | None
    accepted: bool
    score: float | None
    similarity: float | None
    threshold: float
    target_far: float
    kept_far: float
    runner_up: Candidate | None
    reason: str
    provisional: bool
    variant: str
    runtime: str
    fingerprint: str
    candidate: Candidate | None = None
    retry_after: float | None = None
    fault: str | None = None
    likeness: float | None = None
    likeness_needed: float | None = None
    likeness_of_runner_up: float | None = None


class PublicDecision(msgspec.Struct, frozen=True):
    """What whoever presents an image may read of a `Decision`: nothing by which a rejected image could be improved.

    Attributes:
        person, accepted, reason, target_far, kept_far, provisional, retry_after, fault: See `Decision`.
    """

    person: str | None
    accepted: bool
    reason: str
    target_far: float
    kept_far: float
    provisional: bool
    retry_after: float | None
    fault: str | None

    @classmethod
    def of(cls, decision: Decision) -> "PublicDecision":
        """The answer to a decision."""
        return cls(*(getattr(decision, name) for name in cls.__struct_fields__))


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


def decide_verify(
    person: str, score: float, calibration: Calibration, target_far: float, origin: EmbeddingSource
) -> Decision:
    """Decide 1:1 whether the probe shows `person`, whose templates gave `score`."""
    threshold = threshold_for(calibration, origin.embedding.metric, target_far)
    accepted = score >= threshold.value
    return Decision(
        person=person if accepted else None,
        accepted=accepted,
        score=score,
        similarity=similarity(calibration, score),
        threshold=threshold.value,
        target_far=target_far,
        kept_far=threshold.kept_far,
        runner_up=None,
        reason="match" if accepted else "below_threshold",
        provisional=threshold.provisional,
        variant=origin.variant,
        runtime=origin.runtime,
        fingerprint=origin.fingerprint,
        likeness=likeness(calibration, origin.embedding.metric, score),
        likeness_needed=likeness(calibration, origin.embedding.metric, threshold.value),
    )


def decide_identify(
    names: Sequence[str],
    person_scores: NDArray[np.float32],
    calibration: Calibration,
    target_far: float,
    origin: EmbeddingSource,
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
    origin: EmbeddingSource,
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
    metric = origin.embedding.metric
    threshold = threshold_for(calibration, metric, target_far, max(people, 1))
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
        kept_far=threshold.kept_far,
        runner_up=runner_up,
        reason=reason,
        provisional=threshold.provisional,
        variant=origin.variant,
        runtime=origin.runtime,
        fingerprint=origin.fingerprint,
        likeness=None if best is None else likeness(calibration, metric, best.score),
        likeness_needed=likeness(calibration, metric, threshold.value),
        likeness_of_runner_up=None if runner_up is None else likeness(calibration, metric, runner_up.score),
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

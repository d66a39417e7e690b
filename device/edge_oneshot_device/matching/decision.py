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
    """What made the embeddings of a decision; `edge_oneshot_device.Encoder` is one."""

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
    """A person whom the probe may show, and their score."""

    person: str
    score: float


class Decision(msgspec.Struct, frozen=True):
    """The result of comparing a probe with enrolled templates.

    Attributes:
        person: Name of the accepted person; None when nobody was accepted.
        accepted: Whether a person was accepted.
        score: The best score; None when there was no template to compare with.
        similarity: The degree of similarity for this score, 0..1.
        threshold: The score from which the probe is accepted; in 1:N it depends on the number of people enrolled.
        target_far: The target false accept rate of one attempt.
        kept_far: The false accept rate that the threshold keeps. It exceeds `target_far` where the calibration supports
            no smaller rate for so many people.
        runner_up: In 1:N, the best other person.
        reason: ``match``, ``below_threshold``, ``ambiguous`` or ``empty_gallery``; ``not_yet_valid``, ``expired``,
            ``outside_hours`` or ``unknown_zone``; ``delayed``, ``disabled`` or ``rate_limited``; ``audit_unavailable``.
        provisional: Whether the threshold rests on less data than it should.
        variant, runtime, fingerprint: Of the encoder.
        candidate: The best match, when it was rejected for another reason than its score.
        retry_after: Seconds until another attempt is allowed, when there were too many.
        fault: Why the decision could not be recorded, in one line.
        likeness: The score on a scale from 0 to 100, see `thresholds.likeness`; None without a score.
        likeness_needed: The threshold on the same scale.
        likeness_of_runner_up: The runner-up's score on the same scale.
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
    """The part of a `Decision` that the person at the door may read: nothing that helps to improve a rejected image.

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
        """The public part of a decision."""
        return cls(*(getattr(decision, name) for name in cls.__struct_fields__))


def scores(probe: NDArray[np.float32], templates: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """Score of a probe against each template; a higher score means more alike.

    Args:
        probe: float32 (d,); for ``cosine`` of unit length.
        templates: float32 (n, d); for ``cosine`` of unit length.
        metric: ``cosine``: the score is the cosine, -1..1; ``euclidean``: the negative distance, at most 0.

    Returns:
        float32 (n,), always finite.

    Raises:
        MachineError: ``not_finite``: a score is NaN or infinite, because an embedding is.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if metric == "cosine":
            result = templates @ probe
        else:
            difference = templates - probe
            result = -np.sqrt(np.einsum("ij,ij->i", difference, difference))
    if not np.isfinite(result).all():
        message = "a score is NaN or infinite: the model or its runtime is at fault; check it with inspect and bench"
        raise MachineError(message, reason="not_finite")
    if metric == "cosine":
        # rounding can lift the cosine of equal vectors just above 1
        np.minimum(result, 1.0, out=result)
        np.maximum(result, -1.0, out=result)
    return result


def join(
    template_scores: NDArray[np.float32], owners: NDArray[np.integer[Any]], people: int, rule: Rule = "best"
) -> NDArray[np.float32]:
    """Score of each person from the scores of their templates.

    Args:
        template_scores: float32 (n,).
        owners: Integers (n,): the person of each template, 0..people-1.
        people: Number of persons.
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
    """Decide 1:1 whether the probe shows a person.

    Args:
        person: Name of the claimed person.
        score: The person's score, as `join` returns it.
        calibration: That of the person's count of templates.
        target_far: Target false accept rate, above 0 and below 1.
        origin: The encoder that made the embeddings.

    Raises:
        InputError: ``bad_target_far``.
    """
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
    """Decide 1:N who the probe shows, from the scores of all people enrolled.

    Args:
        names: Names of the people enrolled.
        person_scores: float32 (len(names),), as `join` returns them.
        calibration: That of the largest count of templates among them.
        target_far: Target false accept rate of the attempt, above 0 and below 1.
        origin: The encoder that made the embeddings.

    Raises:
        InputError: ``bad_target_far``.
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
    """Decide 1:N who the probe shows, from the best two of the people enrolled.

    The best person is accepted when the score reaches the threshold for so many people and leads the runner-up by at
    least `calibration.margin`; a tie is always ambiguous.

    Args:
        best: The person with the highest score; None when nobody is enrolled.
        runner_up: The person with the second highest score; None when there is none.
        people: Number of people enrolled.
        calibration: That of the largest count of templates among them.
        target_far: Target false accept rate of the attempt, above 0 and below 1.
        origin: The encoder that made the embeddings.

    Raises:
        InputError: ``bad_target_far``.
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
    """Indices of the highest and the second highest score.

    Args:
        person_scores: float32 (people,).

    Returns:
        Two indices, or as many as there are people.
    """
    if len(person_scores) == 0:
        return []
    best = int(person_scores.argmax())
    if len(person_scores) == 1:
        return [best]
    others = person_scores.copy()
    others[best] = -np.inf
    return [best, int(others.argmax())]

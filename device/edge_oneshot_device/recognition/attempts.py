"""An attempt at the door: decided and recorded in one transaction, with its row of the audit trail.

A decision that cannot be recorded accepts nobody; it says who would have been accepted (`candidate`).
"""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from edge_oneshot_device.bundle.manifest import Calibration
from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.gallery import audit, limits
from edge_oneshot_device.gallery.access import refuse_access
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.limits import Limits, Refusal
from edge_oneshot_device.gallery.people import PersonDetails
from edge_oneshot_device.gallery.template_cache import TemplateCache
from edge_oneshot_device.gallery.transaction import ChangedError, ReserveReleasedError, Transaction, with_reserve
from edge_oneshot_device.matching.decision import Candidate, Decision, EmbeddingSource, decide_among, decide_verify
from edge_oneshot_device.matching.thresholds import threshold_for


class Comparison(msgspec.Struct, frozen=True):
    """A probe compared with the templates in memory.

    Attributes:
        best: Number and score of the person it fits best; in 1:1 of the claimed person. None: nobody is enrolled, or
            the attempt was refused.
        runner_up: In 1:N, number and score of the best other person.
        people: How many people it was compared with.
        calibration: Of the threshold.
        target_far: Wanted false accept rate.
        origin: What made the probe.
    """

    best: tuple[int, float] | None
    runner_up: tuple[int, float] | None
    people: int
    calibration: Calibration
    target_far: float
    origin: EmbeddingSource


class Attempt(msgspec.Struct, frozen=True, eq=False):
    """An attempt that is to be decided.

    Attributes:
        act: What it is in the audit trail: 1:N or 1:1.
        comparison: The probe compared.
        cache: The templates that it was compared with.
        limits: How often one may try; None: there is no limit.
        refusal: Why the probe was not compared; None: it was.
    """

    act: Literal["identify", "verify"]
    comparison: Comparison
    cache: TemplateCache
    limits: Limits | None
    refusal: Refusal | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What is to be recorded of an attempt.

    Attributes:
        decision: The answer.
        person: Number of the person in the audit row.
        matched: Whether the score was good enough, at whatever hour; None: the attempt was refused.
    """

    decision: Decision
    person: int | None
    matched: bool | None


def decide_and_record(gallery: Gallery, attempt: Attempt) -> Decision:
    """Decide an attempt and record it, in one transaction.

    Args:
        gallery: Where it is recorded.
        attempt: What was compared.

    Returns:
        The decision. Where it cannot be recorded: a rejection with the reason ``audit_unavailable``.

    Raises:
        ChangedError: The gallery is no longer what the probe was compared with: compare again.
        IntegrityError: The gallery is damaged, or of another encoder.
        MachineError: The gallery can neither be written nor read.
    """
    decision: Decision | None = None
    for _ in range(2):  # once more where the disk was full, and the reserve has made room
        try:
            with gallery.writing() as transaction:
                verdict = decide(transaction, attempt)
                decision = verdict.decision
                record(transaction, attempt, verdict)
            return decision
        except ChangedError:
            raise
        except MachineError as error:
            fault = str(error)
            if not isinstance(error, ReserveReleasedError):
                break
    if decision is None:  # where a commit failed it is not: the file may not even be readable then
        with gallery.reading() as transaction:
            decision = decide(transaction, attempt).decision
    rejected = _reject(decision, "audit_unavailable")
    return msgspec.structs.replace(rejected, reason="audit_unavailable", retry_after=None, fault=fault)


@with_reserve
def _record_rejection(gallery: Gallery, attempt: Attempt, decision: Decision) -> None:
    best = attempt.comparison.best
    person = best[0] if attempt.act == "verify" and best is not None else None
    with gallery.writing() as transaction:
        _append(transaction, attempt.act, person, decision)


def reject_changing(gallery: Gallery, attempt: Attempt) -> Decision:
    """The rejection of an attempt during which the gallery changed at every try; recorded where that is possible.

    Args:
        gallery: Where it is recorded.
        attempt: What was compared.
    """
    error = ChangedError(gallery.path)
    rejected = msgspec.structs.replace(_refused(attempt.comparison, Refusal(error.reason, None)), fault=str(error))
    with suppress(MachineError):
        _record_rejection(gallery, attempt, rejected)
    return rejected


def decide(transaction: Transaction, attempt: Attempt) -> Verdict:
    """Decide an attempt; nothing is written.

    Args:
        transaction: It is only read.
        attempt: What was compared.

    Raises:
        ChangedError: The gallery is no longer what the probe was compared with.
        IntegrityError: The gallery is damaged, or of another encoder.
    """
    return (_decide_identification if attempt.act == "identify" else _decide_verification)(transaction, attempt)


def record(transaction: Transaction, attempt: Attempt, verdict: Verdict) -> None:
    """Write what follows from a verdict: the counters of the limits, and the row of the audit trail.

    Args:
        transaction: A transaction that writes.
        attempt: What was decided.
        verdict: How.
    """
    refused = verdict.matched is None
    if attempt.limits is not None and attempt.act == "identify":
        limits.restart_minute(transaction, attempt.limits)
        if not refused and not verdict.decision.accepted:
            limits.count_rejection(transaction, attempt.limits)
    elif attempt.limits is not None and verdict.person is not None:
        limits.restart_delay(transaction, attempt.limits, verdict.person)
        if verdict.matched is not None:
            limits.count_verification(transaction, verdict.person, accepted=verdict.matched)
    _append(transaction, attempt.act, verdict.person, verdict.decision)


def _decide_identification(transaction: Transaction, attempt: Attempt) -> Verdict:
    compared, refusal = attempt.comparison, attempt.refusal
    if attempt.limits is not None:
        refusal = limits.refuse_identification(transaction, attempt.limits) or refusal
    if refusal is not None:
        return Verdict(_refused(compared, refusal), None, None)
    attempt.cache.require_current(transaction)
    matches = [match for match in (compared.best, compared.runner_up) if match is not None]
    people = [attempt.cache.require_person(transaction, number) for number, _ in matches]
    candidates = [Candidate(one.name, score) for one, (_, score) in zip(people, matches, strict=True)]
    best, runner_up, *_ = [*candidates, None, None]
    decision = decide_among(
        best, runner_up, compared.people, compared.calibration, compared.target_far, compared.origin
    )
    matched = decision.accepted
    if compared.best is None:
        return Verdict(decision, None, matched)
    number = compared.best[0]
    decision = _within_hours(transaction, people[0], decision)
    if attempt.limits is not None and limits.is_disabled(transaction, attempt.limits, number):
        decision = _reject(decision, "disabled")
    return Verdict(decision, number if decision.accepted else None, matched)


def _decide_verification(transaction: Transaction, attempt: Attempt) -> Verdict:
    compared, refusal = attempt.comparison, attempt.refusal
    assert compared.best is not None
    number, score = compared.best
    if attempt.limits is not None:
        refusal = limits.refuse_verification(transaction, attempt.limits, number) or refusal
    attempt.cache.require_current(transaction)
    if refusal is not None:
        return Verdict(_refused(compared, refusal), number, None)
    details = attempt.cache.require_person(transaction, number)
    decision = decide_verify(details.name, score, compared.calibration, compared.target_far, compared.origin)
    return Verdict(_within_hours(transaction, details, decision), number, decision.accepted)


def refuse_now(transaction: Transaction, details: PersonDetails) -> str | None:
    """Why a person may not come in now, as `refuse_access` says; None where they may.

    Args:
        transaction: It is only read.
        details: Of the person.
    """
    now = transaction.clock.now()
    # a clock that was set back lets nobody in whose time is over
    newest = max(now, datetime.fromtimestamp(audit.newest(transaction).at / 1e6, UTC))
    return refuse_access(details.access, now) or refuse_access(details.access, newest)


def _within_hours(transaction: Transaction, details: PersonDetails, decision: Decision) -> Decision:
    """The decision, or a rejection because the person may not come in now."""
    reason = refuse_now(transaction, details)
    return decision if reason is None else _reject(decision, reason)


def _reject(decision: Decision, reason: str) -> Decision:
    """An acceptance turned into a rejection for another reason than the score; a rejection stays as it is."""
    if decision.person is None or decision.score is None:
        return decision
    candidate = Candidate(decision.person, decision.score)
    return msgspec.structs.replace(decision, person=None, accepted=False, reason=reason, candidate=candidate)


def _refused(compared: Comparison, refusal: Refusal) -> Decision:
    """The rejection of an attempt that was refused."""
    origin = compared.origin
    threshold = threshold_for(
        compared.calibration, origin.embedding.metric, compared.target_far, max(compared.people, 1)
    )
    return Decision(
        person=None,
        accepted=False,
        score=None,
        similarity=None,
        threshold=threshold.value,
        target_far=compared.target_far,
        kept_far=threshold.kept_far,
        runner_up=None,
        reason=refusal.reason,
        provisional=threshold.provisional,
        variant=origin.variant,
        runtime=origin.runtime,
        fingerprint=origin.fingerprint,
        retry_after=refusal.retry_after,
    )


def _append(transaction: Transaction, act: str, person: int | None, decision: Decision) -> None:
    detail: dict[str, Any] = {
        "accepted": decision.accepted,
        "reason": decision.reason,
        "score": decision.score,
        "threshold": decision.threshold,
        "variant": decision.variant,
        "runtime": decision.runtime,
        "fingerprint": decision.fingerprint,
    }
    audit.append(transaction, act, person, detail)

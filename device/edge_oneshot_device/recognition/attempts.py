"""An attempt at the door: the decision, the limits, the hours and the record, in one transaction.

What cannot be recorded is not accepted: then the decision says whom it would have been.
"""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from edge_oneshot_device.bundle.manifest import Calibration
from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.gallery import limits
from edge_oneshot_device.gallery.access import refuse_access
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.limits import Limits, Refusal
from edge_oneshot_device.gallery.mirror import TRIES, ChangedError, changing
from edge_oneshot_device.gallery.people import Record
from edge_oneshot_device.matching.decision import (
    Candidate,
    Decision,
    EmbeddingSource,
    decide_among,
    decide_verify,
)
from edge_oneshot_device.matching.thresholds import threshold_for


class Comparison(msgspec.Struct, frozen=True):
    """A probe compared with the gallery.

    Attributes:
        best: Number and score of the person it fits best; in 1:1 of the one claimed. None: nobody is enrolled.
        runner_up: In 1:N, of the best other person.
        people: How many it was compared with.
        calibration, target_far, origin: What decides.
    """

    best: tuple[int, float] | None
    runner_up: tuple[int, float] | None
    people: int
    calibration: Calibration
    target_far: float
    origin: EmbeddingSource


Work = Callable[[sqlite3.Connection, bool], Decision]
"""`identification` or `verification` of a comparison: a connection in a transaction, and whether that one writes."""


def settle(gallery: Gallery, work: Work) -> Decision:
    """The decision of `work`, recorded; where that fails, a rejection with the reason ``audit_unavailable``.

    Args:
        gallery: Where it is recorded.
        work: What decides.
    """
    decided: list[Decision] = []

    def recorded(connection: sqlite3.Connection) -> Decision:
        decided.append(work(connection, True))
        return decided[-1]

    try:
        return gallery.change(recorded)
    except MachineError as error:
        # what a failed commit leaves has to be rolled back before anybody can read, and the disk may not allow that
        seen = decided[-1] if decided else gallery.read(lambda connection: work(connection, False))
        fault = str(error)
    rejected = _reject(seen, "audit_unavailable")
    return msgspec.structs.replace(rejected, reason="audit_unavailable", retry_after=None, fault=fault)


def settle_at_last(gallery: Gallery, act: str, attempt: Callable[[], tuple[Comparison, Work]]) -> Decision:
    """The decision of an attempt, begun anew where the gallery changed meanwhile, `TRIES` times at most.

    After that it is a rejection with the reason ``gallery_changing``, recorded if possible.

    Args:
        gallery: Where it is recorded.
        act: ``identify`` or ``verify``.
        attempt: Compares the probe anew; returns that, and what `settle` takes. May raise `ChangedError` itself.

    Raises:
        MachineError: Reason ``gallery_changing``, where nothing could be compared.
    """
    found: Comparison | None = None
    for _ in range(TRIES):
        with suppress(ChangedError):
            found, work = attempt()
            return settle(gallery, work)
    error = changing(gallery.path)
    if found is None:
        raise error
    rejected = msgspec.structs.replace(_refused(found, Refusal(error.reason, None)), fault=str(error))
    number = found.best[0] if act == "verify" and found.best is not None else None
    with suppress(MachineError):
        gallery.change(lambda connection: _write(gallery, connection, act, number, rejected))
    return rejected


def identification(
    gallery: Gallery,
    found: Comparison,
    wait: Refusal | None,
    limit: Limits | None,
    connection: sqlite3.Connection,
    write: bool,
) -> Decision:
    """Decide 1:N.

    Args:
        gallery: Who is enrolled.
        found: The probe compared with it.
        wait: Why it was not compared, if so.
        limit: How often one may try.
        connection: In a transaction.
        write: Whether that one writes.

    Raises:
        ChangedError: The gallery is no longer the one that was compared with.
    """
    refusal = wait
    if limit is not None:
        refusal = limits.refuse_identification(connection, limit, gallery.clock, renew=write) or wait
    if refusal is not None:
        decision, number = _refused(found, refusal), None
    else:
        decision, number = _among(gallery, found, connection)
        if limit is not None and number is not None and limits.is_disabled(connection, limit, number):
            decision = _reject(decision, "disabled")
    if write:
        if limit is not None and refusal is None and not decision.accepted:
            limits.note_rejection(connection, limit, gallery.clock)
        _write(gallery, connection, "identify", number if decision.accepted else None, decision)
    return decision


def verification(
    gallery: Gallery,
    found: Comparison,
    wait: Refusal | None,
    limit: Limits | None,
    connection: sqlite3.Connection,
    write: bool,
) -> Decision:
    """Decide 1:1 whether it is the person of `found.best`; arguments as of `identification`.

    Raises:
        ChangedError: The gallery is no longer the one that was compared with.
    """
    assert found.best is not None
    number, score = found.best
    refusal = wait
    if limit is not None:
        refusal = limits.refuse_verification(connection, limit, gallery.clock, number, renew=write) or wait
    if not gallery.is_current(connection):
        raise ChangedError
    if refusal is not None:
        decision = _refused(found, refusal)
    else:
        if not gallery.agrees(connection, number):
            raise ChangedError
        record = _record(gallery, connection, number)
        decision = decide_verify(record.name, score, found.calibration, found.target_far, found.origin)
        if write and limit is not None:
            limits.note_verification(connection, gallery.clock, number, accepted=decision.accepted)
        decision = _within_hours(gallery, connection, record, decision)
    if write:
        _write(gallery, connection, "verify", number, decision)
    return decision


def _among(gallery: Gallery, found: Comparison, connection: sqlite3.Connection) -> tuple[Decision, int | None]:
    """The decision among everybody, and the best one's number."""
    if not gallery.is_current(connection):
        raise ChangedError
    if found.best is None:
        return decide_among(None, None, 0, found.calibration, found.target_far, found.origin), None
    number, score = found.best
    if not gallery.agrees(connection, number):
        raise ChangedError
    record = _record(gallery, connection, number)
    runner_up = None
    if found.runner_up is not None:
        runner_up = Candidate(_record(gallery, connection, found.runner_up[0]).name, found.runner_up[1])
    best = Candidate(record.name, score)
    decision = decide_among(best, runner_up, found.people, found.calibration, found.target_far, found.origin)
    return _within_hours(gallery, connection, record, decision), number


def _record(gallery: Gallery, connection: sqlite3.Connection, number: int) -> Record:
    record = gallery.record_of(connection, number)
    if record is None:
        gallery.read_anew()  # of whoever is forgotten there is a row, which the mirror would have followed
        raise ChangedError
    return record


def _within_hours(gallery: Gallery, connection: sqlite3.Connection, record: Record, decision: Decision) -> Decision:
    """The decision, or a rejection because the person may not come in now."""
    now = gallery.clock.now()
    # a clock that was set back lets nobody in whose time is over
    newest = max(now, datetime.fromtimestamp(gallery.newest(connection).at / 1e6, UTC))
    reason = refuse_access(record.access, now) or refuse_access(record.access, newest)
    return decision if reason is None else _reject(decision, reason)


def _reject(decision: Decision, reason: str) -> Decision:
    """A rejection of whom the decision accepts, for another reason than the score; a rejection as it is."""
    if decision.person is None or decision.score is None:
        return decision
    candidate = Candidate(decision.person, decision.score)
    return msgspec.structs.replace(decision, person=None, accepted=False, reason=reason, candidate=candidate)


def _refused(found: Comparison, refusal: Refusal) -> Decision:
    """A rejection of an attempt that is not looked at."""
    threshold = threshold_for(found.calibration, found.origin.embedding.metric, found.target_far, max(found.people, 1))
    return Decision(
        person=None,
        accepted=False,
        score=None,
        similarity=None,
        threshold=threshold.value,
        target_far=found.target_far,
        kept_far=threshold.kept_far,
        runner_up=None,
        reason=refusal.reason,
        provisional=threshold.provisional,
        variant=found.origin.variant,
        runtime=found.origin.runtime,
        fingerprint=found.origin.fingerprint,
        retry_after=refusal.retry_after,
    )


def _write(gallery: Gallery, connection: sqlite3.Connection, act: str, number: int | None, decision: Decision) -> None:
    detail: dict[str, Any] = {
        "accepted": decision.accepted,
        "reason": decision.reason,
        "score": decision.score,
        "threshold": decision.threshold,
        "variant": decision.variant,
        "runtime": decision.runtime,
        "fingerprint": decision.fingerprint,
    }
    gallery.append_audit(connection, act, number, detail)

"""Challenges at the door: each counts as a rejection of 1:N until it is passed, and is recorded with its end.

So one that is failed, or broken off, stays counted. While the door has to wait there is no challenge.
"""

from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.gallery import audit, limits
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.limits import Limits, Refusal
from edge_oneshot_device.gallery.transaction import with_reserve
from edge_oneshot_device.liveness.challenge import Challenge
from edge_oneshot_device.liveness.watcher import Liveness, Watcher


def draw(gallery: Gallery, encoder: Encoder, least_score: float, limit: Limits | None) -> Watcher | Refusal:
    """A challenge, and what follows a face through it; or why the door has to wait.

    Args:
        gallery: Keeps the count and the audit trail.
        encoder: Of a bundle with a face part.
        least_score: See `Watcher`.
        limit: How often one may try; None: there is no limit.

    Raises:
        InputError: Reason ``no_faces``.
        IntegrityError: The gallery is damaged.
        MachineError: The disk does not allow it.
    """
    counted: list[int] = []
    watcher = Watcher(encoder, Challenge.draw(), least_score, lambda found: _record_end(gallery, found, counted))
    begun = _record_beginning(gallery, limit)
    if isinstance(begun, Refusal):
        return begun
    counted += begun
    return watcher


@with_reserve
def _record_beginning(gallery: Gallery, limit: Limits | None) -> list[int] | Refusal:
    """Count a challenge; returns the numbers that it is counted under, or why there is none now."""
    counted: list[int] = []
    with gallery.writing() as transaction:
        refusal = None
        if limit is not None:
            refusal = limits.refuse_identification(transaction, limit)
            limits.restart_minute(transaction, limit)
            if refusal is None:
                counted.append(limits.count_rejection(transaction, limit))
        reason = "begun" if refusal is None else refusal.reason
        audit.append(transaction, "challenge", None, {"passed": False, "reason": reason})
    return refusal or counted


@with_reserve
def _record_end(gallery: Gallery, found: Liveness, counted: list[int]) -> None:
    """Record how a challenge ended; one that was passed counts no longer."""
    with gallery.writing() as transaction:
        for number in counted if found.passed else ():
            limits.uncount_rejection(transaction, number)
        detail = {"passed": found.passed, "reason": found.reason, "action": found.action}
        audit.append(transaction, "challenge", None, detail)

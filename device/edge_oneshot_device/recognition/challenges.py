"""Challenges at the door: none while it has to wait, each counted as a rejection of 1:N until it has passed.

So whoever breaks one off, or whose frames stop, has used it up like whoever fails it.
"""

import sqlite3

from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.gallery import limits
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.limits import Limits, Refusal
from edge_oneshot_device.liveness.challenge import Challenge
from edge_oneshot_device.liveness.watcher import Liveness, Watcher


def draw(gallery: Gallery, encoder: Encoder, least_score: float, limit: Limits | None) -> Watcher | Refusal:
    """A challenge, and what follows a face through it; or why the door has to wait. Each is recorded, with its end.

    Args:
        gallery: Keeps the count and the record.
        encoder: Of a bundle with a face part.
        least_score: See `Watcher`.
        limit: How often one may try; None: as often as one likes.

    Raises:
        InputError: Reason ``no_faces``.
        IntegrityError: The gallery is damaged.
        MachineError: The disk does not allow it.
    """
    counted: list[int] = []

    def begin(connection: sqlite3.Connection) -> Refusal | None:
        counted.clear()
        refusal = None
        if limit is not None:
            refusal = limits.refuse_identification(connection, limit, gallery.clock, renew=True)
            if refusal is None:
                counted.append(limits.note_rejection(connection, limit, gallery.clock))
        reason = "begun" if refusal is None else refusal.reason
        gallery.append_audit(connection, "challenge", None, {"passed": False, "reason": reason})
        return refusal

    def end(found: Liveness) -> None:
        def work(connection: sqlite3.Connection) -> None:
            for number in counted if found.passed else ():
                limits.take_back(connection, number)
            detail = {"passed": found.passed, "reason": found.reason, "action": found.action}
            gallery.append_audit(connection, "challenge", None, detail)

        gallery.change(work)

    watcher = Watcher(encoder, Challenge.draw(), least_score, end)
    return gallery.change(begin) or watcher

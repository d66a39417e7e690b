"""What must hold of a door whatever failed: what the lock did, what is recorded, and what was told agree.

The lock's openings are those of the relay, with the stamps of the guard that set it. Rows of the audit trail have the
date of this machine, so that an opening can be held against the row that has to come before it.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from edge_oneshot_device.door.events import is_event
from edge_oneshot_device.gallery.audit import Row
from tests.campaigns.faulty_doors.rig import Missed, Rig
from tests.device.door.board import Change

SLACK: Final = 1.0
"""Seconds beyond a pulse that the guard may be kept from running by what else the machine does."""

_OPEN: Final = ("unlocked", "held")
_EXIT: Final = "exit_pressed"


class Opening(NamedTuple):
    """The relay's opening.

    Attributes:
        begins, ends: By the monotonic clock; `ends` is None while it lasts.
    """

    begins: float
    ends: float | None


class _Reason(NamedTuple):
    """What an opening is due to: when it was, by the monotonic clock, and how many seconds it may last."""

    at: float
    lasts: float


class Verdict(NamedTuple):
    """What was found.

    Attributes:
        faults: What must not be.
        facts: Counts since the rig began.
        times: The most seconds that an opening lasted longer than its pulse (``beyond the pulse``), that it came after
            its row (``row to lock``), and that a start worked.
    """

    faults: list[str]
    facts: dict[str, int]
    times: dict[str, float]


def openings_of(changes: Sequence[Change]) -> list[Opening]:
    """The openings among what a relay was set to."""
    found: list[Opening] = []
    begins = None
    for change in changes:
        if change.level and begins is None:
            begins = change.at
        elif not change.level and begins is not None:
            found.append(Opening(begins, change.at))
            begins = None
    return found if begins is None else [*found, Opening(begins, None)]


def judge(rig: Rig, *, dated: bool = True) -> Verdict:
    """Hold lock, audit trail and events of a rig against each other, from its beginning; the lock has to be at rest.

    Args:
        rig: A door that works, and at which nobody stands.
        dated: Whether the rows have this machine's date; else an opening needs a row of its own, of whatever date.
    """
    with rig.gallery() as gallery:
        gallery.check_audit()
        rows = [(row, json.loads(row.detail)) for row in gallery.rows(rig.first)]
    openings = openings_of(rig.levels)
    wanted = [(row, detail) for row, detail in rows if is_event(row, detail)]
    faults, repeats = _told(rig, wanted)
    matched = list(_match(rig, openings, rows, dated=dated))
    times = {"beyond the pulse": 0.0, "row to lock": 0.0, "processor time of a start": rig.start_work}
    for opening, reason in matched:
        if reason is None:
            faults.append(f"the lock opened at {opening.begins - rig.born:.3f} s, and nothing says why")
            continue
        lasted = (opening.ends or float("inf")) - opening.begins
        times["beyond the pulse"] = max(times["beyond the pulse"], lasted - reason.lasts)
        if dated:
            times["row to lock"] = max(times["row to lock"], opening.begins - reason.at)
    if times["beyond the pulse"] > SLACK:
        faults.append(f"the lock was open {times['beyond the pulse']:.3f} s longer than it may be")
    faults += _undecided(rows)
    shown = json.loads(rig.listener.on("state")[-1])
    if (shown["state"], shown["lock"], shown["fault"]) != ("idle", "locked", None):
        faults.append(f"the broker shows {shown} of a door at rest")
    facts = {"rows": len(rows), "events": len(wanted), "repeats": repeats, "openings": len(openings)}
    return Verdict(faults, facts, times)


def _told(rig: Rig, wanted: Sequence[tuple[Row, dict[str, Any]]]) -> tuple[list[str], int]:
    """What is wrong with the events that were heard, and how many came again."""
    ids = [f"{row.seq}:{row.mac.hex()}" for row, _ in wanted]
    try:
        rig.wait("all events", lambda: set(ids) <= {event["id"] for event in rig.listener.events()})
    except Missed:
        heard = {event["id"] for event in rig.listener.events()}
        return [f"events lost: {[one.partition(':')[0] for one in ids if one not in heard]}"], 0
    heard = [event["id"] for event in rig.listener.events()]
    first = list(dict.fromkeys(heard))
    faults = [] if first == ids else [f"events out of order, or of no row: {[one.partition(':')[0] for one in first]}"]
    for at, one in enumerate(heard):
        if one in heard[:at] and heard[at - 1] != one:
            faults.append(f"event {one.partition(':')[0]} came again after later ones")
    return faults, len(heard) - len(first)


def _match(
    rig: Rig, openings: Sequence[Opening], rows: Sequence[tuple[Row, dict[str, Any]]], *, dated: bool
) -> Iterator[tuple[Opening, _Reason | None]]:
    """Each opening with the press, or the row, that comes before it; None: there is none. A row counts once."""
    lasts = {"unlocked": rig.setting.pulse, "held": rig.setting.hold}
    left = [
        _Reason(row.at / 1e6 - rig.wall, lasts[detail["state"]])
        for row, detail in rows
        if detail.get("state") in _OPEN and detail["reason"] != _EXIT
    ]
    pressed = list(rig.pressed)
    for opening in openings:
        if pressed and pressed[0] <= opening.begins:
            yield opening, _Reason(pressed.pop(0), rig.setting.pulse)
            continue
        before = [one for one in left if not dated or one.at <= opening.begins]
        taken = (before[-1] if dated else before[0]) if before else None
        if taken is not None:
            left = left[left.index(taken) + 1 :]
        yield opening, taken


def _undecided(rows: Sequence[tuple[Row, dict[str, Any]]]) -> list[str]:
    """Rows that say that the door was opened, without the decision or command that has to come before."""
    faults, since = [], []
    for row, detail in rows:
        if detail.get("kind") != "state":
            since.append((row, detail))
            continue
        if detail["state"] in _OPEN and detail["reason"] != _EXIT:
            fits = any(
                one.get("kind") == "command" or (one.get("accepted") is True and before.person == row.person)
                for before, one in since[-1:]
            )
            faults += [] if fits else [f"row {row.seq} opens, and no decision or command stands before it"]
        since = []
    return faults

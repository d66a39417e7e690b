"""Events: what happens at the door, as it is recorded and as it is told.

A decision is a row of the audit trail already. A change of state, an alarm and a command become one here, with the act
``door``. `publisher.Publisher` passes them on, each once and in order, to the receivers that are configured.
"""

from typing import Any, Final, Literal

import msgspec

from edge_oneshot_device.door.states import Change, State
from edge_oneshot_device.gallery import audit, roster
from edge_oneshot_device.gallery.audit import Row
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.people import person_name
from edge_oneshot_device.gallery.transaction import with_reserve
from edge_oneshot_device.text import one_line

Command = Literal["unlock", "hold", "release"]
"""A command that a broker may pass on."""

ACT: Final = "door"
"""The act of rows that only a door writes."""

FORGOTTEN: Final = "forgotten"
"""The act of a row that says that somebody was forgotten, and the kind of its event, which has no name."""

_VERDICTS: Final = {"identify": "accepted", "verify": "accepted", "challenge": "passed", "pin": "accepted"}
_MOST_CHARACTERS: Final = 200  # of a reason or a text


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event, as it is told. What is None is left out.

    It never holds scores, thresholds, templates or photos: whoever reads along learns nothing that helps to pass.

    Attributes:
        id: Number and digest of its row; by it a receiver knows an event that it has already. It is also a head for
            ``audit --check --against``.
        number: Number of its row.
        at: UTC, ISO 8601.
        door: The door's name.
        kind: ``decision``, ``state``, ``alarm``, ``command`` or ``forgotten``.
        person: Who was accepted, or whom the state is about, while they are enrolled.
        reason: Of a decision or a state: why, a code.
        act: Of a decision: ``identify``, ``verify``, ``challenge`` or ``pin``.
        accepted: Of a decision.
        state: The new state.
        before: The state before.
        signal: What led to the new state.
        alarm: What is wrong, a code.
        text: The same in words.
        command: ``unlock``, ``hold`` or ``release``.
    """

    id: str
    number: int
    at: str
    door: str
    kind: str
    person: str | None = None
    reason: str | None = None
    act: str | None = None
    accepted: bool | None = None
    state: str | None = None
    before: str | None = None
    signal: str | None = None
    alarm: str | None = None
    text: str | None = None
    command: str | None = None

    def encode(self) -> bytes:
        """The event as JSON."""
        return msgspec.json.encode(self)


class Status(msgspec.Struct, frozen=True):
    """How the door is at this moment; it is shown, not recorded.

    Attributes:
        state: Its state.
        fault: What does not work, in one line; None: all does.
        contact: What the contact at the door says; None: there is none.
    """

    state: State
    fault: str | None = None
    contact: Literal["open", "closed"] | None = None


@with_reserve
def record_change(gallery: Gallery, change: Change, *, reason: str, person: str | None) -> None:
    """Record a change of state.

    Args:
        gallery: Where it is recorded.
        change: The change.
        reason: Why, in a line; mostly a code.
        person: The name of whom it is about; None where nobody is known.

    Raises:
        IntegrityError: The gallery is damaged.
        MachineError: The disk does not allow it.
    """
    detail = {"before": change.before, "signal": change.signal, "state": change.after, "reason": _line(reason)}
    with gallery.writing() as transaction:
        found = None if person is None else roster.look_up(transaction, person_name(person))
        audit.append(transaction, ACT, None if found is None else found[0], {"kind": "state", **detail})


@with_reserve
def record_alarm(gallery: Gallery, kind: str, text: str) -> None:
    """Record an alarm; raises what `record_change` does.

    Args:
        gallery: Where it is recorded.
        kind: What is wrong, a code.
        text: The same in words.
    """
    with gallery.writing() as transaction:
        audit.append(transaction, ACT, detail={"kind": "alarm", "alarm": _line(kind), "text": _line(text)})


@with_reserve
def record_command(gallery: Gallery, command: Command) -> None:
    """Record a command that a broker passed on; raises what `record_change` does.

    Args:
        gallery: Where it is recorded.
        command: The command.
    """
    with gallery.writing() as transaction:
        audit.append(transaction, ACT, detail={"kind": "command", "command": command})


def is_event(row: Row, detail: dict[str, Any]) -> bool:
    """Whether a row of the audit trail is told: decisions, what a door records, and that somebody was forgotten.

    Args:
        row: The row.
        detail: Its facts.
    """
    return row.act in (ACT, FORGOTTEN) or (row.act in _VERDICTS and detail.get("reason") != "begun")


def event_of(row: Row, detail: dict[str, Any], person: str | None, door: str) -> Event:
    """The event that a row is told as.

    Args:
        row: A row for which `is_event` holds.
        detail: Its facts.
        person: The name of whom it is about; None where nobody is, or they were forgotten.
        door: The door's name.
    """
    if row.act == ACT:
        names = ("kind", "reason", "state", "before", "signal", "alarm", "text", "command")
        facts: dict[str, Any] = {name: detail.get(name) for name in names}
    elif row.act == FORGOTTEN:
        facts = {"kind": FORGOTTEN}
    else:
        accepted = bool(detail.get(_VERDICTS[row.act]))
        facts = {"kind": "decision", "act": row.act, "accepted": accepted, "reason": detail.get("reason")}
        person = person if accepted else None  # as `PublicDecision` has it
    at = audit.timestamp(row.at)
    return Event(id=f"{row.seq}:{row.mac.hex()}", number=row.seq, at=at, door=door, person=person, **facts)


def _line(text: str) -> str:
    return one_line(text)[:_MOST_CHARACTERS]

"""What `run` prints of a door: one line for each change and each decision."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from edge_oneshot_device.text import printable

if TYPE_CHECKING:
    from edge_oneshot_device.door.loop import Told


class DoorLine(msgspec.Struct, frozen=True):
    """A line of the log.

    Attributes:
        at: UTC, ISO 8601.
        state: The state that was entered; None for a decision that changes none.
        reason: Why, a code or the text of a fault.
        person: Whom it is about, if anybody is known.
        seconds: From the first usable frame of the approach; None where there was none.
    """

    at: str
    state: str | None
    reason: str
    person: str | None
    seconds: float | None


def door_line(told: "Told", now: datetime) -> DoorLine:
    """The line for something that happened.

    Args:
        told: What happened.
        now: When, with its zone.
    """
    state = None if told.change is None else told.change.after
    seconds = None if told.seconds is None else round(told.seconds, 3)
    return DoorLine(now.astimezone(UTC).isoformat(timespec="milliseconds"), state, told.reason, told.person, seconds)


def door_line_text(line: DoorLine) -> str:
    """A line for a person: time of day, state, person, reason, how long it took."""
    when = datetime.fromisoformat(line.at).astimezone().strftime("%H:%M:%S")
    facts = [line.reason] + ([] if line.seconds is None else [f"{line.seconds:.2f} s"])
    who = "" if line.person is None else f"  {printable(line.person)}"
    return f"{when}  {line.state or '-':11}{who}  {', '.join(facts)}"

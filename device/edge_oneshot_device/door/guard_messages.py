"""What the loop and the guard say to each other: lines of JSON, one message each.

The first line to the guard is the configuration; commands follow. Seconds are those of CLOCK_MONOTONIC, which all
processes of a machine share, so that a clock that is set back moves no pulse.
"""

from typing import Annotated, Final, Literal

import msgspec

from edge_oneshot_device.door.states import State

ReportKind = Literal[
    "locked",
    "unlocked",
    "exit_pressed",
    "emergency",
    "emergency_over",
    "door_opened",
    "door_closed",
    "forced",
    "held_open",
    "fault",
]

BEAT_SECONDS: Final = 5.0
"""Seconds without a sign of life after which the loop counts as hung, and, the other way, the guard."""

ALIVE_SECONDS: Final = 1.0
"""Seconds from one sign of life of the guard to the next."""

STALE_SECONDS: Final = 2.0
"""Age above which a command to open is not obeyed: whoever it was meant for has gone."""

LINE_BYTES: Final = 65_536
"""Length of a line, at most."""

TEXT_CHARACTERS: Final = 200
"""Length of a text, at most: a pipe takes a line of the guard whole or not at all, up to 4,096 bytes."""


class Report(msgspec.Struct, frozen=True):
    """Something that happened at lock, contacts and buttons.

    Attributes:
        kind: What.
        text: One line for a person.
    """

    kind: ReportKind
    text: str


class Command(msgspec.Struct, frozen=True):
    """A command to the guard.

    Attributes:
        act: What to do; ``beat`` only says that the loop is alive, as every command does.
        at: When it was given.
        seconds: ``unlock``: for how long.
        state: ``show``: the state to show.
    """

    act: Literal["unlock", "hold", "lock", "beat", "show"]
    at: float
    seconds: Annotated[float, msgspec.Meta(ge=0.0, le=3600.0)] = 0.0
    state: State = "idle"


class Message(msgspec.Struct, frozen=True):
    """A message of the guard.

    Attributes:
        faults: All that is wrong now, each in one line.
        report: What happened; None: it is only a sign of life.
    """

    faults: tuple[str, ...] = ()
    report: Report | None = None

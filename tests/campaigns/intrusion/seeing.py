"""What a door shows to the outside: whom it lets in, what it lists, what it records."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from edge_oneshot_device import Recognizer, cli, console
from edge_oneshot_device.gallery import audit_trail
from tests.campaigns.intrusion.commands import IN, Expected
from tests.campaigns.intrusion.ground import REJECTIONS
from tests.campaigns.intrusion.processes import Child, Told, once, told

NOTHING = Told()
"""Where nothing was asked."""
_FAILURES = 5  # of 1:1 in a row, after which a delay comes


@dataclass(frozen=True, slots=True)
class Attempt:
    """Somebody before a door.

    Attributes:
        shown: Whose image it is.
        claimed: As whom, 1:1; None: 1:N.
        told: What came of it.
        row: What the last row of the audit trail says then, where the attempt was accepted and has one.
        kept: Whether that row is in a file of the state folder.
    """

    shown: str
    claimed: str | None
    told: Told
    row: Mapping[str, Any] | None = None
    kept: bool = False


@dataclass(slots=True)
class Look:
    """All that was seen of a door at one time.

    Attributes:
        door: Which one.
        expected: What had to hold then.
        attempts: Of the people.
        limit: What the last of many strangers was told, for 1:N and for 1:1.
        listed: What the list of people says.
        check, diagnosis: What ``audit --check`` and ``doctor`` say.
        against: What ``audit --check --against`` says of the head that was kept elsewhere.
    """

    door: str
    expected: Expected
    attempts: list[Attempt] = field(default_factory=list)
    limit: list[Attempt] = field(default_factory=list)
    listed: Told = NOTHING
    check: Told = NOTHING
    diagnosis: Told = NOTHING
    against: Told = NOTHING


class Door:
    """A process that has the state folder open."""

    def __init__(self, place: Path, key: Path, user: int | None) -> None:
        self._place = place
        self._child = Child(lambda pipe: _serve(pipe, place, key), user)
        self.opened = self._child.hear()

    def attempt(self, shown: str, claimed: str | None = None) -> Attempt:
        """Somebody before the door."""
        answer = self._child.ask(shown, claimed)
        if answer.fault is not None or not accepted(answer):
            return Attempt(shown, claimed, answer)
        row = answer.value["row"]
        kept = row is not None and _is_kept(self._place / "state", bytes.fromhex(row["mac"]))
        return Attempt(shown, claimed, answer, row, kept)

    def listed(self) -> Told:
        """The list of people."""
        return self._child.ask(None, None)

    def end(self) -> None:
        """Close it."""
        self._child.end()


def look(name: str, door: Door, place: Path, key: Path, user: int | None, expected: Expected, *, limits: bool) -> Look:
    """Send everybody to a door, and ask what it lists.

    Args:
        name: Of the door.
        door: The door.
        place: The copy of the ground.
        key: The key's file.
        user: Whom commands run as.
        expected: What has to hold now.
        limits: See as well whether many strangers are made to wait.
    """
    found = Look(name, expected)
    wanted = sorted(expected.people, key=lambda shown: expected.people[shown] != IN)
    for shown in wanted:
        if shown != "edsger" or expected.people[shown] == IN or limits:
            found.attempts.append(door.attempt(shown))
    claims = [(shown, shown) for shown in wanted if shown in expected.listed]
    for shown, claimed in (*claims, ("stranger", "ada"), ("stranger", "mallory"), ("grace", "alan")):
        found.attempts.append(door.attempt(shown, claimed))
    found.listed = door.listed()
    if limits:
        for claimed, many in ((None, REJECTIONS), ("ada", _FAILURES)):
            if claimed is None or expected.listed[claimed] == IN:
                for _ in range(many):
                    last = door.attempt("stranger", claimed)
                    found.attempts.append(last)
                found.limit.append(door.attempt("stranger", claimed))
                found.attempts.append(found.limit[-1])
    found.check = command(["audit", "--check"], place, key, user)
    return found


def inquire(found: Look, place: Path, key: Path, user: int | None, head: str) -> None:
    """Ask what takes its time, where something has to be told."""
    found.diagnosis = command(["doctor"], place, key, user)
    found.against = command(["audit", "--check", "--against", head], place, key, user)


def command(words: list[str], place: Path, key: Path, user: int | None) -> Told:
    """What the program says to a command."""
    argv = [*words, "--state", str(place / "state"), "--key", str(key), "--json"]
    return once(lambda: told(lambda: cli.main(argv)), user)


def accepted(answer: Told) -> bool:
    """Whether a door let somebody in."""
    return answer.value is not None and any(one.get("accepted") for one in answer.value["said"])


def _serve(pipe: Connection, place: Path, key: Path) -> None:
    opened: list[Recognizer] = []

    def open_it() -> int:
        opened.append(Recognizer.open(place / "state", key=key))
        return 0

    answer = told(open_it)
    pipe.send((answer, None))
    while True:
        shown, claimed = pipe.recv()
        pipe.send((_attempted(opened[0], place, shown, claimed) if opened else answer, None))


def _attempted(door: Recognizer, place: Path, shown: str | None, claimed: str | None) -> dict[str, Any]:
    if shown is None:
        return told(lambda: _printed(door.people))
    image = (place / "elsewhere" / f"{shown}.png").read_bytes()
    before = _last_row(door)
    call = (lambda: door.identify(image)) if claimed is None else lambda: door.verify(claimed, image)
    answer = told(lambda: _printed(call))
    row = _last_row(door)
    return {**answer, "row": None if row is None or row == before else row}


def _printed(call: Callable[[], Any]) -> int:
    came = call()
    console.print_result(came, True, "")
    return 0


def _last_row(door: Recognizer) -> dict[str, Any] | None:
    rows: list[Any] = []
    told(lambda: rows.extend(audit_trail.last(door.gallery, 1)))
    return msgspec.to_builtins(rows[0]) if rows else None


def _is_kept(state: Path, mac: bytes) -> bool:
    for path in state.rglob("*"):
        with suppress(OSError, RuntimeError):  # a link in a circle
            file = path.resolve(strict=True)
            if state.parent in file.parents and file.is_file() and mac in file.read_bytes():
                return True
    return False

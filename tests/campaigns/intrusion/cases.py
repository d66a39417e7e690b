"""One case by its number: lay the ground, start the door, attack, let an administrator go on, look at everything."""

import os
import random
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from edge_oneshot_device import cli
from tests.campaigns.intrusion import contents, names, statements
from tests.campaigns.intrusion.acts import Act, Scene
from tests.campaigns.intrusion.commands import BEGINNING, COMMANDS, Command, Expected
from tests.campaigns.intrusion.ground import SECRET, everything, foreign, lay, remove
from tests.campaigns.intrusion.judge import Seen, hangs
from tests.campaigns.intrusion.keeping import lost
from tests.campaigns.intrusion.processes import Child, Instants, Told, once, told
from tests.campaigns.intrusion.seeing import Door, accepted, inquire, look

KINDS = ("sql",) * 7 + ("bytes",) * 2 + ("files",) * 3 + ("upgrade",) * 4 + ("links",) * 4
"""Of case N it is the one at N modulo how many there are."""
LOOKING = ("audit --check", "doctor", "people")
_DRAWS: dict[str, Callable[[Scene], Act]] = {"sql": statements.draw, "bytes": contents.draw, "files": names.draw}
_GOES_ON = 0.5
_HEAD_START_SECONDS = 0.2


class Case:
    """One case.

    Args:
        ground: What `ground.prepare` made.
        place: Where its copy is to be.
        user: Whom the door and the attacker run as; None: as this process.
        head: Of the audit trail, as it was kept elsewhere.
        events: How many instants each command has.
    """

    def __init__(self, ground: Path, place: Path, user: int | None, head: str, events: dict[str, int]) -> None:
        self._ground = ground
        self._place = place
        self._user = user
        self._head = head
        self._events = events
        self._key = place / "keys" / "key"

    def run(self, seed: int, number: int) -> Seen:
        """What was seen."""
        kind = KINDS[number % len(KINDS)]
        numbers = random.Random(f"{seed} {number}")
        lay(self._ground, self._place, self._user)
        seen, expected = Seen(kind), BEGINNING
        self._others = foreign(self._place)
        scene = Scene(numbers, self._place)
        door = Door(self._place, self._key, self._user)
        try:
            if kind == "upgrade":
                expected = self._under_attack(scene, seen, expected)
            elif kind == "links":
                expected = self._as_root(scene, seen, expected)
            else:
                self._act(seen, _DRAWS[kind](scene))
            self._look(seen, "running", door, expected)
        finally:
            door.end()
        goes_on = kind in _DRAWS and numbers.random() < _GOES_ON
        if not hangs(seen):  # else each look and command would wait for as long
            self._look_anew(seen, "fresh", expected, limits=not goes_on)
        if goes_on and not hangs(seen):
            expected = self._go_on(seen, COMMANDS[numbers.choice(sorted(COMMANDS))], expected, self._user)
            self._look_anew(seen, "later", expected, limits=True)
        self._note_changes(seen)
        sound = seen.harmless or seen.refused is not None  # else a backup may be one of what was altered
        seen.lost = lost(self._place, self._ground, expected if sound else BEGINNING)
        seen.secret = SECRET in repr([answer for _, answer in seen.commands])
        remove(self._place)
        return seen

    def _act(self, seen: Seen, act: Act) -> None:
        """The attacker's act, as the door's user."""
        seen.act, seen.before, seen.other = act.told, act.before, act.other
        state = self._place / "state"
        self._note_changes(seen)
        former = everything(state, self._place)
        came = once(partial(_performed, act), self._user, attacks=True)
        if came.value == "PermissionError" and "hard link" in act.told:
            came = once(partial(_performed, act))  # what a system without protected_hardlinks allows
        if came.fault is not None:
            seen.refused = came.fault
        elif everything(state, self._place) == former:
            seen.refused = came.value or "it changes nothing"
        self._others = foreign(self._place)

    def _look(self, seen: Seen, name: str, door: Door, expected: Expected, *, limits: bool = False) -> None:
        found = look(name, door, self._place, self._key, self._user, expected, limits=limits)
        seen.looks.append(found)
        wrong = [one for one in found.attempts if accepted(one.told) and expected.people.get(one.shown) != "in"]
        if wrong or (seen.before or seen.other):
            inquire(found, self._place, self._key, self._user, self._head)

    def _look_anew(self, seen: Seen, name: str, expected: Expected, *, limits: bool) -> None:
        door = Door(self._place, self._key, self._user)
        try:
            self._look(seen, name, door, expected, limits=limits)
        finally:
            door.end()

    def _go_on(self, seen: Seen, does: Command, expected: Expected, user: int | None) -> Expected:
        """An administrator's command; what has to hold then."""
        came = once(lambda: _run(does, self._place, self._key), user)
        seen.commands.append((does.name, came))
        return _after_all(expected, [(does, came)])

    def _note_changes(self, seen: Seen) -> None:
        now = foreign(self._place)
        paths = self._others.keys() | now.keys()
        seen.changed += [path for path in sorted(paths) if self._others.get(path) != now.get(path)]
        self._others = now

    # a command, with an act in the midst of it

    def _under_attack(self, scene: Scene, seen: Seen, expected: Expected) -> Expected:
        numbers = scene.numbers
        does = COMMANDS[numbers.choice([name for name in sorted(COMMANDS) if name not in LOOKING])]
        instant = numbers.randrange(self._events[does.name])
        child = Child(lambda pipe: _stopping(pipe, does, self._place, self._key, instant), self._user)
        reached = child.hear()
        came: list[tuple[Command, Told]] = []
        if reached.value == "reached":
            how = numbers.choice(("act", "act", "act", "kill", "second"))
            if how == "act":
                self._act(seen, _DRAWS[numbers.choice(sorted(_DRAWS))](scene))
            elif how == "kill":
                seen.act, seen.harmless = "killed", True
                child.end()
                came.append((does, Told()))
            else:
                second = COMMANDS[
                    numbers.choice(("rotate-key", "rotate-key of the other", "backup", "forget", "rollback"))
                ]
                seen.act, seen.harmless = f"{second.name} at the same time", True
                other = Child(lambda pipe: pipe.send((_run(second, self._place, self._key), None)), self._user)
                first = other.is_ready(_HEAD_START_SECONDS)  # else it waits for the one that was begun before
                answers = [(second, other.hear())] if first else []
                answers.append((does, child.ask()))
                came += answers if first else [*answers, (second, other.hear())]
                other.end()
            if how == "act":
                came.append((does, child.ask()))
        else:
            came.append((does, reached))
            seen.refused = "the command was faster"
        child.end()
        seen.act = f"in the midst of {does.name}, at instant {instant}: {seen.act}"
        seen.commands += [(which.name, answer) for which, answer in came]
        # of two at once nobody knows which came last
        orders = [_after_all(expected, order) for order in (came, came[::-1])]
        return orders[0].or_else(orders[1])

    # links, and commands that root runs

    def _as_root(self, scene: Scene, seen: Seen, expected: Expected) -> Expected:
        numbers = scene.numbers
        kind = numbers.choice(("soft", "soft", "hard", "journal", "any"))
        if kind == "journal":
            act = contents.draw_journal(scene)
        elif kind == "any":
            act = names.draw(scene)
        else:
            act = names.draw_link(scene, hard=kind == "hard")
        self._act(seen, act)
        for name in numbers.sample(sorted(COMMANDS), numbers.randint(1, 3)):
            if hangs(seen):
                break
            expected = self._go_on(seen, COMMANDS[name], expected, None)
        return expected


def count_events(ground: Path, place: Path, user: int | None) -> dict[str, int]:
    """How many instants each command has."""
    found = {}
    for name, does in COMMANDS.items():
        lay(ground, place, user)
        child = Child(lambda pipe, does=does: _stopping(pipe, does, place, place / "keys" / "key", None), user)
        answer = child.hear()
        child.end()
        if answer.value is None or answer.value["code"]:
            raise RuntimeError(f"the command {name} fails on the ground: {answer}")
        found[name] = answer.value["events"]
    remove(place)
    return found


def _after_all(expected: Expected, came: Sequence[tuple[Command, Told]]) -> Expected:
    """What has to hold after commands, of which one may have been killed or be told as not confirmed."""
    for does, answer in came:
        done = does.after(expected)
        if answer.value is None or answer.value["error"].get("reason") == "not_confirmed":
            expected = expected.or_else(done)
        elif not answer.value["code"]:
            expected = done
    return expected


def _performed(act: Act) -> str | None:
    """Do it; returns what the system said against it."""
    try:
        act.perform()
    except (OSError, sqlite3.Error, IndexError, ValueError) as error:
        return type(error).__name__
    return None


def _run(does: Command, place: Path, key: Path) -> dict[str, object]:
    return told(lambda: cli.main(does.argv(place, key)))


def _stopping(pipe: Connection, does: Command, place: Path, key: Path, instant: int | None) -> None:
    """Run a command, and wait at an instant until somebody asks to go on."""

    def reached() -> None:
        pipe.send(("reached", None))
        pipe.recv()

    instants = Instants(instant, reached)
    answer = _run(does, place, key)
    pipe.send(({**answer, "events": instants.count}, None))
    os._exit(0)

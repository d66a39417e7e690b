"""The administrator's commands during an attack, and what must hold afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.campaigns.intrusion.ground import EXPIRED, REJECTIONS

IN, OUT, EITHER = "in", "out", "either"


@dataclass(frozen=True, slots=True)
class Expected:
    """What has to hold.

    Attributes:
        people: Of everybody with an image: `IN` when they have to be recognized, `OUT` when they must not.
        listed: Of every name: whether it has to be in the list of people, or must not.
        backups: Files that have to open with one of the keys.
    """

    people: Mapping[str, str]
    listed: Mapping[str, str]
    backups: tuple[str, ...] = ("oldest.backup", "early.backup", "now.backup")

    def or_else(self, other: "Expected") -> "Expected":
        """Where nobody knows whether a command came to its end."""

        def merged(one: Mapping[str, str], two: Mapping[str, str]) -> dict[str, str]:
            return {name: one[name] if one[name] == two[name] else EITHER for name in one}

        backups = tuple(name for name in self.backups if name in other.backups)
        return Expected(merged(self.people, other.people), merged(self.listed, other.listed), backups)


BEGINNING = Expected(
    {"ada": IN, "alan": IN, "edsger": OUT, "grace": OUT, "stranger": OUT},
    {"ada": IN, "alan": IN, "edsger": IN, "grace": OUT},
)
BEFORE = {"ada", "alan", "edsger", "grace"}
"""Who is let in by the older copy that the attacker has."""
OTHERS = {"stranger"}
"""Who is let in by the other state folder."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command and what it changes.

    Attributes:
        name: Of this line.
        words: Of the program; ``{}`` stands for the folder ``elsewhere``.
        people, listed: What is expected of whom once it says that it is done.
        backup: What it makes, that has to open.
        other: It is for the other state folder.
    """

    name: str
    words: tuple[str, ...]
    people: Mapping[str, str] = field(default_factory=dict)
    listed: Mapping[str, str] = field(default_factory=dict)
    backup: str | None = None
    other: bool = False

    def argv(self, place: Path, key: Path) -> list[str]:
        """As the program takes it."""
        command, *words = (word.replace("{}", str(place / "elsewhere")) for word in self.words)
        state = place / ("other" if self.other else "state")
        return [command, *words, "--state", str(state), "--key", str(key), "--json"]

    def after(self, expected: Expected) -> Expected:
        """What has to hold once it is done."""
        backups = expected.backups if self.backup is None else (*expected.backups, self.backup)
        return replace(
            expected,
            people={**expected.people, **self.people},
            listed={**expected.listed, **self.listed},
            backups=backups,
        )


_NOBODY = dict.fromkeys(BEGINNING.people, OUT), dict.fromkeys(BEGINNING.listed, OUT)
_KEEP = ("--keep-photos", "--rejections-per-minute", str(REJECTIONS))
_ALL = (
    Command("init of the same", ("init", "{}/present.oneshot", *_KEEP)),
    Command("init of another, --re-enrol", ("init", "{}/next.oneshot", "--re-enrol", *_KEEP)),
    Command("init of another, --empty", ("init", "{}/next.oneshot", "--empty", *_KEEP), *_NOBODY),
    Command("rollback", ("rollback",)),
    Command("rotate-key", ("rotate-key",)),
    Command("rotate-key of the other", ("rotate-key",), other=True),
    Command("backup", ("backup", "{}/new.backup"), backup="new.backup"),
    Command("restore", ("restore", "{}/now.backup"), BEGINNING.people, BEGINNING.listed),
    Command(
        "restore of before",
        ("restore", "{}/early.backup"),
        {**BEGINNING.people, "edsger": IN, "grace": IN},
        {**BEGINNING.listed, "grace": IN},
    ),
    Command("forget", ("forget", "ada"), {"ada": OUT}, {"ada": OUT}),
    Command("enrol", ("enrol", "grace", "{}/grace-enrol.png"), {"grace": IN}, {"grace": IN}),
    Command("enrol --add", ("enrol", "ada", "{}/ada-enrol.png", "--add")),
    Command("enrol --replace", ("enrol", "alan", "{}/alan-enrol.png", "--replace")),
    Command("access", ("access", "alan", "--valid-until", str(EXPIRED.valid_until)), {"alan": OUT}),
    Command("unlock", ("unlock", "alan")),
    Command("people export", ("people", "export", "{}/people")),
    Command("audit --keep-days", ("audit", "--keep-days", "1")),
    Command("audit --check", ("audit", "--check")),
    Command("doctor", ("doctor",)),
    Command("people", ("people",)),
)
COMMANDS = {command.name: command for command in _ALL}

"""One act of an attacker: a text that describes it, and the function that does it in a process of its own."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Act:
    """One act.

    Attributes:
        told: What it is, for whoever reads the failure.
        perform: Does it; what the system refuses raises OSError or sqlite3.Error.
        before: Whether it puts back what was there before, as far as the attacker has it: a known limit.
        other: Whether it puts in what belongs to the other state folder under the same key: likewise.
    """

    told: str
    perform: Callable[[], None]
    before: bool = False
    other: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """Where somebody attacks.

    Attributes:
        numbers: What is drawn from.
        place: The copy of the ground.
    """

    numbers: random.Random
    place: Path

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.place / "state"

    @property
    def loot(self) -> Path:
        """What the attacker has of before."""
        return self.place / "loot"

    def database(self, folder: Path | None = None) -> Path:
        """The gallery in a state folder: the SQLite database in it."""
        for path in sorted((folder or self.state).iterdir()):
            if path.is_file() and path.read_bytes()[:15] == b"SQLite format 3":
                return path
        raise FileNotFoundError("there is no gallery")

    def chance(self, share: float) -> bool:
        """True with a probability."""
        return self.numbers.random() < share

    def blob(self, longest: int = 80) -> bytes:
        """Random bytes."""
        return self.numbers.randbytes(self.numbers.randint(0, longest))

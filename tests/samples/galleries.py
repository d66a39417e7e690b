"""Small galleries: their encoder and templates, their machine, and their file as an intruder changes it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.gallery.clock import Clock
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.matching.decision import Decision

SIZE: Final = 4
"""Values of a template."""
MINE: Final = "a" * 64
"""The fingerprint of the encoder in use."""
OTHER: Final = "b" * 64
"""That of another encoder."""


def vectors(count: int = 1, seed: int = 0) -> NDArray[np.float32]:
    """Random templates."""
    return np.random.default_rng(seed).standard_normal((count, SIZE)).astype(np.float32)


def names(gallery: Gallery) -> list[str]:
    """Who is enrolled."""
    return [person.person for person in gallery.people()]


def said(decision: Decision) -> tuple[str | None, bool, str]:
    """Person, whether accepted, and reason."""
    return decision.person, decision.accepted, decision.reason


@contextmanager
def tampering(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a gallery's file without its key, as an intruder does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@dataclass
class Machine:
    """A machine that the test restarts, and whose clocks it turns."""

    boot: str = "first"
    seconds: float = 100.0
    now: datetime = datetime(2026, 1, 5, 12, tzinfo=UTC)  # a Monday

    def clock(self) -> Clock:
        """What its clocks say, whenever they are asked."""
        return Clock(lambda: self.boot, lambda: self.seconds, lambda: self.now)

    def restart(self) -> None:
        """Another boot, which counts its seconds anew."""
        self.boot += "'"
        self.seconds = 0.0

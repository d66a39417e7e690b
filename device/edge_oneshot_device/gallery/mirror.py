"""The templates in memory, kept in step with the file: only who was changed is read again."""

import sqlite3
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.gallery import audit
from edge_oneshot_device.gallery.database import corrupt
from edge_oneshot_device.gallery.people import Templates
from edge_oneshot_device.gallery.sealed import open_person, open_template
from edge_oneshot_device.gallery.vault import Vault

_CHUNK: Final = 500  # people read at once: a door that writes waits for no more than these


T = TypeVar("T")


class Read(Protocol):
    """`Gallery.read`."""

    def __call__(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns."""


class Mirror:
    """The templates of a gallery in memory.

    Args:
        path: The gallery's file, for errors.
        size: Length of an embedding.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._held: dict[int, NDArray[np.float32]] = {}
        self._seen: audit.Row | None = None
        self._laid_out: Templates | None = None

    def follow(self, read: Read, vault: Callable[[], Vault]) -> None:
        """Read what changed since the last time; everything, at first and after a `restore`.

        Args:
            read: `Gallery.read`.
            vault: The one in force inside of `read`.
        """
        numbers = read(partial(self._catch_up, vault))
        if numbers is None:
            return
        try:
            for start in range(0, len(numbers), _CHUNK):
                read(partial(self._read, vault, numbers[start : start + _CHUNK]))
        except BaseException:
            self._seen = None  # a part of the people is worse than none
            raise
        # once more, for what changed between the chunks
        self.follow(read, vault)

    def is_current(self, connection: sqlite3.Connection) -> bool:
        """Whether nobody's templates changed since `follow`, in a transaction of the caller."""
        return self._seen is not None and audit.changed_since(connection, self._seen) == set()

    def templates(self) -> Templates:
        """What there is to match with."""
        if self._laid_out is None:
            self._laid_out = self._lay_out()
        return self._laid_out

    def _catch_up(self, vault: Callable[[], Vault], connection: sqlite3.Connection) -> list[int] | None:
        """Read who changed; where that cannot be told, forget all and return everybody's numbers."""
        changed = None if self._seen is None else audit.changed_since(connection, self._seen)
        if changed:
            self._read(vault, changed, connection)
        self._seen = audit.last_row(connection)
        if changed is not None:
            return None
        self._held.clear()
        self._laid_out = None
        return [row[0] for row in connection.execute("SELECT number FROM person ORDER BY number")]

    def _read(self, vault: Callable[[], Vault], numbers: Collection[int], connection: sqlite3.Connection) -> None:
        query = """SELECT fingerprint, record, sealed FROM person LEFT JOIN template ON template.person = number
                   WHERE number = ? ORDER BY template.id"""
        for number in numbers:
            rows = connection.execute(query, (number,)).fetchall()
            self._held.pop(number, None)
            if rows:
                self._held[number] = self._open(vault(), number, rows)
        self._laid_out = None

    def _open(self, vault: Vault, number: int, rows: list[tuple[str, bytes, bytes | None]]) -> NDArray[np.float32]:
        """The templates of a person."""
        name = open_person(self._path, vault, number, *rows[0][:2]).name
        parts = [open_template(self._path, vault, number, one[0], one[2] or b"", name) for one in rows]
        if any(len(part) != 4 * self._size for part in parts):
            raise corrupt(self._path, f"{name} has a template that is not {self._size} numbers")
        templates = np.frombuffer(b"".join(parts), "<f4").astype(np.float32).reshape(len(parts), self._size)
        if not np.isfinite(templates).all():
            raise corrupt(self._path, f"{name} has a template that is no finite number")
        return templates

    def _lay_out(self) -> Templates:
        counts = np.array([len(one) for one in self._held.values()], np.int64)
        owners = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        matrix = np.concatenate([*self._held.values(), np.empty((0, self._size), np.float32)])
        for array in (matrix, owners, counts):
            array.flags.writeable = False
        index = {number: place for place, number in enumerate(self._held)}
        return Templates(tuple(self._held), index, matrix, owners, counts)

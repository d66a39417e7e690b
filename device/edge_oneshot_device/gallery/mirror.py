"""The templates in memory, kept in step with the file: only who was changed is read again."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Metric, Rule
from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.gallery import audit
from edge_oneshot_device.gallery.database import corrupt
from edge_oneshot_device.gallery.sealed import open_person, open_template
from edge_oneshot_device.gallery.vault import Vault
from edge_oneshot_device.matching.search import Index
from edge_oneshot_device.matching.thresholds import MAX_TEMPLATES

TRIES: Final = 10
"""How often something is begun anew, because the gallery changed meanwhile, before that is an error."""

_CHUNK: Final = 500  # people read at once: a door that writes waits for no more than these

T = TypeVar("T")


class ChangedError(Exception):
    """The gallery is no longer what was compared with: compare again."""


def changing(path: Path) -> MachineError:
    """The error for a gallery that changed at every one of `TRIES`."""
    message = f"{path} was changed again and again meanwhile: try again; if it goes on, see what writes to it"
    return MachineError(message, reason="gallery_changing")


class Read(Protocol):
    """`Gallery.read`."""

    def __call__(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns."""


class Mirror:
    """The templates of a gallery in memory.

    Args:
        path: The gallery's file, for errors.
        fingerprint: Of the encoder whose templates they are.
        size: Length of an embedding.
        metric: How embeddings are compared, see `decision.scores`.
        rule: How the scores of a person's templates are joined, see `decision.join`.

    Attributes:
        index: What is searched; its persons are the gallery's numbers.
    """

    def __init__(self, path: Path, fingerprint: str, size: int, metric: Metric, rule: Rule) -> None:
        self.index = Index(size, metric, rule)
        self._path = path
        self._fingerprint = fingerprint
        self._size = size
        self._seen: audit.Row | None = None
        self._counts: Counter[int] = Counter()  # how many people have so many templates

    @property
    def fewest(self) -> int:
        """Templates that everybody has; 1 where there is nobody."""
        return min((count for count, people in self._counts.items() if people), default=1)

    @property
    def most(self) -> int:
        """Templates that nobody has more of; 1 where there is nobody."""
        return max((count for count, people in self._counts.items() if people), default=1)

    def follow(self, read: Read, vault: Callable[[], Vault]) -> None:
        """Read what changed since the last time; everything, at first and after a `restore`.

        Args:
            read: `Gallery.read`.
            vault: The one in force inside of `read`.

        Raises:
            IntegrityError: Reason ``gallery_corrupt`` or ``audit_altered``.
            MachineError: Reason ``gallery_changing``: rows of the record go as fast as they are read.
        """
        for _ in range(TRIES):
            numbers = read(partial(self._catch_up, vault))
            if numbers is None:
                return
            self._counts.clear()
            try:
                self.index.load(self._batches(read, vault, numbers))
            except BaseException:
                self._seen = None
                raise
            # once more, for what changed between the chunks
        raise changing(self._path)

    def is_current(self, connection: sqlite3.Connection) -> bool:
        """Whether nobody's templates changed since `follow`, in a transaction of the caller."""
        if self._seen is None or audit.changed_since(connection, self._seen) != set():
            return False
        self._seen = audit.last_row(connection)
        return True

    def _catch_up(self, vault: Callable[[], Vault], connection: sqlite3.Connection) -> list[int] | None:
        """Read who changed; where that cannot be told, return everybody's numbers."""
        changed = None if self._seen is None else audit.changed_since(connection, self._seen)
        for number in changed or ():
            _, templates = self._templates(vault(), number, number, connection)
            self._counts[len(self.index.templates_of(number))] -= 1
            self._counts[len(templates)] += 1
            if len(templates):
                self.index.put(number, templates)
            else:
                self.index.remove(number)
        del self._counts[0]
        self._seen = audit.last_row(connection)
        if self._seen is None:
            raise audit.altered(self._path, 1, "is missing")
        if changed is not None:
            return None
        return [row[0] for row in connection.execute("SELECT number FROM person ORDER BY number")]

    def _batches(
        self, read: Read, vault: Callable[[], Vault], numbers: Sequence[int]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        for start in range(0, len(numbers), _CHUNK):
            yield read(partial(self._batch, vault, numbers[start : start + _CHUNK]))

    def _batch(
        self, vault: Callable[[], Vault], numbers: Sequence[int], connection: sqlite3.Connection
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The owner of each template of some people, of ascending numbers, and the templates."""
        owners, templates = self._templates(vault(), numbers[0], numbers[-1], connection)
        self._counts.update(Counter(owners.tolist()).values())
        return owners, templates

    def _templates(
        self, vault: Vault, first: int, last: int, connection: sqlite3.Connection
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Owners (n,) and templates (n, size) of this encoder of everybody from one number to another, in order."""
        query = """SELECT number, record, sealed FROM person JOIN template ON person = number
                   WHERE number BETWEEN ? AND ? AND fingerprint = ? ORDER BY number, id"""
        rows = connection.execute(query, (first, last, self._fingerprint))
        owners: list[int] = []
        names: list[str] = []
        parts: list[bytes] = []
        for number, own in groupby(rows, itemgetter(0)):
            records, sealed = zip(*[row[1:] for row in own], strict=True)
            name = open_person(self._path, vault, number, records[0]).name
            if len(sealed) > MAX_TEMPLATES:
                raise corrupt(self._path, f"{name} has {len(sealed)} templates, at most {MAX_TEMPLATES} are possible")
            for one in sealed:
                part = open_template(self._path, vault, number, self._fingerprint, one, name)
                if len(part) != 4 * self._size:
                    raise corrupt(self._path, f"{name} has a template that is not {self._size} numbers")
                owners.append(number)
                names.append(name)
                parts.append(part)
        templates = np.frombuffer(b"".join(parts), "<f4").astype(np.float32).reshape(len(parts), self._size)
        finite = np.isfinite(templates).all(axis=1)
        if not finite.all():
            raise corrupt(self._path, f"{names[finite.argmin()]} has a template that is no finite number")
        return np.array(owners, np.int64), templates

"""The templates in memory, kept in step with the file: only people who changed are read again."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Metric, Rule
from edge_oneshot_device.gallery import audit
from edge_oneshot_device.gallery.audit import Row, altered_row
from edge_oneshot_device.gallery.encoders import require_encoder
from edge_oneshot_device.gallery.people import PersonDetails
from edge_oneshot_device.gallery.roster import count_of, details_of
from edge_oneshot_device.gallery.sealed import open_person, open_template
from edge_oneshot_device.gallery.storage_errors import corrupt
from edge_oneshot_device.gallery.transaction import TRIES, ChangedError, Reading, Transaction
from edge_oneshot_device.matching.search import Index
from edge_oneshot_device.matching.thresholds import MAX_TEMPLATES

_CHUNK: Final = 500  # people read at once: a door that writes waits for no more than these


class TemplateCache:
    """The templates of a gallery in memory.

    Args:
        size: Length of an embedding.
        metric: How embeddings are compared, see `decision.scores`.
        rule: How the scores of a person's templates are joined, see `decision.join`.

    Attributes:
        index: Searches them; its persons are the gallery's numbers.
        version: The file's `data_version` that it was brought in step with; -1 when it has to be brought in step.
    """

    def __init__(self, size: int, metric: Metric, rule: Rule) -> None:
        self.index = Index(size, metric, rule)
        self.version = -1
        self._size = size
        self._seen: Row | None = None
        self._counts: Counter[int] = Counter()  # how many people have so many templates

    @property
    def fewest(self) -> int:
        """The smallest number of templates that anybody has; 1 where nobody is enrolled."""
        return min((count for count, people in self._counts.items() if people), default=1)

    @property
    def most(self) -> int:
        """The largest number of templates that anybody has; 1 where nobody is enrolled."""
        return max((count for count, people in self._counts.items() if people), default=1)

    def follow(self, reading: Reading) -> None:
        """Read what changed since the last call; everything at first, and after a `restore`.

        Args:
            reading: `Gallery.reading`.

        Raises:
            IntegrityError: Reason ``gallery_corrupt``, ``gallery_of_other_fingerprint`` or ``audit_altered``.
            ChangedError: Audit rows were pruned as fast as they were read.
        """
        for _ in range(TRIES):
            with reading() as transaction:
                path = transaction.path
                numbers = self._catch_up(transaction)
            if numbers is None:
                return
            self._counts.clear()
            try:
                self.index.load(self._batches(reading, numbers))
            except BaseException:
                self._seen = None
                raise
            # once more, for what changed between the batches
        raise ChangedError(path)

    def clear(self) -> None:
        """Have the next `follow` read everything, whatever the audit trail says."""
        self._seen, self.version = None, -1

    def is_current(self, transaction: Transaction) -> bool:
        """Whether nobody's templates changed since `follow`, as far as the audit trail says."""
        if self._seen is None or audit.changed_since(transaction, self._seen) != set():
            return False
        self._seen = audit.last_row(transaction)
        return True

    def require_current(self, transaction: Transaction) -> None:
        """Check that the templates in memory are still those that the audit trail says are in the file.

        Raises:
            ChangedError: They are not: bring the cache in step, and compare again.
            IntegrityError: Reason ``gallery_of_other_fingerprint``.
        """
        require_encoder(transaction)
        if not self.is_current(transaction):
            self.version = -1
            raise ChangedError(transaction.path)

    def require_person(self, transaction: Transaction, number: int) -> PersonDetails:
        """Check that the file has a person with as many templates as there are in memory.

        `require_current` follows the audit trail, but another program that deletes from the file writes no row there.

        Args:
            transaction: A transaction.
            number: Of the person.

        Returns:
            The details of the person.

        Raises:
            ChangedError: It has not: everything is read again.
        """
        details = details_of(transaction, number)
        if details is None or count_of(transaction, number) != len(self.index.templates_of(number)):
            self.clear()
            raise ChangedError(transaction.path)
        return details

    def _catch_up(self, transaction: Transaction) -> list[int] | None:
        """Read the people who changed; where the audit trail cannot tell who did, return everybody's numbers."""
        require_encoder(transaction)
        changed = None if self._seen is None else audit.changed_since(transaction, self._seen)
        for number in changed or ():
            _, templates = self._read(transaction, number, number)
            self._counts[len(self.index.templates_of(number))] -= 1
            self._counts[len(templates)] += 1
            if len(templates):
                self.index.put(number, templates)
            else:
                self.index.remove(number)
        del self._counts[0]
        self._seen = audit.last_row(transaction)
        if self._seen is None:
            raise altered_row(transaction.path, 1, "is missing")
        if changed is not None:
            return None
        return [row[0] for row in transaction.execute("SELECT number FROM person ORDER BY number")]

    def _batches(
        self, reading: Reading, numbers: Sequence[int]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """The person of each template, and the templates, of some people at a time."""
        for start in range(0, len(numbers), _CHUNK):
            some = numbers[start : start + _CHUNK]
            with reading() as transaction:
                owners, templates = self._read(transaction, some[0], some[-1])
            self._counts.update(Counter(owners.tolist()).values())
            yield owners, templates

    def _read(self, transaction: Transaction, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Persons (n,) and templates (n, size) of everybody from one number to another, in order."""
        query = """SELECT number, record, sealed FROM person JOIN template ON person = number
                   WHERE number BETWEEN ? AND ? AND fingerprint = ? ORDER BY number, id"""
        rows = transaction.execute(query, (first, last, transaction.fingerprint))
        path = transaction.path
        owners: list[int] = []
        names: list[str] = []
        parts: list[bytes] = []
        for number, own in groupby(rows, itemgetter(0)):
            details, sealed = zip(*[row[1:] for row in own], strict=True)
            name = open_person(transaction, number, details[0]).name
            if len(sealed) > MAX_TEMPLATES:
                raise corrupt(path, f"{name} has {len(sealed)} templates, at most {MAX_TEMPLATES} are possible")
            for one in sealed:
                part = open_template(transaction, number, one, name)
                if len(part) != 4 * self._size:
                    raise corrupt(path, f"{name} has a template that is not {self._size} numbers")
                owners.append(number)
                names.append(name)
                parts.append(part)
        templates = np.frombuffer(b"".join(parts), "<f4").astype(np.float32).reshape(len(parts), self._size)
        finite = np.isfinite(templates).all(axis=1)
        if not finite.all():
            raise corrupt(path, f"{names[finite.argmin()]} has a template that is no finite number")
        return np.array(owners, np.int64), templates

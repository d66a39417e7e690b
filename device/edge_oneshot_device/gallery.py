"""The people enrolled, their templates, and what may be done with them."""

import os
import sqlite3
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.database import clear_errors, connect, corrupt, transaction
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.matching import MAX_TEMPLATES

LONGEST_NAME: Final = 128


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody enrolled.

    Attributes:
        person: The name.
        templates: How many templates they have.
        enrolled: When first enrolled or last replaced: UTC, ISO 8601.
        fingerprint: Of the encoder that made the templates.
    """

    person: str
    templates: int
    enrolled: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A change of the gallery.

    Attributes:
        person: The name, as it is kept.
        templates: How many templates the person has now.
        reason: ``enrolled``, ``added``, ``replaced`` or ``forgotten``.
        fingerprint: Of the encoder that made the templates.
    """

    person: str
    templates: int
    reason: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Templates:
    """All templates, in memory; the arrays are read-only.

    Attributes:
        names: The persons.
        matrix: float32 (n, d), contiguous, the templates of a person one after the other.
        owners: int64 (n,): the person of each row, an index into `names`.
        counts: int64 (len(names),): templates of each person.
    """

    names: tuple[str, ...]
    matrix: NDArray[np.float32]
    owners: NDArray[np.int64]
    counts: NDArray[np.int64]


def person_name(name: str) -> str:
    """The name as it is kept: NFC, without spaces around it.

    Raises:
        InputError: Reason ``bad_name``: blank, too long or not printable.
    """
    normal = unicodedata.normalize("NFC", name).strip(" ")
    if not normal or len(normal) > LONGEST_NAME or not normal.isprintable():
        message = f"{name[:40]!a} is no name for a person: it takes 1 to {LONGEST_NAME} printable characters"
        raise InputError(message, reason="bad_name")
    return normal


class Gallery:
    """A gallery file, opened for one encoder. A context manager, to be used by one thread.

    Several processes may have the file open: each sees the others' changes at its next call.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, fingerprint: str, size: int) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self._size = size
        self._connection = connection
        self._templates: Templates | None = None
        self._version = -1

    @classmethod
    def open(cls, path: str | os.PathLike[str], fingerprint: str, size: int) -> Self:
        """Open a gallery, or create it, mode 0600, in a folder that exists.

        Args:
            path: The file.
            fingerprint: Of the encoder whose templates it is to hold.
            size: Length of that encoder's embeddings.

        Raises:
            IntegrityError: Reason ``gallery_corrupt``, or ``gallery_newer``.
            MachineError: The disk does not allow it.
        """
        path = Path(path)
        return cls(connect(path), path, fingerprint, size)

    def __enter__(self) -> Self:
        """The gallery itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._connection.close()

    def people(self) -> list[Person]:
        """Everybody enrolled, by name, under whatever encoder."""
        query = """SELECT name, count(template.id), enrolled, fingerprint
                   FROM person LEFT JOIN template ON template.person = person.id
                   GROUP BY person.id ORDER BY name"""
        with clear_errors(self.path):
            return [Person(*row) for row in self._connection.execute(query)]

    def templates(self) -> Templates:
        """The templates to match with, as they are in the file now.

        Raises:
            IntegrityError: Reason ``gallery_of_other_fingerprint`` or ``gallery_corrupt``.
        """
        with clear_errors(self.path):
            # data_version changes when another connection commits; own changes drop the matrix
            version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
            if self._templates is None or version != self._version:
                self._templates = self._load()
                self._version = version
            return self._templates

    def enrol(
        self,
        person: str,
        templates: NDArray[np.float32],
        *,
        add: bool = False,
        replace: bool = False,
        most: int = MAX_TEMPLATES,
    ) -> Enrolment:
        """Enrol a person, or change their templates, in one transaction.

        Args:
            person: The name.
            templates: float32 (k, d), k >= 1.
            add: Add to the templates of somebody enrolled.
            replace: Put these in their place.
            most: Templates that a person may have.

        Raises:
            InputError: Reason ``bad_name``, ``already_enrolled``, ``not_enrolled`` or ``too_many_templates``.
            IntegrityError: Reason ``gallery_of_other_fingerprint``.
            MachineError: Reason ``not_finite``, or the disk does not allow it.
        """
        if add and replace:
            raise ValueError("add and replace exclude each other")
        if templates.ndim != 2 or templates.shape[1] != self._size or not len(templates):
            raise ValueError(f"templates of shape {templates.shape}: expected (k, {self._size})")
        person = person_name(person)
        if not np.isfinite(templates).all():
            message = f"a template of {person} is no finite number: the model or its runtime is at fault"
            raise MachineError(message, reason="not_finite")
        with self.changing() as connection:
            self.require_fingerprint(except_for=person if replace else None)
            row = self._find(person)
            if row is None and (add or replace):
                raise not_enrolled(person)
            if row is not None and not (add or replace):
                message = f"{person} is enrolled already: use --add to add images, --replace to start anew"
                raise InputError(message, reason="already_enrolled")
            count = len(templates) + (row[1] if row is not None and add else 0)
            if count > most:
                message = f"{person} would have {count} templates: at most {most} a person are possible"
                raise InputError(message, reason="too_many_templates")
            if row is not None and replace:
                connection.execute("DELETE FROM person WHERE id = ?", (row[0],))
            if row is not None and add:
                key: int | None = row[0]
            else:
                insert = "INSERT INTO person (name, enrolled, fingerprint) VALUES (?, ?, ?)"
                now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                key = connection.execute(insert, (person, now, self.fingerprint)).lastrowid
            rows = [(key, template.astype("<f4").tobytes()) for template in templates]
            connection.executemany("INSERT INTO template (person, embedding) VALUES (?, ?)", rows)
        return Enrolment(person, count, "added" if add else "replaced" if replace else "enrolled", self.fingerprint)

    def forget(self, person: str) -> Enrolment:
        """Delete a person; what the file held of them is overwritten with zeros.

        Raises:
            InputError: Reason ``bad_name`` or ``not_enrolled``.
            MachineError: The disk does not allow it.
        """
        person = person_name(person)
        with self.changing() as connection:
            row = self._find(person)
            if row is None:
                raise not_enrolled(person)
            connection.execute("DELETE FROM person WHERE id = ?", (row[0],))
        return Enrolment(person, 0, "forgotten", row[2])

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, the only one that writes: committed at the end, undone by an error."""
        with clear_errors(self.path), transaction(self._connection):
            self._templates = None
            yield self._connection

    def require_fingerprint(self, except_for: str | None = None) -> None:
        """Make sure that everybody was enrolled with this encoder.

        Raises:
            IntegrityError: Reason ``gallery_of_other_fingerprint``.
        """
        query = "SELECT count(*) FROM person WHERE fingerprint != ? AND name IS NOT ?"
        with clear_errors(self.path):
            foreign = int(self._connection.execute(query, (self.fingerprint, except_for)).fetchone()[0])
        if foreign:
            raise self._foreign(foreign)

    def _foreign(self, count: int) -> IntegrityError:
        who = "1 person is" if count == 1 else f"{count} people are"
        message = (
            f"{who} enrolled in {self.path} with another encoder than {self.fingerprint[:12]}: "
            "forget and enrol them again, or init the bundle that they were enrolled with"
        )
        return IntegrityError(message, reason="gallery_of_other_fingerprint")

    def _find(self, person: str) -> tuple[int, int, str] | None:
        """Key, count of templates and fingerprint of a person."""
        query = """SELECT person.id, count(template.id), fingerprint
                   FROM person LEFT JOIN template ON template.person = person.id
                   WHERE name = ? GROUP BY person.id"""
        row: tuple[int, int, str] | None = self._connection.execute(query, (person,)).fetchone()
        return row

    def _load(self) -> Templates:
        query = """SELECT name, fingerprint, embedding
                   FROM person LEFT JOIN template ON template.person = person.id
                   ORDER BY person.id, template.id"""
        rows = self._connection.execute(query).fetchall()
        foreign = {name for name, fingerprint, _ in rows if fingerprint != self.fingerprint}
        if foreign:
            raise self._foreign(len(foreign))
        expected = 4 * self._size
        for name, _, blob in rows:
            if blob is None or len(blob) != expected:
                raise corrupt(self.path, f"{name} has a template of {len(blob or b'')} bytes, expected {expected}")
        flat = np.frombuffer(b"".join(row[2] for row in rows), dtype="<f4")
        matrix = flat.astype(np.float32).reshape(len(rows), self._size)
        finite = np.isfinite(matrix).all(axis=1)
        if not finite.all():
            raise corrupt(self.path, f"{rows[int(finite.argmin())][0]} has a template that is no finite number")
        per_person = Counter(row[0] for row in rows)
        counts = np.array(list(per_person.values()), dtype=np.int64)
        owners = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        for array in (matrix, owners, counts):
            array.flags.writeable = False
        return Templates(tuple(per_person), matrix, owners, counts)


def not_enrolled(person: str) -> InputError:
    """The error for a person whom the gallery does not know."""
    return InputError(f"{person} is not enrolled: enrol them first, or look at people", reason="not_enrolled")

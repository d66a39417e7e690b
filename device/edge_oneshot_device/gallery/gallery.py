"""The gallery: people and their templates, sealed, each change in one transaction with its row of the record."""

import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Metric, Rule
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.gallery import audit, settings, wiping
from edge_oneshot_device.gallery.access import ALWAYS, Access, changed
from edge_oneshot_device.gallery.aside import remove_leftovers
from edge_oneshot_device.gallery.clock import SYSTEM, Clock
from edge_oneshot_device.gallery.database import (
    PAUSE_SECONDS,
    clear_errors,
    connect,
    corrupt,
    data_version,
    reading,
    transaction,
    write,
)
from edge_oneshot_device.gallery.encoders import encoders, people_of, put_in_use
from edge_oneshot_device.gallery.keyring import begin_chain, open_keyring
from edge_oneshot_device.gallery.keys import KeySource, find_key
from edge_oneshot_device.gallery.mirror import TRIES, ChangedError, Mirror, changing
from edge_oneshot_device.gallery.people import (
    Enrolment,
    Person,
    Record,
    new_name,
    not_enrolled,
    person_name,
    with_access,
)
from edge_oneshot_device.gallery.reserve import keep_reserve, release_reserve
from edge_oneshot_device.gallery.sealed import as_stored, open_person, write_person, write_photo, write_template
from edge_oneshot_device.matching.decision import Candidate
from edge_oneshot_device.matching.thresholds import MAX_TEMPLATES

T = TypeVar("T")


class Gallery:
    """A gallery file, opened for one encoder. A context manager, to be used by one thread.

    Several processes may have the file open: each sees the others' changes at its next call.

    Attributes:
        taken_over: How many people were in a file whose people were not sealed; see `open`.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, fingerprint: str, size: int, source: KeySource, clock: Clock
    ) -> None:
        self.taken_over = 0
        self.path = path
        self.fingerprint = fingerprint
        self.clock = clock
        self.source = source
        self.size = size
        self._connection = connection
        self._open = True
        self._place = _place(path)
        self.keyring = open_keyring(connection, path, source)
        self._mirror: Mirror | None = None
        self._end: audit.Row | None = None  # of the record, as far as it was made sure of
        self._version = -1  # of the file, as far as the mirror follows it
        self._released = 0.0  # when it was changed here, and its version then
        self._released_version = -1

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        fingerprint: str = "",
        size: int = 0,
        key: KeySource | None = None,
        clock: Clock = SYSTEM,
        *,
        create: bool = False,
    ) -> Self:
        """Open a gallery.

        Args:
            path: The file.
            fingerprint: Of the encoder whose templates it is to hold; without one only settings and record are of
                use, until `use_with`.
            size: Length of that encoder's embeddings.
            key: Where the key is that seals it; None looks where `find_key` says.
            clock: What dates and delays go by.
            create: Make it, mode 0600, if there is none, and take over the people of one that is not sealed: whoever
                could write that file chose them, so this is for an administrator to say.

        Raises:
            IntegrityError: Reason ``gallery_corrupt``, ``gallery_newer``, ``gallery_altered``, ``foreign_file``,
                ``wrong_key``, or as `read_key` says; without `create`, ``gallery_missing`` or ``gallery_unsealed``.
            MachineError: The disk does not allow it.
        """
        path = Path(path)
        source = find_key() if key is None else key
        place = _place(path)
        taken: list[int] = []

        def begin(connection: sqlite3.Connection) -> None:
            taken.append(connection.execute("SELECT count(*) FROM open_person").fetchone()[0])
            begin_chain(connection, source, clock)

        wiping.begin_use(place)
        try:
            connection = connect(path, begin, create=create)
        except BaseException:
            wiping.end_use(place)
            raise
        try:
            keep_reserve(path.parent)
            remove_leftovers(path.parent)
            gallery = cls(connection, path, fingerprint, size, source, clock)
            gallery.taken_over = sum(taken)
            with suppress(MachineError):  # for nobody waits for it here
                gallery.wipe()
            return gallery
        except BaseException:
            connection.close()
            wiping.end_use(place)
            raise

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
        with clear_errors(self.path):  # in another thread than it was opened in
            self._connection.close()
        if self._open:
            self._open = False
            wiping.end_use(self._place)

    def use_with(self, fingerprint: str, size: int) -> None:
        """Say which encoder it is used with from now on; arguments as of `open`."""
        self.fingerprint = fingerprint
        self.size = size
        self._mirror, self._version = None, -1

    def settings(self, connection: sqlite3.Connection) -> bytes | None:
        """What `install` was given, in a transaction of `read` or `change`; None where there is nothing.

        Raises:
            IntegrityError: Reason ``settings_altered``, or ``audit_altered`` of the record's last row.
        """
        self.newest(connection)
        return settings.read(connection, self.path, self.keyring)

    def installed(self, connection: sqlite3.Connection) -> tuple[bytes, dict[str, Any]] | None:
        """The settings, and what the record says of them; raises what `settings` does."""
        content, row = self.settings(connection), audit.row_at(connection, settings.row_of(connection))
        if content is None or row is None:
            return None
        return content, msgspec.json.decode(row.detail, type=dict[str, Any])

    def install(self, connection: sqlite3.Connection, content: bytes, detail: Mapping[str, Any]) -> None:
        """Put this encoder in use with settings, in a transaction of `change`; the record says so.

        Args:
            connection: In the transaction.
            content: The settings, which are sealed.
            detail: What the record is to say of them.
        """
        self.use_encoder(connection, detail)
        self._bind_settings(connection, content)

    def _bind_settings(self, connection: sqlite3.Connection, content: bytes) -> None:
        last = audit.last_row(connection)
        assert last is not None
        settings.write(connection, self.keyring, last.seq, content)

    def people(self) -> list[Person]:
        """Everybody enrolled with this encoder, by name."""
        query = """SELECT number, record, count(*) FROM person JOIN template ON person = number
                   WHERE fingerprint = ? GROUP BY number"""
        rows = self.read(lambda connection: connection.execute(query, (self.fingerprint,)).fetchall())
        people = []
        for number, sealed, count in rows:
            record = open_person(self.path, self.keyring.vault, number, sealed)
            people.append(_person(record, count, self.fingerprint))
        return sorted(people, key=lambda person: person.person)

    def find(self, connection: sqlite3.Connection, person: str) -> tuple[int, int]:
        """Number and count of templates of somebody enrolled, in a transaction of `read` or `change`.

        Raises:
            InputError: Reason ``bad_name`` or ``not_enrolled``.
        """
        person = person_name(person)
        row = self.look_up(connection, person)
        if row is None or not row[1]:
            raise not_enrolled(person)
        return row

    def number_of(self, person: str) -> int | None:
        """The number that a name is kept under; None for nobody."""
        row = self.read(lambda connection: self.look_up(connection, person_name(person)))
        return None if row is None else row[0]

    def name_of(self, number: int) -> str | None:
        """The name of somebody enrolled; None for somebody who was forgotten."""
        record = self.read(lambda connection: self.record_of(connection, number))
        return None if record is None else record.name

    def record_of(self, connection: sqlite3.Connection, number: int) -> Record | None:
        """Name and access of a person, in a transaction of `read` or `change`; None when they are gone."""
        query = "SELECT record FROM person WHERE number = ?"
        row = connection.execute(query, (number,)).fetchone()
        return None if row is None else open_person(self.path, self.keyring.vault, number, *row)

    def count_of(self, connection: sqlite3.Connection, number: int) -> int:
        """How many templates of this encoder the file has of a person, in a transaction of `read` or `change`."""
        query = "SELECT count(*) FROM template WHERE person = ? AND fingerprint = ?"
        return int(connection.execute(query, (number, self.fingerprint)).fetchone()[0])

    def mirror(self, metric: Metric, rule: Rule) -> Mirror:
        """The templates in memory, as they are in the file now.

        Args:
            metric: How they are compared, see `decision.scores`; the same at every call.
            rule: How the scores of a person's templates are joined, see `decision.join`; likewise.

        Raises:
            IntegrityError: Reason ``gallery_of_other_fingerprint`` or ``gallery_corrupt``.
        """
        with clear_errors(self.path):
            version = data_version(self._connection)  # of others' changes: one's own reset it
        if self._mirror is None:
            self._mirror = Mirror(self.path, self.fingerprint, self.size, metric, rule)
            self._version = -1
        if version != self._version:
            self.read(self.require_encoder)
            self._mirror.follow(self.read, lambda: self.keyring.vault)
            self._version = version
        return self._mirror

    def is_current(self, connection: sqlite3.Connection) -> bool:
        """Whether nobody's templates changed since `mirror` was called; in a transaction of `change`.

        Raises:
            IntegrityError: Reason ``gallery_of_other_fingerprint``.
        """
        self.require_encoder(connection)
        if self._mirror is not None and self._mirror.is_current(connection):
            return True
        self._version = -1
        return False

    def agrees(self, connection: sqlite3.Connection, number: int) -> bool:
        """Whether the file has as many templates of a person as `mirror`, which is current; else it is read anew.

        It would follow the record, but somebody else who deletes from the file leaves no row there.

        Args:
            connection: In a transaction of `read` or `change`.
            number: Of the person.
        """
        held = 0 if self._mirror is None else len(self._mirror.index.templates_of(number))
        if held == self.count_of(connection, number):
            return True
        self.read_anew()
        return False

    def read_anew(self) -> None:
        """Have the next `mirror` read everything, whatever the record says of changes."""
        self._mirror = None

    def newest(self, connection: sqlite3.Connection) -> audit.Row:
        """The record's last row, made sure of; in a transaction of `read` or `change`.

        Raises:
            IntegrityError: Reason ``audit_altered``.
        """
        row = audit.last_row(connection)
        if row is None:
            raise audit.altered(self.path, 1, "is missing")
        if row != self._end:
            audit.verify_row(connection, self.path, self.keyring.chains, row)
            self._end = row
        return row

    def enrol(
        self,
        person: str,
        templates: NDArray[np.float32],
        *,
        add: bool = False,
        replace: bool = False,
        most: int = MAX_TEMPLATES,
        access: Access | None = None,
        photos: Sequence[bytes] = (),
        resembles: Candidate | None = None,
        compared: bool = False,
    ) -> Enrolment:
        """Enrol a person, or change their templates, in one transaction.

        Args:
            person: The name.
            templates: (k, d), k >= 1, of finite numbers of float32.
            add: Add to the templates of somebody enrolled.
            replace: Put these in their place.
            most: Templates that a person may have.
            access: When they may come in, as `set_access` takes it; None: always, or as before.
            photos: What the templates were made from, to keep; image files.
            resembles: Another person whom an image would be taken for, as far as is known.
            compared: `resembles` is the answer of what `mirror` returned last.

        Raises:
            ChangedError: With `compared`, somebody else's templates changed since.
            InputError: Reason ``bad_name``, ``already_enrolled``, ``not_enrolled`` or ``too_many_templates``.
            IntegrityError: Reason ``gallery_of_other_fingerprint``.
            MachineError: Reason ``not_finite``, ``not_wiped`` (see `wipe`), or the disk does not allow it.
        """
        if add and replace:
            raise ValueError("add and replace exclude each other")
        if templates.ndim != 2 or templates.shape[1] != self.size or not len(templates):
            raise ValueError(f"templates of shape {templates.shape}: expected (k, {self.size})")
        person = new_name(person)
        stored = [as_stored(template) for template in templates]

        def work(connection: sqlite3.Connection) -> tuple[Enrolment, bool]:
            self.require_encoder(connection)
            if compared and not self.is_current(connection):
                raise ChangedError
            self.use_encoder(connection)
            row = self.look_up(connection, person)
            there = 0 if row is None else row[1]
            if not there and (add or replace):
                raise not_enrolled(person)
            if there and not (add or replace):
                message = f"{person} is enrolled already: use --add to add images, --replace to start anew"
                raise InputError(message, reason="already_enrolled")
            count = len(templates) + (there if add else 0)
            if count > most:
                message = f"{person} would have {count} templates: at most {most} a person are possible"
                raise InputError(message, reason="too_many_templates")
            act = "added" if add else "replaced" if replace else "enrolled"
            number = new_number() if row is None else row[0]
            former = self.record_of(connection, number)
            enrolled = former.enrolled if former is not None and add else self._now()
            anew = row is not None and not add
            if anew:
                # photos outlast the templates of a former encoder
                own = "DELETE FROM template WHERE person = ? AND fingerprint = ?"
                write(connection, own, (number, self.fingerprint), rows=there)
                query = "SELECT count(*) FROM photo WHERE person = ?"
                kept = connection.execute(query, (number,)).fetchone()[0]
                write(connection, "DELETE FROM photo WHERE person = ?", (number,), rows=kept)
                wiping.mark(connection)
            vault = self.keyring.vault
            before = ALWAYS if former is None else former.access
            record = with_access(person, enrolled, before if access is None else changed(before, access))
            write_person(connection, vault, number, record)
            for template in stored:
                write_template(connection, vault, number, self.fingerprint, template)
            for photo in photos:
                write_photo(connection, vault, number, photo)
            self.append_audit(connection, act, number, {"templates": count, "fingerprint": self.fingerprint})
            return Enrolment(person, count, act, self.fingerprint, resembles), anew

        done, anew = self.change(work)
        if anew:
            self.wipe()
        return done

    def set_access(self, person: str, access: Access) -> Person:
        """Say when a person may come in.

        Args:
            person: The name.
            access: What it names is changed and the rest stays as before; `ALWAYS`: at any time.

        Raises:
            InputError: Reason ``bad_name``, ``not_enrolled`` or, as `access.changed` says, ``bad_date``.
            MachineError: The disk does not allow it.
        """

        def work(connection: sqlite3.Connection) -> Person:
            number, count = self.find(connection, person)
            former = self.record_of(connection, number)
            assert former is not None
            record = with_access(former.name, former.enrolled, changed(former.access, access))
            write_person(connection, self.keyring.vault, number, record)
            self.append_audit(connection, "access", number, msgspec.structs.asdict(record.access))
            return _person(record, count, self.fingerprint)

        return self.change(work)

    def forget(self, person: str) -> Enrolment:
        """Delete a person; nothing of what the file held of them is left in it.

        Raises:
            InputError: Reason ``bad_name`` or ``not_enrolled``.
            MachineError: Reason ``not_wiped`` (see `wipe`), or the disk does not allow it.
        """
        person = person_name(person)

        def work(connection: sqlite3.Connection) -> Enrolment:
            row = self.look_up(connection, person)
            if row is None:
                raise not_enrolled(person)
            write(connection, "DELETE FROM person WHERE number = ?", (row[0],))
            wiping.mark(connection)
            self.append_audit(connection, "forgotten", row[0], {"templates": 0})
            return Enrolment(person, 0, "forgotten", self.fingerprint)

        done = self.change(work)
        self.wipe()
        return done

    def wipe(self) -> None:
        """Overwrite what is left in the file of what was deleted, if anything was; see `wiping`.

        Raises:
            MachineError: Reason ``not_wiped``: something may be left until the next opening; the change was made.
        """
        try:
            wiping.wipe(self._place, self._connection)
        except (IntegrityError, MachineError) as error:  # SQLite takes EIO in a read for damage
            message = (
                f"it is done, but sealed traces of what was deleted may be left in {self.path} ({error.reason}): "
                "the next command overwrites them; check the disk"
            )
            raise MachineError(message, reason="not_wiped") from error
        finally:
            self._released = time.monotonic()

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, which reads at one moment; keep it short, for writers wait."""
        return self._within(reading, work)

    def change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, in the only transaction that writes: committed at the end, undone by an error.

        When the disk is full, the reserve is given up and `work` is called once more.

        Raises:
            IntegrityError: Reason ``wrong_key``, ``gallery_corrupt``, or what `work` raises.
            MachineError: The disk does not allow it, or another process had the file for too long.
        """
        self._give_way()
        try:
            return self._within(transaction, work)
        except MachineError as error:
            if error.reason != "disk_full" or not release_reserve(self.path.parent):
                raise
        finally:
            self._released = time.monotonic()
        return self._within(transaction, work)

    def _give_way(self) -> None:
        """Where others write too, let them in between two changes of one's own: they look only now and then."""
        with clear_errors(self.path):
            version = data_version(self._connection)
        if version != self._released_version:
            time.sleep(max(0.0, self._released + 2 * PAUSE_SECONDS - time.monotonic()))
        self._released_version = version

    def append_audit(
        self,
        connection: sqlite3.Connection,
        act: str,
        person: int | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Append to the record, in the transaction of what it records; see `audit.append`.

        Raises:
            IntegrityError: Reason ``audit_altered``: the row before is none of the record; ``gallery_altered``.
        """
        if act in audit.CHANGES:
            self._version = -1  # one's own changes are for the mirror too
        now, last = self.clock.now(), self.newest(connection)
        self._end = audit.append(connection, self.keyring.chain, now, act, person, detail, after=last)

    def check_audit(self, against: audit.Head | None = None) -> audit.AuditReport:
        """Walk the whole record; raises what `audit.check` does."""
        for _ in range(TRIES):
            before = self.read(audit.beginning)  # makes sure of the keys
            try:
                return audit.check(self._connection, self.path, self.keyring.chains, against)
            except IntegrityError:
                # another process let go of rows or rotated the key meanwhile: that is no alteration
                if self.read(audit.beginning) == before:
                    raise
        raise changing(self.path)

    def rows(self, after: int = 0) -> Iterator[audit.Row]:
        """The record, from its first row or after a number."""
        return audit.rows(self._connection, self.path, after)

    def prune_audit(self, before: datetime) -> int:
        """Let go of what the record says of the time before a date; returns how many rows those were.

        The row that the settings are bound to is written anew where it would go.
        """

        def work(connection: sqlite3.Connection) -> int:
            self.newest(connection)  # made sure of, for the next row is tied to it
            own = self.installed(connection)
            pruned = audit.prune(connection, self.keyring.chain, self.clock.now(), before)
            if own is not None and audit.row_at(connection, settings.row_of(connection)) is None:
                content, detail = own
                self.append_audit(connection, "installed", detail=detail)
                self._bind_settings(connection, content)
            return pruned

        return self.change(work)

    def copy_to(self, target: sqlite3.Connection, pages: int) -> None:
        """Copy the whole file, as it is at one moment, so many pages at a time."""
        with clear_errors(self.path):
            self._connection.backup(target, pages=pages, sleep=0.01)

    def copy_from(self, source: Self) -> None:
        """Put a whole other gallery in the place of this file's content, in one transaction."""
        self._version = -1
        with clear_errors(self.path):
            source._connection.backup(self._connection)

    def use_encoder(self, connection: sqlite3.Connection, installed: Mapping[str, Any] | None = None) -> None:
        """Put this encoder in use, in a transaction of `change`; see `put_in_use`.

        Args:
            connection: In a transaction that writes.
            installed: What the record is to say of it; None says something only where another was in use.
        """
        former = encoders(connection)
        kept = put_in_use(connection, self.fingerprint)
        if installed is not None or (former and kept != former):
            self.append_audit(connection, "installed", detail={**(installed or {}), "encoders": kept})

    def require_encoder(self, connection: sqlite3.Connection) -> None:
        """Make sure that the gallery is in use with this encoder, in a transaction of the caller.

        Raises:
            IntegrityError: Reason ``gallery_of_other_fingerprint``: another one was put in use.
        """
        *_, in_use = [self.fingerprint, *encoders(connection)]
        if in_use != self.fingerprint:
            people = people_of(connection, in_use)
            who = "1 person is" if people == 1 else f"{people} people are"
            message = f"{who} enrolled in {self.path} with another encoder than {self.fingerprint[:12]}: init with"
            message += " --re-enrol or --empty, or init the bundle that they were enrolled with"
            raise IntegrityError(message, reason="gallery_of_other_fingerprint")

    def _within(
        self,
        scope: Callable[[sqlite3.Connection], AbstractContextManager[None]],
        work: Callable[[sqlite3.Connection], T],
    ) -> T:
        """What `work` returns in a transaction, in which the keys at hand are those in force."""
        for _ in range(5):  # for it may be rotated again meanwhile
            with clear_errors(self.path), scope(self._connection):
                if self.keyring.is_current(self._connection):
                    return work(self._connection)
            # another process rotated the key
            self.keyring = open_keyring(self._connection, self.path, self.source)
        message = f"{self.path} is being sealed with another key: nothing was changed; try again"
        raise MachineError(message, reason="gallery_busy")

    def _now(self) -> str:
        return self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def look_up(self, connection: sqlite3.Connection, person: str) -> tuple[int, int] | None:
        """Number of a person, and count of their templates of this encoder; in a transaction of the caller."""
        query = """SELECT number, (SELECT count(*) FROM template WHERE person = number AND fingerprint = ?), record
                   FROM person WHERE tag = ?"""
        row = connection.execute(query, (self.fingerprint, self.keyring.vault.tag(person))).fetchone()
        if row is None:
            return None
        number, count, sealed = row
        # the tag alone could have been moved there from another person
        if open_person(self.path, self.keyring.vault, number, sealed).name != person:
            raise corrupt(self.path, f"number {number:016x} has the tag of another name")
        return number, count


def _place(path: Path) -> Path:
    """Where a file is, which is no link itself."""
    return path.parent.resolve() / path.name


def new_number() -> int:
    """For somebody new; random, so that it says nothing of them."""
    return secrets.randbits(62)


def _person(record: Record, templates: int, fingerprint: str) -> Person:
    return Person(
        person=record.name,
        templates=templates,
        enrolled=record.enrolled,
        fingerprint=fingerprint,
        valid_from=record.valid_from,
        valid_until=record.valid_until,
        hours=record.hours,
    )

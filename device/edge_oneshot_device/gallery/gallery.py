"""The gallery: people and their templates, sealed, with an audit trail of every act."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Metric, Rule
from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.gallery import audit, audit_check, database, roster, settings, wiping
from edge_oneshot_device.gallery.access import Access
from edge_oneshot_device.gallery.aside import remove_leftovers
from edge_oneshot_device.gallery.audit import Head, Row
from edge_oneshot_device.gallery.audit_check import AuditReport
from edge_oneshot_device.gallery.clock import SYSTEM, Clock
from edge_oneshot_device.gallery.database import Connection, Pacing, connect, data_version
from edge_oneshot_device.gallery.first_rows import write_first_rows
from edge_oneshot_device.gallery.keyring import open_keyring
from edge_oneshot_device.gallery.keys import KeySource, find_key
from edge_oneshot_device.gallery.owned import place_of
from edge_oneshot_device.gallery.people import Enrolment, Person, person_name
from edge_oneshot_device.gallery.reserve import keep_reserve, release_reserve
from edge_oneshot_device.gallery.roster import NewTemplates
from edge_oneshot_device.gallery.storage_errors import clear_errors
from edge_oneshot_device.gallery.template_cache import TemplateCache
from edge_oneshot_device.gallery.transaction import ReserveReleasedError, Transaction, with_reserve
from edge_oneshot_device.matching.thresholds import MAX_TEMPLATES

_ROTATIONS: Final = 5  # of the key by other processes, before a transaction gives up


class Gallery:
    """A gallery file, opened for one encoder. A context manager, to be used by one thread.

    Several processes may have the file open: each sees the others' changes at its next call.

    Attributes:
        path: The file.
        fingerprint: The encoder that it is used with.
        size: Length of that encoder's embeddings.
        source: Where its key is.
        clock: What dates and delays are taken from.
        keyring: The keys in force.
        taken_over: How many people were in a file of version 1, which was not sealed; see `open`.
    """

    def __init__(
        self, connection: Connection, path: Path, fingerprint: str, size: int, source: KeySource, clock: Clock
    ) -> None:
        self.taken_over = 0
        self.path = path
        self.fingerprint = fingerprint
        self.clock = clock
        self.source = source
        self.size = size
        self._connection = connection
        self._open = True
        self.keyring = open_keyring(connection, path, source)
        self._cache: TemplateCache | None = None
        self._verified: Row | None = None  # the newest row of the audit trail that was verified
        self._pacing = Pacing(connection)

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
            fingerprint: The encoder whose templates it holds; without one only settings and audit trail can be used,
                until `use_with`.
            size: Length of that encoder's embeddings.
            key: Where the key is that seals it; None looks where `find_key` says.
            clock: What dates and delays are taken from.
            create: Create the file, mode 0600, if there is none, and take over the people of a file of version 1.
                Whoever could write that file chose them, so only an administrator may decide this.

        Raises:
            IntegrityError: Reason ``gallery_corrupt``, ``gallery_newer``, ``gallery_altered``, ``foreign_file``,
                ``wrong_key``, or as `read_key` says; without `create`, ``gallery_missing`` or ``gallery_unsealed``.
            MachineError: The disk does not allow it.
        """
        path = Path(path)
        source = find_key() if key is None else key
        place = place_of(path)
        taken: list[int] = []
        wiping.begin_use(place)
        try:
            connection = connect(path, lambda new: taken.append(write_first_rows(new, source, clock)), create=create)
        except BaseException:
            wiping.end_use(place)
            raise
        try:
            keep_reserve(path.parent)
            remove_leftovers(path.parent)
            gallery = cls(connection, path, fingerprint, size, source, clock)
            gallery.taken_over = sum(taken)
            with suppress(MachineError):  # a wipe that fails here is tried again at the next opening
                gallery.wipe()
            return gallery
        except BaseException:
            connection.close()
            wiping.end_use(place)
            raise

    def __enter__(self) -> Self:
        """The gallery itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        with clear_errors(self.path):  # fails in another thread than the one that opened it
            self._connection.close()
        if self._open:
            self._open = False
            wiping.end_use(self._connection.place)

    def use_with(self, fingerprint: str, size: int) -> None:
        """Use it with another encoder from now on; arguments as for `open`."""
        self.fingerprint = fingerprint
        self.size = size
        self._cache = None

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A transaction that reads: everything is of one moment. Keep it short, for writers wait."""
        with self._transaction(database.reading) as transaction:
            yield transaction

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """A transaction that writes: committed at the end, undone by an error.

        Call it in a function with `with_reserve`, which tries once more with the room of the reserve.

        Raises:
            IntegrityError: Reason ``wrong_key``, ``gallery_corrupt``, ``gallery_altered``, or what the body raises.
            MachineError: The disk does not allow it, or another process had the file for too long. A
                `ReserveReleasedError` where the disk was full, and the reserve has made room since.
        """
        self._pacing.pause()
        try:
            with self._transaction(database.writing) as transaction:
                yield transaction
        except MachineError as error:
            if error.reason == "disk_full" and release_reserve(self.path.parent):
                raise ReserveReleasedError(str(error), reason=error.reason) from error
            raise
        finally:
            self._pacing.released()

    def people(self) -> list[Person]:
        """Everybody enrolled with this encoder, by name.

        Raises:
            IntegrityError: The gallery is damaged.
            MachineError: The disk failed.
        """
        return roster.people(self.reading)

    def number_of(self, person: str) -> int | None:
        """The number that a name is kept under; None for nobody."""
        with self.reading() as transaction:
            row = roster.look_up(transaction, person_name(person))
        return None if row is None else row[0]

    def name_of(self, number: int) -> str | None:
        """The name of a person; None where they were forgotten."""
        with self.reading() as transaction:
            details = roster.details_of(transaction, number)
        return None if details is None else details.name

    def template_cache(self, metric: Metric, rule: Rule) -> TemplateCache:
        """The templates in memory, as they are in the file now.

        Args:
            metric: How they are compared, see `decision.scores`; the same at every call.
            rule: How the scores of a person's templates are joined, see `decision.join`; likewise.

        Raises:
            IntegrityError: Reason ``gallery_of_other_fingerprint`` or ``gallery_corrupt``.
            MachineError: Reason ``gallery_changing``, or the disk failed.
        """
        with clear_errors(self.path):
            version = data_version(self._connection)  # tells of other connections' changes, not of its own
        if self._cache is None:
            self._cache = TemplateCache(self.size, metric, rule)
        if version != self._cache.version:
            self._cache.follow(self.reading)
            self._cache.version = version
        return self._cache

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
    ) -> Enrolment:
        """Enrol a person, or change their templates, in one transaction.

        Args:
            person: The name.
            templates: (k, d), k >= 1, of finite numbers of float32.
            add: Add to the templates of somebody enrolled.
            replace: Replace the templates of somebody enrolled.
            most: Templates that a person may have.
            access: When they may come in, as `set_access` takes it; None: always, or as before.
            photos: The image files that the templates were made from, to keep.

        Raises:
            InputError: Reason ``bad_name``, ``already_enrolled``, ``not_enrolled`` or ``too_many_templates``.
            IntegrityError: Reason ``gallery_of_other_fingerprint``.
            MachineError: Reason ``not_finite``, ``not_wiped`` (see `wipe`), or the disk does not allow it.
        """
        act = roster.act_of(add=add, replace=replace)
        new = NewTemplates(person=person, templates=templates, act=act, most=most, access=access, photos=photos)
        return self.enrol_templates(new)

    @with_reserve
    def enrol_templates(self, new: NewTemplates, compared: TemplateCache | None = None) -> Enrolment:
        """`enrol`, with its arguments as one value.

        Args:
            new: Whom to enrol, and with what.
            compared: The templates that the new ones were compared with: nothing is changed where these are others now.

        Raises:
            ChangedError: Somebody else's templates changed since the comparison.
            InputError, IntegrityError, MachineError: As for `enrol`.
        """
        if new.templates.shape[1] != self.size:
            raise ValueError(f"templates of shape {new.templates.shape}: expected (k, {self.size})")
        with self.writing() as transaction:
            if compared is not None:
                compared.require_current(transaction)
            done = roster.enrol(transaction, new)
        if transaction.wipe_due:
            self.wipe()
        return done

    @with_reserve
    def set_access(self, person: str, access: Access) -> Person:
        """Change when a person may come in.

        Args:
            person: The name.
            access: What it names is changed and the rest stays as before; `ALWAYS`: at any time.

        Raises:
            InputError: Reason ``bad_name``, ``not_enrolled`` or, as `access.changed` says, ``bad_date``.
            MachineError: The disk does not allow it.
        """
        with self.writing() as transaction:
            return roster.set_access(transaction, person, access)

    @with_reserve
    def forget(self, person: str) -> Enrolment:
        """Delete a person; nothing of what the file held of them is left in it.

        Raises:
            InputError: Reason ``bad_name`` or ``not_enrolled``.
            MachineError: Reason ``not_wiped`` (see `wipe`), or the disk does not allow it.
        """
        with self.writing() as transaction:
            done = roster.forget(transaction, person)
        self.wipe()
        return done

    def wipe(self) -> None:
        """Overwrite what is left in the file of what was deleted, if anything was.

        Raises:
            MachineError: Reason ``not_wiped``: something may be left until the next opening; the change was made.
        """
        try:
            wiping.wipe(self._connection)
        finally:
            self._pacing.released()

    def check_audit(self, against: Head | None = None) -> AuditReport:
        """Verify the whole audit trail; arguments and errors as for `audit_check.check`."""
        return audit_check.check(self.reading, self.path, against)

    def rows(self, after: int = 0) -> Iterator[Row]:
        """The rows of the audit trail, from the first one or after a number; they are read some at a time."""
        return audit.rows(self.reading, after)

    @with_reserve
    def prune_audit(self, before: datetime) -> int:
        """Delete the rows of the audit trail from before a date; returns how many they were."""
        with self.writing() as transaction:
            return settings.prune_audit(transaction, before)

    def copy_to(self, target: Connection, pages: int) -> None:
        """Copy the whole file, as it is at one moment, so many pages at a time."""
        with clear_errors(self.path):
            self._connection.backup(target, pages=pages, sleep=0.01)

    def copy_from(self, source: Self) -> None:
        """Replace the content of this file with that of another gallery, in one transaction."""
        self._cache = None
        with clear_errors(self.path):
            source._connection.backup(self._connection)

    @contextmanager
    def _transaction(self, scope: Callable[[Connection], AbstractContextManager[None]]) -> Iterator[Transaction]:
        """A transaction in which the keys at hand are those in force."""
        for _ in range(_ROTATIONS):
            with clear_errors(self.path), scope(self._connection):
                keys = self.keyring
                if keys.is_current(self._connection):
                    transaction = Transaction(self._connection, keys, self.fingerprint, self.clock, self._verified)
                    try:
                        yield transaction
                    finally:
                        self._verified = transaction.verified
                        if transaction.templates_changed and self._cache is not None:
                            self._cache.version = -1  # `data_version` says nothing about own changes
                    return
            # another process rotated the key
            self.keyring = open_keyring(self._connection, self.path, self.source)
        message = f"{self.path} is being sealed with another key: nothing was changed; try again"
        raise MachineError(message, reason="gallery_busy")

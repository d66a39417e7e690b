"""The gallery's SQLite file: a change is on the disk before it is acknowledged, or it is undone.

The file has a rollback journal with synchronous=EXTRA, never WAL: the SQLite that CPython links on today's Raspberry Pi
OS has the WAL-reset fault (3.7.0 to 3.51.2), which can lose commits.
"""

import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from edge_oneshot_device.errors import IntegrityError, MachineError
from edge_oneshot_device.gallery.migrations import DROPPED, MIGRATIONS, SEALED
from edge_oneshot_device.gallery.owned import (
    close_to_others,
    own_file,
    place_of,
    require_plain_journal,
    require_plain_log,
)
from edge_oneshot_device.gallery.schema import schema_difference
from edge_oneshot_device.gallery.storage_errors import (
    BUSY_SECONDS,
    altered,
    clear_errors,
    corrupt,
    is_busy,
    missing,
    unsealed,
)
from edge_oneshot_device.state_names import APPLICATION_ID

T = TypeVar("T")

# SQLite's own waiting backs off to 100 ms, so that a door would lose to a busy process again and again
PAUSE_SECONDS: Final = 0.002

_SETTINGS: Final = (
    # auto_vacuum would move pages without `wiping` knowing
    ("auto_vacuum", "NONE", 0),
    ("journal_mode", "DELETE", "delete"),
    ("synchronous", "EXTRA", 3),
    ("foreign_keys", "ON", 1),
    ("secure_delete", "ON", 1),
)


class Connection(sqlite3.Connection):
    """A gallery's file, opened by `open_file`.

    Attributes:
        path: The file, as errors name it.
        place: The absolute path of the file.
        create: Whether an empty file, or one whose people are not sealed, may become a gallery.
        checked: The schema version that was last compared with the migrations.
    """

    path: Path
    place: Path
    create = False
    checked: int | None = None


def open_file(path: Path, *, create: bool = False) -> Connection:
    """Open a gallery's file that exists: every connection of this program comes from here.

    Args:
        path: The file.
        create: It may be empty, or of a version whose people are not sealed.

    Raises:
        IntegrityError: Reason ``gallery_missing`` or ``foreign_file``.
        OSError, sqlite3.Error: The disk does not allow it.
    """
    place = place_of(path)
    try:
        with own_file(place):
            require_plain_journal(place)
            require_plain_log(place)
    except FileNotFoundError as error:
        raise missing(path) from error
    connection = sqlite3.connect(
        f"{place.as_uri()}?mode=rw", uri=True, timeout=0.0, isolation_level=None, factory=Connection
    )
    try:
        connection.path, connection.place, connection.create = path, place, create
        _distrust(connection)
        # SQLite follows a link that somebody creates between the check above and here
        connection.text_factory = bytes
        opened = connection.execute("PRAGMA database_list").fetchone()[2]
        connection.text_factory = str
        if opened != os.fsencode(place):
            message = f"{path} became a link while it was opened: find out who left it there"
            raise IntegrityError(message, reason="foreign_file")
    except BaseException:
        connection.close()
        raise
    return connection


def connect(path: Path, begin: Callable[[Connection], None], *, create: bool = False) -> Connection:
    """Open a gallery's file, mode 0600, and migrate it to the newest version.

    Args:
        path: The file.
        begin: Called inside the transaction that migrates a new file, or one from before galleries were sealed; writes
            the first rows and converts what the old tables hold.
        create: Create the file if it does not exist, and migrate one whose people are not sealed.

    Returns:
        The connection, in the newest version, with the settings of `configure`.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``, ``gallery_newer``, ``gallery_altered``, ``foreign_file`` or, without
            `create`, ``gallery_missing`` and ``gallery_unsealed``.
        MachineError: The disk does not allow it.
    """
    with clear_errors(path):
        if create:
            with suppress(FileExistsError):
                # SQLite itself would follow the umask
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = open_file(path, create=create)
        try:
            # the schema check comes first: a database of another program stays as it is
            with reading(connection):
                pass
            close_to_others(path)
            configure(connection)
            _migrate(connection, begin)
            connection.create = False
        except BaseException:
            connection.close()
            raise
    return connection


def is_sealed(path: Path) -> bool:
    """Whether the file is a gallery whose content needs its key; raises what `version_of` does."""
    return version_of(path) >= SEALED


def version_of(path: Path) -> int:
    """The version of a gallery's schema; 0 for an empty file, or none.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``, ``gallery_newer``, ``gallery_altered`` or ``foreign_file``.
        MachineError: The disk does not allow it.
    """
    if not os.path.lexists(path):
        return 0
    with clear_errors(path), closing(open_file(path, create=True)) as connection, reading(connection):
        return _schema_version(connection)


def patiently(call: Callable[[], T]) -> T:
    """What the call returns, tried again for `BUSY_SECONDS` while another process has the file."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return call()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= end:
                raise
        time.sleep(random.uniform(0.5, 1.5) * PAUSE_SECONDS)  # noqa: S311 (a pause is no secret)


def data_version(connection: Connection) -> int:
    """A number that changes when another connection commits."""
    _check_journal(connection)
    return patiently(lambda: int(connection.execute("PRAGMA data_version").fetchone()[0]))


class Pacing:
    """Pauses between the transactions of a process that writes, so that others that wait for the file get their turn.

    Args:
        connection: The gallery's file.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._released = 0.0  # when this process last let go of the file, and the file's version then
        self._version = -1

    def pause(self) -> None:
        """Before a transaction that writes: pause where another process has written, since it looks only at times."""
        with clear_errors(self._connection.path):
            version = data_version(self._connection)
        if version != self._version:
            time.sleep(max(0.0, self._released + 2 * PAUSE_SECONDS - time.monotonic()))
        self._version = version

    def released(self) -> None:
        """After such a transaction."""
        self._released = time.monotonic()


@contextmanager
def writing(connection: Connection) -> Iterator[None]:
    """A transaction that writes: committed at the end, undone by an error. There is no other way to write.

    Raises:
        IntegrityError: The schema is not the program's own (see `_check_schema`), or the journal (``foreign_file``).
    """
    _check_journal(connection)
    patiently(lambda: connection.execute("BEGIN IMMEDIATE"))
    try:
        _check_schema(connection)
        yield
        patiently(lambda: connection.execute("COMMIT"))
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def reading(connection: Connection) -> Iterator[None]:
    """A transaction that reads: everything is of one moment. Writers wait for its end, so keep it short.

    Raises:
        IntegrityError: As for `writing`.
    """
    _check_journal(connection)
    connection.execute("BEGIN")
    try:
        # the first read takes the lock, and holds it until the end
        _check_schema(connection)
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _check_journal(connection: Connection) -> None:
    """Check a journal, or a log, that somebody left while the gallery is open, before SQLite uses it."""
    # mostly there is none, and to find that out takes a microsecond
    for ending, require in (("-journal", require_plain_journal), ("-wal", require_plain_log)):
        if os.access(f"{connection.place}{ending}", os.F_OK, follow_symlinks=False):
            with clear_errors(connection.path):
                require(connection.place)


def write(connection: Connection, statement: str, values: Sequence[object] = (), *, rows: int = 1) -> None:
    """Run a statement that changes exactly `rows` rows.

    Args:
        connection: In a transaction that writes.
        statement: An INSERT, UPDATE or DELETE.
        values: Its parameters.
        rows: How many rows it has to change.

    Raises:
        IntegrityError: Reason ``gallery_altered``: it changed more or fewer, so that the transaction has to be undone.
    """
    changed = connection.execute(statement, values).rowcount
    if changed != rows:
        raise altered(connection.path, f"{statement.split('(')[0].strip()[:40]} changed {changed} rows, not {rows}")


def configure(connection: Connection) -> None:
    """Set up a connection so that its changes are on the disk before they are acknowledged.

    Raises:
        MachineError: Reason ``gallery_setting``.
    """
    for name, value, expected in _SETTINGS:
        found = patiently(partial(_set, connection, name, value))
        if found != expected:
            message = f"SQLite {sqlite3.sqlite_version} answers {found} for {name}, expected {expected}"
            raise MachineError(f"{connection.path}: {message}", reason="gallery_setting")


def _set(connection: Connection, name: str, value: str) -> object:
    connection.execute(f"PRAGMA {name} = {value}")
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _distrust(connection: Connection) -> None:
    """Have SQLite run as little as possible of what a file says; the check that counts is `_check_schema`."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, False)
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_VIEW, False)


def _migrate(connection: Connection, begin: Callable[[Connection], None]) -> None:
    """Check that the file is a whole gallery, and bring it to the newest version."""
    with reading(connection):
        fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        version = _schema_version(connection)
    if fault != "ok":
        raise corrupt(connection.path, fault.replace("\n", " "))
    if version < len(MIGRATIONS):
        with writing(connection):
            # read again: another process may have been faster
            version = _schema_version(connection)
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    connection.execute(statement)
            if version < SEALED:
                begin(connection)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _check_schema(connection: Connection) -> None:
    """Check, in a transaction, that the schema is what the migrations make.

    SQLite reads a file's schema when it opens the file, and again when the schema version changed; each time in a
    transaction that begins here, before the first statement that needs it, so that what is compared is what SQLite
    uses. Whoever edits the file and leaves its schema version as it is changes nothing for a process that has it open.

    Raises:
        IntegrityError: Reason ``gallery_altered``, or as `connect` says.
    """
    found = patiently(lambda: int(connection.execute("PRAGMA schema_version").fetchone()[0]))
    if found == connection.checked:
        return
    path = connection.path
    version = _schema_version(connection)
    if version < SEALED and not connection.create:
        raise unsealed(path) if version else missing(path)
    statements = tuple(statement for one in MIGRATIONS[:version] for statement in one)
    fault = schema_difference(connection, statements, DROPPED if version >= SEALED else ())
    if fault is not None:
        raise altered(path, fault)
    connection.checked = found


def _schema_version(connection: Connection) -> int:
    path = connection.path
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID and (version or connection.execute("SELECT * FROM sqlite_master").fetchone()):
        raise IntegrityError(f"{path} is a database of another program, not a gallery", reason="gallery_corrupt")
    if version < 0:
        raise corrupt(path, f"it has version {version}")
    if version > len(MIGRATIONS):
        message = f"{path} has version {version}, the newest this program reads is {len(MIGRATIONS)}: update it"
        raise IntegrityError(message, reason="gallery_newer")
    return version

"""The gallery's SQLite file: every change is on the disk before it is acknowledged, or undone.

It keeps a rollback journal with synchronous=EXTRA, never WAL: the SQLite that CPython links on
today's Raspberry Pi OS has the WAL-reset fault (3.7.0 to 3.51.2), which can lose commits.
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

from edge_oneshot_device.errors import DeviceError, InputError, IntegrityError, MachineError
from edge_oneshot_device.gallery.owned import close_to_others, own_file, require_plain_journal, require_plain_log
from edge_oneshot_device.gallery.schema import foreign_schema

T = TypeVar("T")

BUSY_SECONDS: Final = 5.0
APPLICATION_ID: Final = 0x454F5347  # "EOSG"
# SQLite's own waiting backs off to 100 ms, by which a door would lose to a busy neighbour again and again
PAUSE_SECONDS: Final = 0.002

Migration = tuple[str, ...]

# From user_version i to i + 1; never edited once released, and a file's schema has to be what they make, to the letter.
# What the tables hold is brought up by `migrated`.
MIGRATIONS: Final[tuple[Migration, ...]] = (
    (
        """CREATE TABLE person (
             id INTEGER PRIMARY KEY,
             name TEXT NOT NULL UNIQUE,
             enrolled TEXT NOT NULL,
             fingerprint TEXT NOT NULL
           ) STRICT""",
        """CREATE TABLE template (
             id INTEGER PRIMARY KEY,
             person INTEGER NOT NULL REFERENCES person (id) ON DELETE CASCADE,
             embedding BLOB NOT NULL
           ) STRICT""",
        "CREATE INDEX template_person ON template (person)",
        f"PRAGMA application_id = {APPLICATION_ID}",
    ),
    (
        "ALTER TABLE person RENAME TO open_person",
        "ALTER TABLE template RENAME TO open_template",
        "DROP INDEX template_person",
        # number: random, so that it says nothing of anybody; tag: finds the name; record: name, date, access
        """CREATE TABLE person (
             number INTEGER PRIMARY KEY,
             tag BLOB NOT NULL UNIQUE,
             record BLOB NOT NULL
           ) STRICT""",
        # encoders that there are templates of: the one in use is the last, the one before it is kept for a rollback
        """CREATE TABLE encoder (
             id INTEGER PRIMARY KEY,
             fingerprint TEXT NOT NULL UNIQUE
           ) STRICT""",
        """CREATE TABLE template (
             id INTEGER PRIMARY KEY,
             person INTEGER NOT NULL REFERENCES person (number) ON DELETE CASCADE,
             fingerprint TEXT NOT NULL REFERENCES encoder (fingerprint) ON DELETE CASCADE,
             sealed BLOB NOT NULL
           ) STRICT""",
        "CREATE INDEX template_person ON template (person)",
        "CREATE INDEX template_fingerprint ON template (fingerprint)",
        """CREATE TABLE photo (
             id INTEGER PRIMARY KEY,
             person INTEGER NOT NULL REFERENCES person (number) ON DELETE CASCADE,
             sealed BLOB NOT NULL
           ) STRICT""",
        "CREATE INDEX photo_person ON photo (person)",
        # failures in a row of 1:1, and the delay that they brought, on the boot clock
        """CREATE TABLE attempts (
             person INTEGER PRIMARY KEY REFERENCES person (number) ON DELETE CASCADE,
             failures INTEGER NOT NULL,
             boot TEXT NOT NULL,
             since REAL NOT NULL
           ) STRICT""",
        # the last attempts of 1:N that were rejected
        """CREATE TABLE rejection (
             id INTEGER PRIMARY KEY,
             boot TEXT NOT NULL,
             at REAL NOT NULL
           ) STRICT""",
        """CREATE TABLE audit (
             seq INTEGER PRIMARY KEY,
             at INTEGER NOT NULL,
             act TEXT NOT NULL,
             person INTEGER,
             detail TEXT NOT NULL,
             mac BLOB NOT NULL
           ) STRICT""",
        # a row from when something was deleted until nothing of it is left in the file
        """CREATE TABLE wipe (
             id INTEGER PRIMARY KEY
           ) STRICT""",
        # one row for each key that was in use; chain: the key of the audit rows from first_seq on, sealed
        """CREATE TABLE epoch (
             id INTEGER PRIMARY KEY,
             first_seq INTEGER NOT NULL,
             check_value BLOB NOT NULL,
             chain BLOB NOT NULL
           ) STRICT""",
    ),
    (
        # what decides at the door; seq: the row of the record that says so
        """CREATE TABLE settings (
             id INTEGER PRIMARY KEY CHECK (id = 1),
             seq INTEGER NOT NULL,
             sealed BLOB NOT NULL
           ) STRICT""",
        "CREATE INDEX audit_installed ON audit (act) WHERE act = 'installed'",
    ),
)

SEALED: Final = 2
"""The first version whose people are sealed. Whoever could write an older file chose who is in it."""

_DROPPED: Final = ("open_template", "open_person")  # by `migrated`, from version 2 on

_SETTINGS: Final = (
    # pages that are moved behind `wiping`'s back
    ("auto_vacuum", "NONE", 0),
    ("journal_mode", "DELETE", "delete"),
    ("synchronous", "EXTRA", 3),
    ("foreign_keys", "ON", 1),
    ("secure_delete", "ON", 1),
)


@contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system say into one line with a reason.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``.
        InputError: Reason ``gallery_closed`` or ``wrong_thread``: of a program that uses it so.
        MachineError: Reason ``disk_full``, ``cannot_write``, ``gallery_busy``, ``gallery_failed`` or, for a
            change that was made and may be undone by a power cut, ``not_confirmed``.
    """
    try:
        yield
    except OSError as error:
        raise MachineError(f"{path}: {error.strerror}; nothing was changed", reason="cannot_write") from error
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError) as error:
        if "closed" in str(error):
            raise InputError(f"{path} was closed: open it again", reason="gallery_closed") from error
        if "thread" in str(error):
            message = f"{path} was opened in another thread: open one in each thread that needs it"
            raise InputError(message, reason="wrong_thread") from error
        raise  # a fault of this program, not of the file
    except sqlite3.Error as error:
        raise _explain(path, error) from error


class Connection(sqlite3.Connection):
    """A gallery's file, opened by `open_file`.

    Attributes:
        path: The file, as errors name it.
        place: The file, whatever the working folder is.
        create: Whether an empty file, or one whose people are not sealed, may become a gallery.
        checked: The schema's version that was compared with the migrations last.
    """

    path: Path
    place: Path
    create = False
    checked: int | None = None


def open_file(path: Path, *, create: bool = False) -> Connection:
    """Open a gallery's file that is there: every connection of this program comes from here.

    Args:
        path: The file.
        create: It may be empty, or of a version whose people are not sealed.

    Raises:
        IntegrityError: Reason ``gallery_missing`` or ``foreign_file``.
        OSError, sqlite3.Error: The disk does not allow it.
    """
    place = path.parent.resolve() / path.name
    try:
        with own_file(place):
            require_plain_journal(place)
            require_plain_log(place)
    except FileNotFoundError as error:
        raise _missing(path) from error
    connection = sqlite3.connect(
        f"{place.as_uri()}?mode=rw", uri=True, timeout=0.0, isolation_level=None, factory=Connection
    )
    try:
        connection.path, connection.place, connection.create = path, place, create
        _distrust(connection)
        # SQLite follows a link that somebody puts there between the look above and here
        connection.text_factory = bytes
        opened = connection.execute("PRAGMA database_list").fetchone()[2]
        connection.text_factory = str
        if opened != os.fsencode(place):
            message = f"{path} became a link while it was opened: look who left it there"
            raise IntegrityError(message, reason="foreign_file")
    except BaseException:
        connection.close()
        raise
    return connection


def connect(path: Path, migrated: Callable[[sqlite3.Connection], None], *, create: bool = False) -> Connection:
    """Open a gallery's file, mode 0600, and bring it up to the newest version.

    Args:
        path: The file.
        migrated: Called inside the transaction that brought the tables up from before there were keys, to bring up
            what they hold.
        create: Make the file if there is none, and bring up one whose people are not sealed.

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
            # first of all, for a database of something else stays as it is
            with reading(connection):
                pass
            close_to_others(path)
            configure(connection, path)
            _migrate(connection, path, migrated)
            connection.create = False
        except BaseException:
            connection.close()
            raise
    return connection


def is_sealed(path: Path) -> bool:
    """Whether a gallery is there whose content needs its key; raises what `version_of` does."""
    return version_of(path) >= SEALED


def version_of(path: Path) -> int:
    """Of a gallery's schema; 0 where there is none, or an empty file.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``, ``gallery_newer``, ``gallery_altered`` or ``foreign_file``.
        MachineError: The disk does not allow it.
    """
    if not os.path.lexists(path):
        return 0
    with clear_errors(path), closing(open_file(path, create=True)) as connection, reading(connection):
        return _schema_version(connection, path)


def patiently(call: Callable[[], T]) -> T:
    """What the call returns, tried again for `BUSY_SECONDS` while another process has the file."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return call()
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() >= end:
                raise
        time.sleep(random.uniform(0.5, 1.5) * PAUSE_SECONDS)  # noqa: S311 (who waits)


def data_version(connection: sqlite3.Connection) -> int:
    """Changes when another connection commits."""
    _check_journal(connection)
    return patiently(lambda: int(connection.execute("PRAGMA data_version").fetchone()[0]))


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """The only transaction that writes: committed at the end, undone by an error.

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
def reading(connection: sqlite3.Connection) -> Iterator[None]:
    """Everything read inside is of one moment. Writers wait for its end: keep it short.

    Raises:
        IntegrityError: As `transaction`.
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


def _check_journal(connection: sqlite3.Connection) -> None:
    """Before SQLite takes a journal, or a log, that somebody left there while the gallery is open."""
    assert isinstance(connection, Connection)
    # mostly there is none, and to ask so takes a microsecond
    for ending, require in (("-journal", require_plain_journal), ("-wal", require_plain_log)):
        if os.access(f"{connection.place}{ending}", os.F_OK, follow_symlinks=False):
            with clear_errors(connection.path):
                require(connection.place)


def write(connection: sqlite3.Connection, statement: str, values: Sequence[object] = (), *, rows: int = 1) -> None:
    """Run a statement that changes exactly so many rows.

    Raises:
        IntegrityError: Reason ``gallery_altered``: it changed more or fewer, so that the transaction has to be undone.
    """
    changed = connection.execute(statement, values).rowcount
    if changed != rows:
        assert isinstance(connection, Connection)
        raise _altered(connection.path, f"{statement.split('(')[0].strip()[:40]} changed {changed} rows, not {rows}")


def corrupt(path: Path, fault: str) -> IntegrityError:
    """The error for a file that cannot be what this program wrote."""
    message = f"{path} is damaged: {fault}; move it away, init --empty, and restore a backup or enrol again"
    return IntegrityError(message, reason="gallery_corrupt")


def configure(connection: sqlite3.Connection, path: Path) -> None:
    """Have the changes of a connection on the disk before they are acknowledged.

    Raises:
        MachineError: Reason ``gallery_setting``.
    """
    for name, value, expected in _SETTINGS:
        found = patiently(partial(_set, connection, name, value))
        if found != expected:
            message = f"{path}: SQLite {sqlite3.sqlite_version} answers {found} for {name}, expected {expected}"
            raise MachineError(message, reason="gallery_setting")


def _set(connection: sqlite3.Connection, name: str, value: str) -> object:
    connection.execute(f"PRAGMA {name} = {value}")
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _distrust(connection: Connection) -> None:
    """Have SQLite run as little as it can of what a file says; `_check_schema` is what counts."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, False)
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_VIEW, False)


def _migrate(connection: Connection, path: Path, migrated: Callable[[sqlite3.Connection], None]) -> None:
    """Check that the file is a whole gallery, and bring it up to the newest version."""
    with reading(connection):
        fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        version = _schema_version(connection, path)
    if fault != "ok":
        raise corrupt(path, fault.replace("\n", " "))
    if version < len(MIGRATIONS):
        with transaction(connection):
            # read again: another process may have been faster
            version = _schema_version(connection, path)
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    connection.execute(statement)
            if version < SEALED:
                migrated(connection)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _check_schema(connection: sqlite3.Connection) -> None:
    """Make sure, in a transaction, that the schema is what the migrations make.

    SQLite reads a file's schema when it is opened, and again when its version is another one; each time in a
    transaction that begins here, before the first statement that needs it, so that what is compared is what SQLite
    goes by. Somebody who edits the file and leaves that version as it is changes nothing for whoever has it open.

    Raises:
        IntegrityError: Reason ``gallery_altered``, or as `connect` says.
    """
    assert isinstance(connection, Connection)
    found = patiently(lambda: int(connection.execute("PRAGMA schema_version").fetchone()[0]))
    if found == connection.checked:
        return
    path = connection.path
    version = _schema_version(connection, path)
    if version < SEALED and not connection.create:
        raise unsealed(path) if version else _missing(path)
    statements = tuple(statement for one in MIGRATIONS[:version] for statement in one)
    fault = foreign_schema(connection, statements, _DROPPED if version >= SEALED else ())
    if fault is not None:
        raise _altered(path, fault)
    connection.checked = found


def _schema_version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and (version or tables):
        raise IntegrityError(f"{path} is a database of something else, no gallery", reason="gallery_corrupt")
    if version < 0:
        raise corrupt(path, f"it has version {version}")
    if version > len(MIGRATIONS):
        message = f"{path} has version {version}, the newest this program reads is {len(MIGRATIONS)}: update it"
        raise IntegrityError(message, reason="gallery_newer")
    return version


def _missing(path: Path) -> IntegrityError:
    message = f"there is no gallery in {path}: put it back, or run init --empty and restore a backup"
    return IntegrityError(message, reason="gallery_missing")


def unsealed(path: Path) -> IntegrityError:
    """The error for a gallery of version 1 that nobody said to take over."""
    message = f"{path} is of version 1, whose people are not sealed: whoever could write it chose them; if it is yours"
    return IntegrityError(f"{message}, init --take-over seals them, else move it away", reason="gallery_unsealed")


def _altered(path: Path, fault: str) -> IntegrityError:
    message = f"somebody else wrote to {path}: {fault}; keep a copy of it, move it away, init --empty, and restore"
    return IntegrityError(f"{message} a backup that you trust", reason="gallery_altered")


def _is_busy(error: sqlite3.Error) -> bool:
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _explain(path: Path, error: sqlite3.Error) -> DeviceError:
    # an error of Python's own, without a code, is text that is no UTF-8
    extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    if extended == sqlite3.SQLITE_IOERR_DIR_FSYNC:
        # the last step of a commit: the journal is gone already, so there is no way back
        message = f"{path} was changed, but the disk did not confirm it: a power cut may undo it; check the disk"
        return MachineError(message, reason="not_confirmed")
    code = extended & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_MISMATCH):
        return corrupt(path, str(error))
    if code == sqlite3.SQLITE_FULL:
        return MachineError(f"the disk is full: {path} was not changed; free some space", reason="disk_full")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        message = f"{path} cannot be opened for writing ({error}): nothing was changed; check the disk and the rights"
        return MachineError(message, reason="cannot_write")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        message = f"{path} was in use by another process for {BUSY_SECONDS:.0f} s: nothing was changed; try again"
        return MachineError(message, reason="gallery_busy")
    return MachineError(f"{path}: {error}; nothing was changed, check the disk", reason="gallery_failed")

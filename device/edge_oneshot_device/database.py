"""The gallery's SQLite file: every change is on the disk before it is acknowledged, or undone.

It keeps a rollback journal with synchronous=EXTRA, never WAL: the SQLite that CPython links on
today's Raspberry Pi OS has the WAL-reset fault (3.7.0 to 3.51.2), which can lose commits.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from edge_oneshot_device.errors import DeviceError, IntegrityError, MachineError

BUSY_SECONDS: Final = 5.0
APPLICATION_ID: Final = 0x454F5347  # "EOSG"

# From user_version i to i + 1; never edited once released.
MIGRATIONS: Final = (
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
)

_SETTINGS: Final = (
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
        MachineError: Reason ``disk_full``, ``cannot_write``, ``gallery_busy``, ``gallery_failed`` or, for a
            change that was made and may be undone by a power cut, ``not_confirmed``.
    """
    try:
        yield
    except OSError as error:
        raise MachineError(f"{path}: {error.strerror}; nothing was changed", reason="cannot_write") from error
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise  # a fault of this program, not of the file
    except sqlite3.Error as error:
        raise _explain(path, error) from error


def connect(path: Path) -> sqlite3.Connection:
    """Open a gallery's file, or create it, mode 0600, and bring it up to the newest version.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``, or ``gallery_newer``.
        MachineError: The disk does not allow it.
    """
    with clear_errors(path):
        with suppress(FileExistsError):
            # SQLite itself would follow the umask
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            # first of all, for a database of something else stays as it is
            _schema_version(connection, path)
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
            _configure(connection, path)
            _migrate(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """The only transaction that writes: committed at the end, undone by an error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def corrupt(path: Path, fault: str) -> IntegrityError:
    """The error for a file that cannot be what this program wrote."""
    message = f"{path} is damaged: {fault}; restore it from a copy, or move it away and enrol again"
    return IntegrityError(message, reason="gallery_corrupt")


def _configure(connection: sqlite3.Connection, path: Path) -> None:
    for name, value, expected in _SETTINGS:
        connection.execute(f"PRAGMA {name} = {value}")
        found = connection.execute(f"PRAGMA {name}").fetchone()[0]
        if found != expected:
            message = f"{path}: SQLite {sqlite3.sqlite_version} answers {found} for {name}, expected {expected}"
            raise MachineError(message, reason="gallery_setting")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Check that the file is a whole gallery, and bring it up to the newest version."""
    fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if fault != "ok":
        raise corrupt(path, fault.replace("\n", " "))
    if _schema_version(connection, path) < len(MIGRATIONS):
        with transaction(connection):
            # read again: another process may have been faster
            for statements in MIGRATIONS[_schema_version(connection, path) :]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _schema_version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and (version or tables):
        raise IntegrityError(f"{path} is a database of something else, no gallery", reason="gallery_corrupt")
    if version > len(MIGRATIONS):
        message = f"{path} has version {version}, the newest this program reads is {len(MIGRATIONS)}: update it"
        raise IntegrityError(message, reason="gallery_newer")
    return version


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

"""What can go wrong with a gallery's file, as one line with a reason each."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from edge_oneshot_device.errors import DeviceError, InputError, IntegrityError, MachineError

BUSY_SECONDS: Final = 5.0
"""How long a process waits for another one that has the file."""


@contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and of the system into one line with a reason.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``.
        InputError: Reason ``gallery_closed`` or ``wrong_thread``: the calling program uses the gallery wrongly.
        MachineError: Reason ``disk_full``, ``cannot_write``, ``gallery_busy`` or ``gallery_failed``; or
            ``not_confirmed``: the change was made, but a power cut may undo it.
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


def is_busy(error: sqlite3.Error) -> bool:
    """Whether the error says that another process has the file."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def corrupt(path: Path, fault: str) -> IntegrityError:
    """The error for a file that cannot be what this program wrote.

    Args:
        path: The file.
        fault: What is wrong with it.
    """
    message = f"{path} is damaged: {fault}; move it away, init --empty, and restore a backup or enrol again"
    return IntegrityError(message, reason="gallery_corrupt")


def altered(path: Path, fault: str) -> IntegrityError:
    """The error for a file that another program wrote to.

    Args:
        path: The file.
        fault: What is wrong with it.
    """
    message = f"another program wrote to {path}: {fault}; keep a copy of it, move it away, init --empty, and restore"
    return IntegrityError(f"{message} a backup that you trust", reason="gallery_altered")


def missing(path: Path) -> IntegrityError:
    """The error for a gallery that is not there."""
    message = f"there is no gallery in {path}: put it back, or run init --empty and restore a backup"
    return IntegrityError(message, reason="gallery_missing")


def unsealed(path: Path) -> IntegrityError:
    """The error for a gallery of version 1 that nobody said to take over."""
    message = f"{path} is of version 1, whose people are not sealed: whoever could write it chose them; if it is yours"
    return IntegrityError(f"{message}, init --take-over seals them, else move it away", reason="gallery_unsealed")


def _explain(path: Path, error: sqlite3.Error) -> DeviceError:
    # an error without a code is Python's own, for text that is not UTF-8
    extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    if extended == sqlite3.SQLITE_IOERR_DIR_FSYNC:
        # the last step of a commit: the journal is gone already, so the change cannot be undone
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
    if is_busy(error):
        message = f"{path} was in use by another process for {BUSY_SECONDS:.0f} s: nothing was changed; try again"
        return MachineError(message, reason="gallery_busy")
    return MachineError(f"{path}: {error}; nothing was changed, check the disk", reason="gallery_failed")

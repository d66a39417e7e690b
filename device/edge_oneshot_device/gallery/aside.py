"""Copies of a gallery while they are written, beside the file that they replace."""

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from edge_oneshot_device.errors import MachineError

_PREFIX: Final = ".edge-oneshot-"
_COPY: Final = f"{_PREFIX}copy-"
_LOCK: Final = ".lock"
_CUT_OFF_SECONDS: Final = 3600.0
_TRIES: Final = 5


@contextmanager
def aside(folder: Path) -> Iterator[Path]:
    """An empty file in a folder, mode 0600, for a copy of a gallery; it is deleted at the end, unless it was renamed.

    A file beside it is locked meanwhile. The copy itself is not, because SQLite has its own locks on it, which conflict
    with others on some file systems.

    Raises:
        MachineError: Reason ``cannot_write``.
    """
    remove_leftovers(folder)
    path = folder / f"{_COPY}{secrets.token_hex(8)}.tmp"
    descriptor = None
    try:
        try:
            descriptor = _locked(path.with_suffix(_LOCK))
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise MachineError(f"cannot write in {folder}: {error.strerror}", reason="cannot_write") from error
        yield path
    finally:
        _remove(path)
        if descriptor is not None:
            os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Delete copies in a folder that a killed process left; what cannot be deleted stays."""
    with suppress(OSError):
        for path in [path for path in folder.iterdir() if path.name.startswith(_PREFIX)]:
            if not path.name.startswith(_COPY):
                _remove_old(path)
            elif path.suffix == _LOCK:
                _remove_unlocked(path)


def _locked(path: Path) -> int:
    """A new file that is locked until it is closed."""
    for _ in range(_TRIES):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # a file system without locks: nobody who removes leftovers can lock it either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # another process took it for a leftover before it was locked
    raise BlockingIOError(errno.EAGAIN, "its lock was deleted again and again")


def _remove_unlocked(path: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path.with_suffix(".tmp"))
        finally:
            os.close(descriptor)


def _remove(copy: Path) -> None:
    """Delete the copy, its journal, and last its lock, by which a copy that was left is found."""
    for path in (copy, copy.with_name(f"{copy.name}-journal"), copy.with_suffix(_LOCK)):
        with suppress(OSError):
            path.unlink()


def _remove_old(path: Path) -> None:
    """Delete a temporary file of another kind, which has no lock, once it is too old to be in use."""
    with suppress(OSError):
        if path.lstat().st_mtime < time.time() - _CUT_OFF_SECONDS:
            path.unlink()

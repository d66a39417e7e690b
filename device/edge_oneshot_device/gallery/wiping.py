"""Nothing of what was deleted stays in the gallery's file, not even in the unused parts of its pages.

secure_delete overwrites what is deleted with zeros, yet not the copies that SQLite leaves where it moved rows from one
page to another: between a page's pointers to its rows and the first of these (sqlite.org/fileformat2.html, 1.6).
Nothing is ever read there, so zeros are written over it in place. VACUUM would do it as well, but keeps everybody
waiting while it writes the whole file.

Why that is sound: pages are looked at while nobody can commit, so that they are as they were committed; they are
written while nobody else may write; and then something is committed, after which every process reads its pages anew,
so that none writes back what it had read before. Until the end there is a mark that a wipe is due.
"""

import os
import secrets
import sqlite3
import struct
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from edge_oneshot_device.gallery.database import (
    PAUSE_SECONDS,
    clear_errors,
    configure,
    open_file,
    reading,
    transaction,
    write,
)
from edge_oneshot_device.gallery.owned import require_own

_LOOKED_AT: Final = 1024  # pages at once: a door that writes waits for no more than these
_WRITTEN: Final = 256
_HEADERS: Final = {2: 12, 5: 12, 10: 8, 13: 8}  # bytes of it, of each kind of page that has rows
_FILE_HEADER: Final = 100  # bytes, on the first page


class _File(msgspec.Struct):
    """A gallery's file, in how many places of this process it is open, and for a wipe."""

    users: int = 0
    descriptor: int | None = None


_lock: Final = threading.Lock()
_files: dict[Path, _File] = {}


def mark(connection: sqlite3.Connection) -> None:
    """Say that a wipe is due, in the transaction that deletes something."""
    write(connection, "INSERT INTO wipe (id) VALUES (?)", (secrets.randbits(62),))


def is_due(connection: sqlite3.Connection) -> bool:
    """Whether something was deleted and not wiped yet, in a transaction of the caller."""
    return bool(connection.execute("SELECT EXISTS (SELECT * FROM wipe)").fetchone()[0])


def wipe(path: Path, own: sqlite3.Connection) -> None:
    """Overwrite whatever is left in a gallery's file of what was deleted, if anything was.

    Args:
        path: The file, as `begin_use` was told.
        own: The caller's connection, outside a transaction.

    Raises:
        IntegrityError: The gallery is damaged.
        MachineError: The disk does not allow it, or another process had the file for too long.
    """
    with clear_errors(path), reading(own):
        if not is_due(own):
            return
    # another connection, lest the caller's keeps pages as they were
    with clear_errors(path), closing(open_file(path)) as connection:
        with reading(connection):
            marks = connection.execute("SELECT id FROM wipe").fetchall()
            size = connection.execute("PRAGMA page_size").fetchone()[0]
        configure(connection, path)
        descriptor = _descriptor(path)
        found = _look(connection, descriptor, size)
        while True:
            time.sleep(2 * PAUSE_SECONDS)  # lets others in
            some, found = found[:_WRITTEN], found[_WRITTEN:]
            with transaction(connection):
                for page in some:
                    _overwrite(descriptor, page, size)
                due = connection.execute("SELECT id FROM wipe").fetchall()
                for one in marks:
                    # deleted and inserted, so that something is committed, even where another wipe was faster
                    if one in due:
                        write(connection, "DELETE FROM wipe WHERE id = ?", one)
                    write(connection, "INSERT INTO wipe (id) VALUES (?)", one)
                    if not found:
                        write(connection, "DELETE FROM wipe WHERE id = ?", one)
            if not found:
                return


def _look(connection: sqlite3.Connection, descriptor: int, size: int) -> list[int]:
    """Numbers of the pages, from 0, with anything in their unused parts."""
    found: list[int] = []
    first = 0
    while True:
        with reading(connection):
            content = os.pread(descriptor, _LOOKED_AT * size, first * size)
        if not content:
            return found
        for place in range(0, len(content), size):
            page = content[place : place + size]
            start, end = _unused(page, _FILE_HEADER if first + place == 0 else 0)
            if page[start:end].strip(b"\0"):
                found.append(first + place // size)
        first += _LOOKED_AT


def _overwrite(descriptor: int, page: int, size: int) -> None:
    start, end = _unused(os.pread(descriptor, size, page * size), 0 if page else _FILE_HEADER)
    os.pwrite(descriptor, bytes(end - start), page * size + start)


def _unused(page: bytes, header: int) -> tuple[int, int]:
    """Where the unused part of a page begins and ends; nowhere, on a page without rows."""
    # others begin with the number of a page, whose first byte would be one of these from 137 GB on only
    if len(page) <= header or page[header] not in _HEADERS:
        return 0, 0
    _, rows, end = struct.unpack_from(">HHH", page, header + 1)
    start = header + _HEADERS[page[header]] + 2 * rows
    return (start, end) if start <= end <= len(page) else (0, 0)


def begin_use(path: Path) -> None:
    """Say that this process is about to open a gallery's file, an absolute path."""
    with _lock:
        _files.setdefault(path, _File()).users += 1


def end_use(path: Path) -> None:
    """Say that it was closed again."""
    with _lock:
        file = _files[path]
        file.users -= 1
        if not file.users:
            del _files[path]
            if file.descriptor is not None:
                os.close(file.descriptor)


def _descriptor(path: Path) -> int:
    """The file, closed with the last use: to close it drops all locks that this process has on it, SQLite's too."""
    with _lock:
        file = _files[path]
        if file.descriptor is None or not os.path.samestat(os.fstat(file.descriptor), path.stat()):
            file.descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            require_own(path, os.fstat(file.descriptor))
        return file.descriptor

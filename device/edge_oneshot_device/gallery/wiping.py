"""Overwriting what was deleted, so that nothing of it stays in the gallery's file.

SQLite's secure_delete overwrites deleted rows with zeros, but not the copies that SQLite leaves where it moved rows
from one page to another: between a page's pointers to its rows and the first of these rows
(sqlite.org/fileformat2.html, 1.6). Nothing is ever read there, so zeros are written over it in place. VACUUM would do
it as well, but everybody would have to wait while it writes the whole file.

Why this is safe: pages are searched while nobody can commit, so that they are as they were committed. They are
overwritten while nobody else may write. Then something is committed, after which every process reads its pages again,
so that none writes back what it had read before. Until the end a mark in the file says that a wipe is due.
"""

import os
import secrets
import struct
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from edge_oneshot_device.errors import IntegrityError, MachineError
from edge_oneshot_device.gallery.database import (
    PAUSE_SECONDS,
    Connection,
    configure,
    open_file,
    reading,
    write,
    writing,
)
from edge_oneshot_device.gallery.owned import require_own
from edge_oneshot_device.gallery.storage_errors import clear_errors
from edge_oneshot_device.gallery.transaction import Transaction

_SEARCHED: Final = 1024  # pages at once: a door that writes waits for no more than these
_WRITTEN: Final = 256
_HEADERS: Final = {2: 12, 5: 12, 10: 8, 13: 8}  # bytes of the header, for each kind of page that has rows
_FILE_HEADER: Final = 100  # bytes, on the first page


class _File(msgspec.Struct):
    """A gallery's file that this process has open.

    Attributes:
        users: In how many places it is open.
        descriptor: To overwrite pages; None until a wipe needs it.
    """

    users: int = 0
    descriptor: int | None = None


_lock: Final = threading.Lock()
_files: dict[Path, _File] = {}

_IS_DUE: Final = "SELECT EXISTS (SELECT * FROM wipe)"


def mark(transaction: Transaction) -> None:
    """Say that a wipe is due, in the transaction that deletes something."""
    transaction.write("INSERT INTO wipe (id) VALUES (?)", (secrets.randbits(62),))
    transaction.wipe_due = True


def is_due(transaction: Transaction) -> bool:
    """Whether something was deleted and is not overwritten yet."""
    return bool(transaction.value(_IS_DUE))


def wipe(own: Connection) -> None:
    """Overwrite whatever is left in a gallery's file of what was deleted, if anything was.

    Args:
        own: The caller's connection, outside a transaction, between `begin_use` and `end_use`.

    Raises:
        MachineError: Reason ``not_wiped``: something may be left until the next opening; the change was made.
    """
    path = own.path
    try:
        with clear_errors(path), reading(own):
            due = own.execute(_IS_DUE).fetchone()[0]
        if due:
            _wipe(path, own.place)
    except (IntegrityError, MachineError) as error:  # SQLite takes EIO in a read for damage
        message = (
            f"it is done, but sealed traces of what was deleted may be left in {path} ({error.reason}): "
            "the next command overwrites them; check the disk"
        )
        raise MachineError(message, reason="not_wiped") from error


def _wipe(path: Path, place: Path) -> None:
    # another connection, because the caller's would keep pages as they were
    with clear_errors(path), closing(open_file(path)) as connection:
        with reading(connection):
            marks = connection.execute("SELECT id FROM wipe").fetchall()
            size = connection.execute("PRAGMA page_size").fetchone()[0]
        configure(connection)
        descriptor = _descriptor(place)
        found = _pages_to_wipe(connection, descriptor, size)
        while True:
            time.sleep(2 * PAUSE_SECONDS)  # lets others in
            some, found = found[:_WRITTEN], found[_WRITTEN:]
            with writing(connection):
                for page in some:
                    _overwrite(descriptor, page, size)
                due = connection.execute("SELECT id FROM wipe").fetchall()
                for one in marks:
                    # deleted and inserted again, so that something is committed even where another wipe was faster
                    if one in due:
                        write(connection, "DELETE FROM wipe WHERE id = ?", one)
                    write(connection, "INSERT INTO wipe (id) VALUES (?)", one)
                    if not found:
                        write(connection, "DELETE FROM wipe WHERE id = ?", one)
            if not found:
                return


def _pages_to_wipe(connection: Connection, descriptor: int, size: int) -> list[int]:
    """Numbers, from 0, of the pages whose unused part is not all zeros."""
    found: list[int] = []
    first = 0
    while True:
        with reading(connection):
            content = os.pread(descriptor, _SEARCHED * size, first * size)
        if not content:
            return found
        for place in range(0, len(content), size):
            page = content[place : place + size]
            start, end = _unused(page, _FILE_HEADER if first + place == 0 else 0)
            if page[start:end].strip(b"\0"):
                found.append(first + place // size)
        first += _SEARCHED


def _overwrite(descriptor: int, page: int, size: int) -> None:
    start, end = _unused(os.pread(descriptor, size, page * size), 0 if page else _FILE_HEADER)
    os.pwrite(descriptor, bytes(end - start), page * size + start)


def _unused(page: bytes, header: int) -> tuple[int, int]:
    """Where the unused part of a page begins and ends; an empty range for a page without rows."""
    # a page of another kind begins with a page number, whose first byte is one of these only from 137 GB on
    if len(page) <= header or page[header] not in _HEADERS:
        return 0, 0
    _, rows, end = struct.unpack_from(">HHH", page, header + 1)
    start = header + _HEADERS[page[header]] + 2 * rows
    return (start, end) if start <= end <= len(page) else (0, 0)


def begin_use(place: Path) -> None:
    """Say that this process is about to open a gallery's file, see `place_of`."""
    with _lock:
        _files.setdefault(place, _File()).users += 1


def end_use(place: Path) -> None:
    """Say that this process has closed the file."""
    with _lock:
        file = _files[place]
        file.users -= 1
        if not file.users:
            del _files[place]
            if file.descriptor is not None:
                os.close(file.descriptor)


def _descriptor(place: Path) -> int:
    """A descriptor, closed with the last use: closing it drops all locks of this process on the file, SQLite's too."""
    with _lock:
        file = _files[place]
        if file.descriptor is None or not os.path.samestat(os.fstat(file.descriptor), place.stat()):
            file.descriptor = os.open(place, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            require_own(place, os.fstat(file.descriptor))
        return file.descriptor

"""The reserve: room on the disk that is given back when the disk is full, so that the door goes on meanwhile."""

import os
from pathlib import Path
from typing import Final

from edge_oneshot_device.gallery.owned import require_own
from edge_oneshot_device.state_names import RESERVE

RESERVE_BYTES: Final = 256 << 10


def keep_reserve(folder: Path) -> bool:
    """Create the reserve where it is missing; returns whether it is there. A disk without room for it is no error.

    Raises:
        IntegrityError: Reason ``foreign_file``: something else is in its place.
    """
    path = folder / RESERVE
    try:
        if has_reserve(folder):
            return True
        release_reserve(folder)  # a new file: what is there may be a hard link
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        release_reserve(folder)
        return False
    return True


def has_reserve(folder: Path) -> bool:
    """Whether the reserve is there, in full size.

    Raises:
        IntegrityError: Reason ``foreign_file``: something else is in its place.
        OSError: The folder cannot be read.
    """
    path = folder / RESERVE
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    require_own(path, status)
    return status.st_size == RESERVE_BYTES


def release_reserve(folder: Path) -> bool:
    """Give the room back to the disk; returns whether there was a reserve."""
    try:
        (folder / RESERVE).unlink()
    except OSError:
        return False
    return True

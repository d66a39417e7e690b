"""A little room on the disk, kept for the day when it is full: the door goes on while somebody is warned."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

RESERVE: Final = "reserve"
RESERVE_BYTES: Final = 256 << 10


def keep_reserve(folder: Path) -> bool:
    """Make sure that the reserve is there; returns whether it is. A disk that has no room for it is no error."""
    path = folder / RESERVE
    with suppress(OSError):
        if path.stat().st_size == RESERVE_BYTES:
            return True
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        release_reserve(folder)
        return False
    return True


def release_reserve(folder: Path) -> bool:
    """Give the room back to the disk; returns whether there was any."""
    try:
        (folder / RESERVE).unlink()
    except OSError:
        return False
    return True

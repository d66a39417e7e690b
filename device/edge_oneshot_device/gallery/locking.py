"""A lock on a folder, for work on more than one file that one process at a time may do."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from edge_oneshot_device.errors import MachineError

LOCK_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.02


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock. The kernel releases it when the process ends, however it ends.

    Raises:
        MachineError: Reason ``folder_busy``: another process held it for too long; or ``cannot_read``.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise MachineError(f"cannot open {folder}: {error.strerror}", reason="cannot_read") from error
    try:
        _wait(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _wait(descriptor: int, folder: Path) -> None:
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= end:
                message = f"another process has been at work in {folder} for {LOCK_SECONDS:.0f} s: try again"
                raise MachineError(message, reason="folder_busy") from error
        else:
            return
        time.sleep(_PAUSE_SECONDS)

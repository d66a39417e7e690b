"""The folder of a run: refused when it holds a run already, and locked by one training at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from edge_oneshot.errors import TrainingError

RECORD: Final = "run.json"
ENCODER: Final = "encoder.keras"
CHECKPOINT: Final = "checkpoint.npz"
HISTORY: Final = "history.jsonl"


def require_no_run(path: Path) -> None:
    """Refuse a folder that holds a run, or a file of one, which another training would overwrite.

    Raises:
        TrainingError: Reason ``run_exists``.
    """
    if (path / RECORD).exists():
        raise TrainingError(f"{path}: holds a run already; add --resume, or name another folder", reason="run_exists")
    for name in (ENCODER, CHECKPOINT, HISTORY):
        if os.path.lexists(path / name):
            message = f"{path}: holds {name} already, without a run; name another folder, or move it away"
            raise TrainingError(message, reason="run_exists")


@contextmanager
def held(path: Path, *, make: bool = False) -> Iterator[None]:
    """Lock a folder for one training at a time; the kernel releases the lock when the process ends in any way.

    Args:
        path: The folder.
        make: Make it if it does not exist; it is removed again if it stays empty.

    Raises:
        TrainingError: Reason ``run_busy``: another process has locked it.
        OSError: It cannot be made or opened.
    """
    made = make and not path.exists()
    if make:
        path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(descriptor, path)
        yield
    finally:
        if made:
            with suppress(OSError):  # it is not empty
                path.rmdir()
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        message = f"{path}: another training is at work in this folder; wait until it ends, or name another folder"
        raise TrainingError(message, reason="run_busy") from None
    except OSError:  # a file system without locks does not prevent a training
        return

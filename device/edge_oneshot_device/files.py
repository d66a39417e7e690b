"""Reading and writing whole files: a write is complete or did not happen."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from edge_oneshot_device.errors import InputError, MachineError


def read_file(path: str | os.PathLike[str], limit: int) -> bytes:
    """Content of a regular file of at most `limit` bytes.

    Raises:
        InputError: Nothing is there or can be (``not_found``), it is a folder, pipe or device
            (``not_a_file``), or it is larger than `limit` (``file_too_large``).
        MachineError: It cannot be read (``cannot_read``).
    """
    try:
        _refuse_unreadable(path, os.stat(path), limit)  # noqa: PTH116 (takes any PathLike)
        # a pipe that takes its place meanwhile would block open() for ever
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            _refuse_unreadable(path, status, limit)
            return file.read(status.st_size + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path} does not exist; check the path", reason="not_found") from error
    except ValueError as error:  # a null character, or what no file's name can hold
        if isinstance(error, InputError):
            raise
        raise InputError(f"{str(path)[:80]!a} is no path: {error}; check it", reason="not_found") from error
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror}", reason="cannot_read") from error


def _refuse_unreadable(path: str | os.PathLike[str], status: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise InputError(f"{path} is {kind}; name a file", reason="not_a_file")
    if status.st_size > limit:
        most = f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit >> 10} KiB"
        raise InputError(f"{path} is larger than {most}, the most that is read", reason="file_too_large")


def write_atomically(
    path: str | os.PathLike[str], content: bytes, mode: int = 0o644, *, check: Callable[[], None] | None = None
) -> None:
    """Write a file so that a reader, or a power cut, sees the old content or the new, never a part.

    The content is written aside in the same folder, synced and renamed; then the folder is
    synced. The file gets `mode` exactly, whatever the umask. A link is replaced, not followed.

    Args:
        path: The file; one that a user named is checked first, see `outputs.check_output`.
        content: All of it.
        mode: Its permissions.
        check: Called right before the rename; what it raises leaves an existing file as it was.

    Raises:
        MachineError: ``cannot_write``; an existing file is as it was.
    """
    target = Path(path)
    try:
        _refuse_special(target)
        descriptor, aside = tempfile.mkstemp(prefix=".edge-oneshot-", suffix=".tmp", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            _refuse_special(target)
            if check is not None:
                check()
            Path(aside).replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(aside).unlink()
            raise
        sync_folder(target.parent)
    except OSError as error:
        raise MachineError(f"cannot write {target}: {error.strerror}", reason="cannot_write") from error


def _refuse_special(target: Path) -> None:
    """A rename would take the place of a device or a pipe."""
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "no regular file"
        raise MachineError(f"cannot write {target}: it is {kind}; name a file", reason="cannot_write")


def create_folder(folder: Path) -> None:
    """Make a folder, mode 0700, and those that it is in; they survive a power cut.

    Raises:
        OSError: The disk does not allow it.
    """
    if folder.is_dir():
        return
    create_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a power cut.

    Raises:
        OSError: The folder cannot be opened or synced.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Checks that a file is the program's own: a regular file of the right owner, and no link.

Whoever owns the folder may put anything there, and an administrator may work in it as root. So no link is followed,
and a file of another owner is refused.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from edge_oneshot_device.errors import IntegrityError

_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")  # sqlite.org/fileformat2.html, 3; also the end of such a name
_LEAST: Final = 16  # bytes of a journal that names a further file: SQLite looks for a name in no shorter one


def place_of(path: Path) -> Path:
    """The absolute path of a file, which is no link itself, whatever the working folder will be."""
    return path.parent.resolve() / path.name


@contextmanager
def own_file(path: Path) -> Iterator[int]:
    """A descriptor of a file, for its metadata only.

    It has O_PATH, because closing any other descriptor of a gallery would drop the locks that SQLite holds on it.

    Raises:
        FileNotFoundError: There is none.
        IntegrityError: Reason ``foreign_file``.
    """
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        require_own(path, os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def close_to_others(path: Path) -> None:
    """Remove the rights of other users on one of the program's own files.

    Raises:
        OSError: The disk does not allow it.
        IntegrityError: Reason ``foreign_file``.
    """
    with own_file(path) as descriptor:
        if os.fstat(descriptor).st_mode & 0o077:
            # by its descriptor: the name may lead to another file by now
            Path(f"/proc/self/fd/{descriptor}").chmod(0o600)


def require_plain_log(path: Path) -> None:
    """Check that a write-ahead log beside a gallery is not a hard link to a file elsewhere.

    The program writes none, but SQLite uses one that it finds, and empties and removes it.

    Args:
        path: The gallery.

    Raises:
        IntegrityError: Reason ``foreign_file``.
        OSError: The disk does not allow it.
    """
    log = path.with_name(f"{path.name}-wal")
    try:
        _require_single(log, log.lstat())
    except FileNotFoundError:
        return


def require_plain_journal(path: Path) -> None:
    """Check that a journal beside a gallery names no further file.

    SQLite writes such a name where a transaction spans several databases, which none of ours does, and deletes the file
    of that name after it has rolled the journal back, whatever file that is.

    Args:
        path: The gallery.

    Raises:
        IntegrityError: Reason ``foreign_file``.
        OSError: The disk does not allow it.
    """
    journal = path.with_name(f"{path.name}-journal")
    try:
        descriptor = os.open(journal, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        require_own(journal, journal.lstat())
        return
    try:
        status = os.fstat(descriptor)
        _require_single(journal, status)
        # one that another process has just created may be empty above, and have its header by now
        names = status.st_size >= _LEAST and os.pread(descriptor, len(_MAGIC), status.st_size - len(_MAGIC)) == _MAGIC
    finally:
        os.close(descriptor)
    if names:
        message = f"{journal} was not written by this program: move it away, and find out who left it there"
        raise IntegrityError(message, reason="foreign_file")


def _require_single(path: Path, status: os.stat_result) -> None:
    """As `require_own`, for a file that exists only at times, and so has one name."""
    require_own(path, status)
    if status.st_nlink > 1:
        message = f"{path} is a hard link to a file elsewhere: remove the link, and find out who left it there"
        raise IntegrityError(message, reason="foreign_file")


def require_own(path: Path, status: os.stat_result) -> None:
    """Check that a file is the program's own.

    Args:
        path: The file.
        status: Of the file itself, not of what a link leads to.

    Raises:
        IntegrityError: Reason ``foreign_file``: it is a link, a folder, a pipe or a device, or it belongs to
            somebody who owns neither this process nor the folder.
    """
    if not stat.S_ISREG(status.st_mode):
        what = "a link" if stat.S_ISLNK(status.st_mode) else "no regular file"
        raise IntegrityError(f"{path} is {what}: move it away, and find out who left it there", reason="foreign_file")
    folder = path.parent.stat().st_uid
    # a hard link may be another user's file
    if status.st_uid != folder and (status.st_uid != os.geteuid() or status.st_nlink > 1):
        message = f"{path} belongs to another user ({status.st_uid}), or is a hard link to a file elsewhere: run"
        raise IntegrityError(f"{message} the command as the user who owns the folder", reason="foreign_file")

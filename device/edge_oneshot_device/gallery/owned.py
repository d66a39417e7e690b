"""The program's own files: regular ones of the right owner, never a link that somebody left in their place.

Whoever owns the folder may put anything there, and an administrator may work in it as root. So no link is followed,
and a file of another owner is refused.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_oneshot_device.errors import IntegrityError


@contextmanager
def own_file(path: Path) -> Iterator[int]:
    """A descriptor of a file that is there, for its metadata alone.

    It has O_PATH: closing any other descriptor of a gallery would drop the locks that SQLite holds on it.

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
    """Take away the rights that others have on one of the program's own files.

    Raises:
        OSError: The disk does not allow it.
        IntegrityError: Reason ``foreign_file``.
    """
    with own_file(path) as descriptor:
        if os.fstat(descriptor).st_mode & 0o077:
            # by descriptor: the name may be another file's by now
            Path(f"/proc/self/fd/{descriptor}").chmod(0o600)


def require_own(path: Path, status: os.stat_result) -> None:
    """Make sure that a file is the program's own.

    Args:
        path: The file.
        status: Of the file itself, not of what a link leads to.

    Raises:
        IntegrityError: Reason ``foreign_file``: it is a link, a folder, a pipe or a device, or it belongs to
            somebody who owns neither this process nor the folder.
    """
    if not stat.S_ISREG(status.st_mode):
        what = "a link" if stat.S_ISLNK(status.st_mode) else "no regular file"
        raise IntegrityError(f"{path} is {what}: move it away, and look who left it there", reason="foreign_file")
    folder = path.parent.stat().st_uid
    # a hard link would be a file of somebody else's under a second name
    if status.st_uid != folder and (status.st_uid != os.geteuid() or status.st_nlink > 1):
        message = f"{path} belongs to another user ({status.st_uid}), or is a link to a file that is elsewhere: run"
        raise IntegrityError(f"{message} the command as the user who owns the folder", reason="foreign_file")

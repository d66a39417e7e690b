"""Check the files that a user names as outputs: they must not replace what cannot be made again."""

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.state_names import APPLICATION_ID, BUNDLE_NAME, BUNDLES, FORMER_SETTINGS, GALLERY, RESERVE

Named = str | os.PathLike[str] | None
Identity = tuple[int, int] | tuple[int, int, str]

_OWN: Final = (BUNDLES, RESERVE, FORMER_SETTINGS)

_HEAD_BYTES: Final = 4096
_KEY: Final = re.compile(rb"\s*[0-9a-fA-F]{64}\s*")
_DATABASE: Final = b"SQLite format 3\0"
_ID_BYTES: Final = slice(68, 72)  # of a database's header

_KINDS: Final = (
    (stat.S_ISLNK, "a link: name the file itself, or remove the link"),
    (stat.S_ISDIR, "a folder: name a file"),
    (stat.S_ISFIFO, "a pipe: name a file"),
    (stat.S_ISSOCK, "a socket: name a file"),
    (lambda mode: not stat.S_ISREG(mode), "a device: name a file"),
)


def check_output(
    path: str | os.PathLike[str],
    *,
    inputs: Iterable[Named] = (),
    folders: Iterable[Named] = (),
    state: Named = None,
    key: Named = None,
    backup: bool = False,
) -> None:
    """Refuse an output file that must not be written. Call this before the work begins and again before the rename.

    Only a regular file may be replaced, never a device, a pipe or a folder. A link is always refused, because both
    writing through it and replacing it would be a surprise. A key and a gallery are never replaced. Files are compared
    by device and inode, so that hard links, bind mounts and other spellings of a path count as the same file.

    Args:
        path: The output.
        inputs: Files that the command reads, and its other outputs; None stands for a file that was not given.
        folders: Folders that the command reads: no file in them may be replaced.
        state: The state folder in use: nothing may be written into it. A folder that looks like a state folder is
            always refused.
        key: The gallery's key: names beside it that begin with its name are reserved for former keys.
        backup: Whether the output is a copy of a gallery, which may replace another copy.

    Raises:
        InputError: Reason ``bad_output``, or ``no_folder``: the folder of the output does not exist.
        MachineError: Reason ``cannot_write``: this user may not write there.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise InputError(f"the folder {target.parent} does not exist: make it first", reason="no_folder")
    check_place(target, state)
    status = _status(target)
    if status is not None:
        for is_kind, words in _KINDS:
            if is_kind(status.st_mode):
                raise _refused(target, f"is {words}")
    own = _identity(target)
    if own in {_identity(Path(one)) for one in (*inputs, key) if one is not None}:
        raise _refused(target, "is a file that this command also reads or writes: name another file")
    if key is not None and _is_beside(target, Path(key)):
        raise _refused(target, "has a name that is reserved for former keys: name another file")
    if status is None:
        return
    if own in _files_of(state):
        raise _refused(target, "is a file of the state folder: name another file")
    if any(_lies_in(target, {_identity(Path(one))}) for one in folders if one is not None):
        raise _refused(target, "is in a folder that this command reads: name another file")
    if what := _irreplaceable(target, backup=backup):
        raise _refused(target, f"holds {what}, which is never overwritten: name another file")


def check_place(path: str | os.PathLike[str], state: Named = None) -> None:
    """Refuse a new file or folder inside a state folder.

    Args:
        path: The file or folder to create.
        state: The state folder in use; others are recognised by their content.

    Raises:
        InputError: Reason ``bad_output``.
    """
    target = Path(path)
    own = set() if state is None else {_identity(Path(state)), _identity(Path(state) / BUNDLES)}
    if _lies_in(target, own) or any(_looks_like_state(folder) for folder in _ancestors(target)):
        raise _refused(target, "is in a state folder, which only this program writes to: name another place")


def check_new_key(path: str | os.PathLike[str], state: str | os.PathLike[str]) -> None:
    """Refuse to create a key under a name that the state folder uses for its own files.

    Args:
        path: The key; one that exists already is never refused.
        state: The state folder in use; a key may be in it under another name.

    Raises:
        InputError: Reason ``bad_output``.
    """
    target, folder = Path(path), Path(state)
    if target.exists():
        return
    own = target.name in _OWN or target.name.startswith(GALLERY)
    if _lies_in(target, {_identity(folder / BUNDLES)}) or (own and _identity(target.parent) == _identity(folder)):
        raise _refused(target, "is a name that the state folder uses for its own files: name another place for the key")


def check_folder(path: str | os.PathLike[str], *, folders: Iterable[Named] = ()) -> None:
    """Refuse an output folder that must not be written to. Call this before the work begins.

    Args:
        path: The folder, which may exist.
        folders: Folders that the command reads; the output must not be inside one of them.

    Raises:
        InputError: Reason ``bad_output``: it is a file, a state folder, or in a folder that is read.
    """
    target = Path(path)
    if os.path.lexists(target) and not target.is_dir():
        raise _refused(target, "is not a folder: name another one")
    check_place(target / "anything")
    if _lies_in(target / "anything", {_identity(Path(one)) for one in folders if one is not None}):
        raise _refused(target, "is a folder that this command reads, or is in one: name another one")


def _status(target: Path) -> os.stat_result | None:
    if not os.access(target.parent, os.W_OK | os.X_OK):
        message = f"cannot write {target}: this user may not write in {target.parent}; name another folder"
        raise MachineError(message, reason="cannot_write")
    try:
        return target.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MachineError(f"cannot write {target}: {error.strerror}", reason="cannot_write") from error


def _identity(path: Path) -> Identity:
    """Device and inode; for a file that does not exist yet, those of its folder, and its name."""
    try:
        found = path.stat()
        return found.st_dev, found.st_ino
    except OSError:
        pass
    try:
        folder = path.parent.stat()
        return folder.st_dev, folder.st_ino, path.name
    except OSError:
        return 0, 0, os.path.realpath(path)  # a path that leads nowhere has no other identity


def _ancestors(target: Path) -> Iterable[Path]:
    return Path(os.path.realpath(target.parent), target.name).parents


def _lies_in(target: Path, folders: set[Identity]) -> bool:
    return bool(folders) and any(_identity(folder) in folders for folder in _ancestors(target))


def _files_of(state: Named) -> set[Identity]:
    if state is None:
        return set()
    return {_identity(file) for folder in (Path(state), Path(state) / BUNDLES) for file in _entries(folder)}


def _looks_like_state(folder: Path) -> bool:
    if not (folder / GALLERY).is_file():
        return False
    return any(re.fullmatch(BUNDLE_NAME, file.name) for file in _entries(folder / BUNDLES))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_beside(target: Path, key: Path) -> bool:
    return target.name.startswith(f"{key.name}.") and _identity(target.parent) == _identity(key.parent)


def _irreplaceable(target: Path, *, backup: bool) -> str | None:
    """What a file holds that cannot be made again; None where it may be replaced."""
    try:
        with target.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        message = f"cannot read {target}, which would be replaced: {error.strerror}; name another file"
        raise MachineError(message, reason="cannot_write") from error
    if _KEY.fullmatch(head) or b"PRIVATE KEY-----" in head:
        return "a key"
    if not head.startswith(_DATABASE):
        return None
    own = head[_ID_BYTES] == APPLICATION_ID.to_bytes(4, "big")
    return None if backup and own else "a database"


def _refused(target: Path, why: str) -> InputError:
    return InputError(f"{target} {why}", reason="bad_output")

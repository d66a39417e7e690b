"""Files that a user names to be written: what they may not replace, checked before the work and before the rename."""

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.gallery.migrations import APPLICATION_ID

Named = str | os.PathLike[str] | None
Identity = tuple[int, int] | tuple[int, int, str]

# What a state folder is known by; `recognition.state` has the names, and takes too long to import.
_GALLERY: Final = "gallery.db"
_BUNDLES: Final = "bundles"
_OWN: Final = (_BUNDLES, "reserve", "settings.json")
_BUNDLE: Final = re.compile(r".*-[0-9a-f]{12}\.oneshot")

_HEAD_BYTES: Final = 4096
_KEY: Final = re.compile(rb"\s*[0-9a-fA-F]{64}\s*")
_DATABASE: Final = b"SQLite format 3\0"
_APPLICATION_ID: Final = slice(68, 72)  # of a database's header

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
    """Refuse a file that must not be written, before the work for it begins and again before the rename.

    Only a regular file may be replaced, which keeps devices, pipes and folders. A link is refused wherever it
    leads, because writing through it and replacing it both surprise somebody. A key and a gallery are never
    replaced, whoever they belong to. Files are compared by device and inode, so that hard links, bind mounts
    and other spellings of a path count as the same file.

    Args:
        path: The output.
        inputs: Files that the command reads, and its other outputs; None stands for one that was not named.
        folders: Folders that it reads: no file that is there may be replaced.
        state: The state folder in use: nothing may be written into it. A folder that looks like one is refused
            in any case.
        key: The gallery's key: names beside it that begin with its own are kept for former keys.
        backup: The output is a copy of a gallery, and may replace a former one.

    Raises:
        InputError: Reason ``bad_output``, or ``no_folder``: the folder that it is to lie in is missing.
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
        raise _refused(target, "is what this command reads or makes besides: name another file")
    if key is not None and _is_beside(target, Path(key)):
        raise _refused(target, "has a name that is kept for former keys: name another file")
    if status is None:
        return
    if own in _files_of(state):
        raise _refused(target, "is a file of the state folder: name another file")
    if any(_lies_in(target, {_identity(Path(one))}) for one in folders if one is not None):
        raise _refused(target, "lies in a folder that this command reads: name another file")
    if what := _irreplaceable(target, backup=backup):
        raise _refused(target, f"holds {what}, which is never overwritten: name another file")


def check_place(path: str | os.PathLike[str], state: Named = None) -> None:
    """Refuse a new file or folder that would lie in a state folder, whose content is the program's own.

    Args:
        path: What is to be made.
        state: The state folder in use; others are known by their content.

    Raises:
        InputError: Reason ``bad_output``.
    """
    target = Path(path)
    own = set() if state is None else {_identity(Path(state)), _identity(Path(state) / _BUNDLES)}
    if _lies_in(target, own) or any(_looks_like_state(folder) for folder in _ancestors(target)):
        raise _refused(target, "lies in a state folder, whose files are the program's own: name another place")


def check_new_key(path: str | os.PathLike[str], state: str | os.PathLike[str]) -> None:
    """Refuse a key that would be made where the state folder's own files come and go.

    Args:
        path: The key, which may be there: then it is read, and refused for nothing.
        state: The state folder in use; a key may lie in it, under a name of its own.

    Raises:
        InputError: Reason ``bad_output``.
    """
    target, folder = Path(path), Path(state)
    if target.exists():
        return
    own = target.name in _OWN or target.name.startswith(_GALLERY)
    if _lies_in(target, {_identity(folder / _BUNDLES)}) or (own and _identity(target.parent) == _identity(folder)):
        raise _refused(target, "is where the state folder's own files come and go: name another place for the key")


def check_folder(path: str | os.PathLike[str], *, folders: Iterable[Named] = ()) -> None:
    """Refuse a folder in which nothing may be made, before the work for it begins.

    Args:
        path: The folder, which may be there.
        folders: Folders that the command reads, which it may not lie in.

    Raises:
        InputError: Reason ``bad_output``: it is a file, a state folder, or in a folder that is read.
    """
    target = Path(path)
    if os.path.lexists(target) and not target.is_dir():
        raise _refused(target, "is no folder: name another one")
    check_place(target / "anything")
    if _lies_in(target / "anything", {_identity(Path(one)) for one in folders if one is not None}):
        raise _refused(target, "is a folder that this command reads, or lies in one: name another one")


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
    """Device and inode; of what is not there yet, those of its folder, and its name."""
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
    return {_identity(file) for folder in (Path(state), Path(state) / _BUNDLES) for file in _entries(folder)}


def _looks_like_state(folder: Path) -> bool:
    if not (folder / _GALLERY).is_file():
        return False
    return any(_BUNDLE.fullmatch(file.name) for file in _entries(folder / _BUNDLES))


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
        message = f"cannot look at {target}, which would be replaced: {error.strerror}; name another file"
        raise MachineError(message, reason="cannot_write") from error
    if _KEY.fullmatch(head) or b"PRIVATE KEY-----" in head:
        return "a key"
    if not head.startswith(_DATABASE):
        return None
    own = head[_APPLICATION_ID] == APPLICATION_ID.to_bytes(4, "big")
    return None if backup and own else "a database"


def _refused(target: Path, why: str) -> InputError:
    return InputError(f"{target} {why}", reason="bad_output")

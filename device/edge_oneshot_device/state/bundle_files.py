"""The folder of bundles in the state folder: it is no link, and only files of the program's own names are deleted."""

import os
import re
import secrets
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError

BUNDLES: Final = "bundles"
BUNDLE_NAME: Final = r"^[a-z0-9][a-z0-9_.-]{0,63}-[0-9a-f]{12}\.oneshot$"

_OWN: Final = re.compile(rf"{BUNDLE_NAME}|^\.edge-oneshot-[a-z0-9_]+\.tmp$")
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def open_bundle(folder: Path, name: str, sha256: str, trust: str | None) -> Bundle:
    """A bundle of a state folder, checked.

    Raises:
        IntegrityError: Reason ``bundle_missing`` or ``bundle_altered``, or as `Bundle.open` says.
        MachineError: It cannot be read.
    """
    try:
        return Bundle.open(folder / BUNDLES / name, trust=trust, pinned=sha256)
    except InputError as error:
        message = f"the bundle in use is gone: {error}; run init again"
        raise IntegrityError(message, reason="bundle_missing") from error


def write_bundle(folder: Path, name: str, content: bytes) -> None:
    """Write a bundle into a state folder, mode 0600: whole, or not at all.

    Raises:
        IntegrityError: Reason ``foreign_folder``: the folder of bundles is a link, or somebody else's.
        MachineError: Reason ``cannot_write``.
    """
    aside = f".edge-oneshot-{secrets.token_hex(4)}.tmp"
    with _clear_errors(folder), _opened(folder) as bundles:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(aside, flags, 0o600, dir_fd=bundles), "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, name, src_dir_fd=bundles, dst_dir_fd=bundles)
        except BaseException:
            with suppress(OSError):
                os.unlink(aside, dir_fd=bundles)
            raise
        os.fsync(bundles)


def has_bundles(folder: Path) -> bool:
    """Whether something was installed in a state folder: a gallery is there before the first bundle is."""
    try:
        return any(re.fullmatch(BUNDLE_NAME, name) for name in os.listdir(folder / BUNDLES))  # noqa: PTH208 (names)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise MachineError(f"cannot look into {folder / BUNDLES}: {error.strerror}", reason="cannot_read") from error


def remove_bundles(folder: Path, keep: Collection[str]) -> None:
    """Delete the bundles of a state folder but for some, and what was left of writing one; all else there stays.

    Raises:
        IntegrityError: Reason ``foreign_folder``, as `write_bundle`.
        MachineError: Reason ``cannot_write``.
    """
    with _clear_errors(folder), _opened(folder) as bundles:
        for name in os.listdir(bundles):  # noqa: PTH208 (an open folder has no path)
            if name in keep or not _OWN.fullmatch(name):
                continue
            if stat.S_ISREG(os.stat(name, dir_fd=bundles, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=bundles)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """The folder of bundles itself, made if need be, mode 0700: no link to another one, nor somebody else's."""
    state = os.open(folder, _FOLDER)
    try:
        try:
            os.mkdir(BUNDLES, 0o700, dir_fd=state)
            os.fsync(state)
        except FileExistsError:
            pass
        try:
            bundles = os.open(BUNDLES, _FOLDER | os.O_NOFOLLOW, dir_fd=state)
        except NotADirectoryError as error:
            raise _foreign(folder, "is no folder, or a link to one") from error
        try:
            if os.fstat(bundles).st_uid != os.fstat(state).st_uid:
                raise _foreign(folder, "belongs to another user than the state folder")
            yield bundles
        finally:
            os.close(bundles)
    finally:
        os.close(state)


@contextmanager
def _clear_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"cannot write in {folder / BUNDLES}: {error.strerror}"
        raise MachineError(message, reason="cannot_write") from error


def _foreign(folder: Path, how: str) -> IntegrityError:
    message = f"{folder / BUNDLES} {how}: nothing is written or deleted there; look who made it, and remove it"
    return IntegrityError(message, reason="foreign_folder")

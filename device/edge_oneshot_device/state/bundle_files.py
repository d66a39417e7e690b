"""The folder of bundles in the state folder. A link is refused, and only files with the program's names are deleted."""

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
from edge_oneshot_device.state_names import BUNDLE_NAME, BUNDLES

_OWN: Final = re.compile(rf"{BUNDLE_NAME}|^\.edge-oneshot-[a-z0-9_]+\.tmp$")
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def open_bundle(folder: Path, name: str, sha256: str, trust: str | None) -> Bundle:
    """Open a bundle of a state folder.

    Args:
        folder: The state folder.
        name: The file name.
        sha256: The digest that the file has to have.
        trust: The public key that has to have signed it, in hex; None accepts any.

    Returns:
        The bundle, checked.

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
    """Write a bundle into a state folder atomically, with mode 0600.

    Args:
        folder: The state folder.
        name: The file name.
        content: The bytes of the bundle.

    Raises:
        IntegrityError: Reason ``foreign_folder``: the folder of bundles is a link, or belongs to another user.
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
    """Whether a bundle was installed in a state folder; a gallery alone does not say so."""
    try:
        return any(re.fullmatch(BUNDLE_NAME, name) for name in os.listdir(folder / BUNDLES))  # noqa: PTH208 (names)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise MachineError(f"cannot read {folder / BUNDLES}: {error.strerror}", reason="cannot_read") from error


def remove_bundles(folder: Path, keep: Collection[str]) -> None:
    """Delete bundles of a state folder, and leftovers of interrupted writes. Files with other names stay.

    Args:
        folder: The state folder.
        keep: File names of the bundles that stay.

    Raises:
        IntegrityError: Reason ``foreign_folder``, as for `write_bundle`.
        MachineError: Reason ``cannot_write``.
    """
    with _clear_errors(folder), _opened(folder) as bundles:
        for name in os.listdir(bundles):  # noqa: PTH208 (a descriptor has no path)
            if name in keep or not _OWN.fullmatch(name):
                continue
            if stat.S_ISREG(os.stat(name, dir_fd=bundles, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=bundles)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """A descriptor of the folder of bundles, which is created with mode 0700 if it does not exist."""
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
            raise _foreign(folder, "is not a folder, or is a link") from error
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


def _foreign(folder: Path, fault: str) -> IntegrityError:
    message = f"{folder / BUNDLES} {fault}: nothing is written or deleted there; find out who made it, and remove it"
    return IntegrityError(message, reason="foreign_folder")

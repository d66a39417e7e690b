"""Where the state folder is, and who owns it. It holds the gallery, the bundle in use and the one before it.

    gallery.db                         people, audit trail and settings
    bundles/NAME-<sha256[:12]>.oneshot

`install` writes a bundle under its own name before the transaction that puts it in use, so that an interrupted
`install` changes nothing.
"""

import os
import pwd
from pathlib import Path
from typing import Final

from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.files import create_folder
from edge_oneshot_device.state_names import BUNDLES, GALLERY

ENVIRONMENT: Final = "EDGE_ONESHOT_STATE"


def state_dir(argument: str | os.PathLike[str] | None = None) -> Path:
    """The state folder: the argument, else EDGE_ONESHOT_STATE, else ~/.local/state/edge-oneshot.

    Raises:
        InputError: Reason ``no_state_folder``: the argument is empty, or there is no home folder.
    """
    if argument is not None:
        if not os.fspath(argument):
            raise InputError("the name of the state folder is empty: give a folder", reason="no_state_folder")
        return Path(argument)
    if chosen := os.environ.get(ENVIRONMENT):
        return Path(chosen)
    try:
        return Path.home() / ".local" / "state" / "edge-oneshot"
    except RuntimeError as error:
        message = f"there is no home folder to keep the state in: give a folder with --state or {ENVIRONMENT}"
        raise InputError(message, reason="no_state_folder") from error


def writable_folder() -> Path | None:
    """The state folder, or the nearest folder above it that this user may write to, mostly on the same disk."""
    folder = state_dir().absolute()
    return next((one for one in (folder, *folder.parents) if os.access(one, os.W_OK)), None)


def require_owner(folder: Path) -> None:
    """Refuse a state folder of another user, who could replace every file in it.

    Raises:
        IntegrityError: Reason ``not_owner``.
        MachineError: Reason ``cannot_read``.
    """
    try:
        owner = folder.stat().st_uid
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise MachineError(f"cannot read {folder}: {error.strerror}", reason="cannot_read") from error
    if owner != os.geteuid():
        user = _name(owner)
        message = f"{folder} belongs to {user}, but this program runs as {_name(os.geteuid())}: run it as {user}"
        raise IntegrityError(f"{message} (sudo -u {user} edge-oneshot-device ...)", reason="not_owner")


def make_folder(folder: Path) -> None:
    """Create a folder with mode 0700 if it does not exist.

    Raises:
        MachineError: Reason ``cannot_write``.
    """
    try:
        create_folder(folder)
    except OSError as error:
        raise MachineError(f"cannot create the folder {folder}: {error.strerror}", reason="cannot_write") from error


def require_gallery(folder: Path) -> Path:
    """The path of the gallery in a state folder where a bundle is installed.

    Raises:
        InputError: Reason ``not_initialised``.
        IntegrityError: Reason ``not_owner`` or ``gallery_missing``.
        MachineError: Reason ``cannot_read``.
    """
    require_owner(folder)
    path = folder / GALLERY
    if not os.path.lexists(path):  # a link is refused later, as a link
        if not (folder / BUNDLES).exists():
            raise not_initialised(folder)
        message = f"the gallery {path} is gone: put it back, or run init --empty and restore a backup"
        raise IntegrityError(message, reason="gallery_missing")
    return path


def not_initialised(folder: Path) -> InputError:
    """The error for a folder where no bundle is installed."""
    message = f"no bundle is installed in {folder}: run edge-oneshot-device init NAME.oneshot --state {folder}"
    return InputError(message, reason="not_initialised")


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"#{user}"

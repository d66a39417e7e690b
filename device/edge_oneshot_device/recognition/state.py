"""The state folder: the gallery, which holds the settings too, the bundle in use and the one before it.

    gallery.db                         people, record and settings
    bundles/NAME-<sha256[:12]>.oneshot

A bundle is written under a name of its own before the transaction that puts it in use, so that an interrupted
`install` leaves everything as it was.
"""

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from edge_oneshot_device.bundle.manifest import Digest, Positive, Runtime, Slug
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.files import create_folder
from edge_oneshot_device.gallery.limits import Limits
from edge_oneshot_device.recognition.bundles import BUNDLE_NAME, BUNDLES

if TYPE_CHECKING:
    from edge_oneshot_device.gallery.gallery import Gallery

ENVIRONMENT: Final = "EDGE_ONESHOT_STATE"
GALLERY: Final = "gallery.db"
FORMER_SETTINGS: Final = "settings.json"
"""Where settings were before they were in the gallery: not read, and removed by the next `install`."""

BundleFile = Annotated[str, msgspec.Meta(pattern=BUNDLE_NAME)]
TargetFar = Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)]


class InUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `rollback` brings back.

    Attributes:
        bundle: File name in the folder of bundles.
        sha256: Of that file.
        variant: Its variant.
        runtime: The runtime that passed the self-test, or the Edge TPU, which may have been absent then.
        threads: Of one inference.
        target_far: None for the smallest that the calibration supports.
        fingerprint: Of the variant.
    """

    bundle: BundleFile
    sha256: Digest
    variant: Slug
    runtime: Literal[Runtime, "edgetpu"]
    threads: Positive
    target_far: TargetFar | None
    fingerprint: Digest


class Settings(InUse, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `install` decided; sealed in the gallery, parsed strictly.

    Attributes:
        trust: The public key, in hex, that has to have signed a bundle; None takes any bundle.
        keep_photos: Keep the images that people are enrolled from, sealed.
        rejections_per_minute: Of 1:N, after which the door makes everybody wait.
        allow_cpu: Run the plain file where the Edge TPU fails.
        former: What was in use before.
    """

    trust: Digest | None = None
    keep_photos: bool = False
    rejections_per_minute: Positive = Limits().rejections_per_minute
    allow_cpu: bool = False
    former: InUse | None = None

    @property
    def in_use(self) -> InUse:
        """What is in use now, as it will stand in `former` one day."""
        return InUse(**{name: getattr(self, name) for name in InUse.__struct_fields__})


def state_dir(argument: str | os.PathLike[str] | None = None) -> Path:
    """The state folder: the argument, else EDGE_ONESHOT_STATE, else ~/.local/state/edge-oneshot.

    Raises:
        InputError: Reason ``no_state_folder``: the argument is empty, or there is no home.
    """
    if argument is not None:
        if not os.fspath(argument):
            raise InputError("the name of the state folder is empty: name a folder", reason="no_state_folder")
        return Path(argument)
    if chosen := os.environ.get(ENVIRONMENT):
        return Path(chosen)
    try:
        return Path.home() / ".local" / "state" / "edge-oneshot"
    except RuntimeError as error:
        message = f"there is no home folder to keep the state in: name a folder with --state or {ENVIRONMENT}"
        raise InputError(message, reason="no_state_folder") from error


def writable_folder() -> Path | None:
    """The state folder, or the nearest one above that this user may write to: mostly on the same disk."""
    folder = state_dir().absolute()
    return next((one for one in (folder, *folder.parents) if os.access(one, os.W_OK)), None)


def require_owner(folder: Path) -> None:
    """Make sure that a state folder is this user's, if it is there: its owner decides what its names lead to.

    Raises:
        IntegrityError: Reason ``not_owner``.
    """
    try:
        owner = folder.stat().st_uid
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise MachineError(f"cannot look into {folder}: {error.strerror}", reason="cannot_read") from error
    if owner != os.geteuid():
        user = _name(owner)
        message = f"{folder} belongs to {user}, and this is run as {_name(os.geteuid())}: run it as {user}"
        raise IntegrityError(f"{message} (sudo -u {user} edge-oneshot-device ...)", reason="not_owner")


def make_folder(folder: Path) -> None:
    """Make a folder, mode 0700, where there is none.

    Raises:
        MachineError: Reason ``cannot_write``.
    """
    try:
        create_folder(folder)
    except OSError as error:
        raise MachineError(f"cannot create the folder {folder}: {error.strerror}", reason="cannot_write") from error


def require_gallery(folder: Path) -> Path:
    """The gallery's file of a state folder that something is installed in.

    Raises:
        InputError: Reason ``not_initialised``.
        IntegrityError: Reason ``not_owner``, or ``gallery_missing``.
    """
    require_owner(folder)
    path = folder / GALLERY
    if not os.path.lexists(path):  # a link is refused as one
        if not (folder / BUNDLES).exists():
            raise _not_initialised(folder)
        message = f"the gallery {path} is gone: put it back, or run init --empty and restore a backup"
        raise IntegrityError(message, reason="gallery_missing")
    return path


def require_settings(gallery: "Gallery") -> Settings:
    """The settings in force.

    Raises:
        InputError: Reason ``not_initialised``.
        IntegrityError: Reason ``settings_missing``, or as `read_settings` says.
    """
    settings = read_settings(gallery)
    if settings is not None:
        return settings
    folder = gallery.path.parent
    query = "SELECT EXISTS (SELECT * FROM person)"
    if not gallery.read(lambda connection: connection.execute(query).fetchone()[0]):
        raise _not_initialised(folder)
    message = (
        f"people are enrolled in {gallery.path}, but its settings are gone, or it is of a version that had none: "
        "run init again with the bundle, and --trust as before; nobody is lost"
    )
    raise IntegrityError(message, reason="settings_missing")


def read_settings(gallery: "Gallery") -> Settings | None:
    """The settings in force; None where there are none.

    Raises:
        IntegrityError: Reason ``settings_altered`` or ``settings_unreadable``.
    """
    content = gallery.read(gallery.settings)
    return None if content is None else decode_settings(gallery.path, content)


def decode_settings(path: Path, content: bytes) -> Settings:
    """Settings, as they are in the gallery.

    Raises:
        IntegrityError: Reason ``settings_unreadable``.
    """
    try:
        return msgspec.json.decode(content, type=Settings)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"the settings in {path} are those of another version ({error}): run init again"
        raise IntegrityError(message, reason="settings_unreadable") from error


def facts_of(settings: Settings) -> Mapping[str, Any]:
    """What the record says of settings."""
    names = ("variant", "runtime", "threads", "target_far", "trust", "keep_photos", "rejections_per_minute")
    return {"bundle": settings.sha256, **{name: getattr(settings, name) for name in (*names, "allow_cpu")}}


def defaults_again(before: Settings | None, now: Settings) -> list[str]:
    """Options of `init` that had another value than the default before, and have it now: they were not said again."""
    options = {
        "target_far": ("--target-far", None),
        "threads": ("--threads", 1),
        "keep_photos": ("--keep-photos", False),
        "rejections_per_minute": ("--rejections-per-minute", Limits().rejections_per_minute),
        "allow_cpu": ("--allow-cpu", False),
    }
    if before is None:
        return []
    return [
        option
        for name, (option, default) in options.items()
        if getattr(before, name) != default and getattr(now, name) == default
    ]


def _not_initialised(folder: Path) -> InputError:
    message = f"no bundle is installed in {folder}: run edge-oneshot-device init NAME.oneshot --state {folder}"
    return InputError(message, reason="not_initialised")


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"#{user}"

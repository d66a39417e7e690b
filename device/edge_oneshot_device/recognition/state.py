"""The state folder: the bundle in use, the one before it, the gallery, the settings.

    settings.json                      which bundle is in use, and how
    bundles/NAME-<sha256[:12]>.oneshot
    gallery.db

A bundle is written under a name of its own and settings.json last, by one rename: an
interrupted `install` leaves everything as it was.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.manifest import Digest, Positive, Runtime, Slug
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.files import create_folder, read_file, write_atomically
from edge_oneshot_device.gallery.limits import Limits

ENVIRONMENT: Final = "EDGE_ONESHOT_STATE"
BUNDLES: Final = "bundles"
GALLERY: Final = "gallery.db"
SETTINGS: Final = "settings.json"
MAX_SETTINGS_BYTES: Final = 64 << 10

IN_USE: Final = ("bundle", "sha256", "variant", "runtime", "threads", "target_far", "fingerprint")
"""What `rollback` brings back of the settings."""

BundleFile = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}-[0-9a-f]{12}\.oneshot$")]


class Former(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was in use before, for `rollback`; attributes as of `Settings`, and the encoder's fingerprint."""

    bundle: BundleFile
    sha256: Digest
    variant: Slug
    runtime: Literal[Runtime, "edgetpu"]
    threads: Positive
    target_far: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] | None
    fingerprint: Digest


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `install` decided; parsed strictly.

    Attributes:
        bundle: File name in the folder of bundles.
        sha256: Of that file.
        previous: The bundle that was in use before, kept; written for versions before there was `former`.
        runtime: The runtime that passed the self-test, or the Edge TPU, which may have been absent then.
        target_far: None for the smallest that the calibration supports.
        trust: The public key, in hex, that has to have signed a bundle; None takes any bundle.
        keep_photos: Keep the images that people are enrolled from, sealed.
        rejections_per_minute: Of 1:N, after which the door makes everybody wait.
        fingerprint: Of the variant; None was written before it was kept.
        former: What was in use before.
        allow_cpu: Run the plain file where the Edge TPU fails.
    """

    format: Literal[1]
    bundle: BundleFile
    sha256: Digest
    previous: BundleFile | None
    variant: Slug
    runtime: Literal[Runtime, "edgetpu"]
    threads: Positive
    target_far: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] | None
    trust: Digest | None = None
    keep_photos: bool = False
    rejections_per_minute: Positive = Limits().rejections_per_minute
    fingerprint: Digest | None = None
    former: Former | None = None
    allow_cpu: bool = False


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


def load(state: str | os.PathLike[str] | None = None) -> tuple[Settings, Bundle]:
    """The settings and the bundle in use, checked.

    Raises:
        InputError: Reason ``not_initialised``.
        IntegrityError: Reason ``settings_unreadable``, ``bundle_missing`` or ``bundle_altered``, or
            as `Bundle.open` says.
        MachineError: A file cannot be read.
    """
    folder = state_dir(state)
    settings = require_settings(folder)
    return settings, open_bundle(folder, settings.bundle, settings.sha256, settings.trust)


def require_settings(folder: Path) -> Settings:
    """The settings of a state folder.

    Raises:
        InputError: Reason ``not_initialised``.
        IntegrityError: Reason ``settings_unreadable``.
    """
    settings = read_settings(folder)
    if settings is None:
        message = f"no bundle is installed in {folder}: run edge-oneshot-device init NAME.oneshot --state {folder}"
        raise InputError(message, reason="not_initialised")
    return settings


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


def make_folder(folder: Path) -> None:
    """Make a folder, mode 0700, where there is none.

    Raises:
        MachineError: Reason ``cannot_write``.
    """
    try:
        create_folder(folder)
    except OSError as error:
        raise MachineError(f"cannot create the folder {folder}: {error.strerror}", reason="cannot_write") from error


def in_force(settings: Settings, encoders: Sequence[str]) -> Settings:
    """The settings, or those of before where a power cut kept the gallery from following.

    Args:
        settings: As they are in the folder.
        encoders: Of the gallery, see `encoders.encoders`.
    """
    former = settings.former
    if former is None or former.fingerprint == settings.fingerprint or [*encoders[-1:]] != [former.fingerprint]:
        return settings
    return msgspec.structs.replace(settings, former=None, **{name: getattr(former, name) for name in IN_USE})


def commit(folder: Path, settings: Settings, content: bytes, trusted: str | None, encoders: Sequence[str]) -> None:
    """Write the bundle, then the settings that name it, then tidy up.

    Args:
        folder: The state folder.
        settings: All but `previous` and `former`.
        content: The bundle.
        trusted: The key that the former settings named when the bundle was checked.
        encoders: Of the gallery before, see `in_force`.
    """
    former = read_settings(folder)
    if former is not None:
        former = in_force(former, encoders)
        if former.trust != trusted:
            message = f"another init changed meanwhile which key is trusted in {folder}: run init again"
            raise IntegrityError(message, reason="trust_changed")
        before = former.former
        if former.fingerprint is not None and _use(former) != _use(settings):
            values = {name: getattr(former, name) for name in IN_USE}
            before = Former(**values)
        kept = None if before is None else before.bundle
        settings = msgspec.structs.replace(settings, previous=kept, former=before)
    write_atomically(folder / BUNDLES / settings.bundle, content, mode=0o600)
    write_atomically(folder / SETTINGS, msgspec.json.format(msgspec.json.encode(settings), indent=1), mode=0o600)
    # it is installed: a leftover that cannot be removed is no failure
    with suppress(OSError):
        for path in (folder / BUNDLES).iterdir():
            if path.name not in (settings.bundle, settings.previous):
                path.unlink()


def _use(settings: Settings) -> tuple[object, ...]:
    return tuple(getattr(settings, name) for name in IN_USE)


def read_settings(folder: Path) -> Settings | None:
    """The settings of a state folder; None where there are none.

    Raises:
        IntegrityError: Reason ``settings_unreadable``.
    """
    path = folder / SETTINGS
    try:
        return msgspec.json.decode(read_file(path, MAX_SETTINGS_BYTES), type=Settings)
    except InputError as error:
        if error.reason == "not_found":
            return None
        raise IntegrityError(f"{error}; move it away and run init again", reason="settings_unreadable") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"{path} cannot be understood ({error}): move it away and run init again"
        raise IntegrityError(message, reason="settings_unreadable") from error

"""The state folder: the gallery, which holds the settings too, the bundle in use and the one before it.

    gallery.db                         people, audit trail and settings
    bundles/NAME-<sha256[:12]>.oneshot

A bundle is written under a name of its own before the transaction that puts it in use, so that an interrupted
`install` leaves everything as it was.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from edge_oneshot_device.bundle.fields import Digest, Positive, Slug
from edge_oneshot_device.bundle.manifest import Runtime
from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_device.gallery import settings as sealed_settings
from edge_oneshot_device.gallery.limits import Limits
from edge_oneshot_device.state.bundle_files import BUNDLE_NAME
from edge_oneshot_device.state.folder import not_initialised

if TYPE_CHECKING:
    from edge_oneshot_device.gallery.gallery import Gallery


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


class DeviceSettings(InUse, frozen=True, forbid_unknown_fields=True, kw_only=True):
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


def require_settings(gallery: "Gallery") -> DeviceSettings:
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
    with gallery.reading() as transaction:
        anybody = transaction.value(query)
    if not anybody:
        raise not_initialised(folder)
    message = (
        f"people are enrolled in {gallery.path}, but its settings are gone, or it is of a version that had none: "
        "run init again with the bundle, and --trust as before; nobody is lost"
    )
    raise IntegrityError(message, reason="settings_missing")


def read_settings(gallery: "Gallery") -> DeviceSettings | None:
    """The settings in force; None where there are none.

    Raises:
        IntegrityError: Reason ``settings_altered`` or ``settings_unreadable``.
    """
    with gallery.reading() as transaction:
        content = sealed_settings.read(transaction)
    return None if content is None else decode_settings(gallery.path, content)


def decode_settings(path: Path, content: bytes) -> DeviceSettings:
    """Settings, as they are in the gallery.

    Raises:
        IntegrityError: Reason ``settings_unreadable``.
    """
    try:
        return msgspec.json.decode(content, type=DeviceSettings)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"the settings in {path} are those of another version ({error}): run init again"
        raise IntegrityError(message, reason="settings_unreadable") from error


def facts_of(settings: DeviceSettings) -> Mapping[str, Any]:
    """What the audit trail says about settings."""
    names = ("variant", "runtime", "threads", "target_far", "trust", "keep_photos", "rejections_per_minute")
    return {"bundle": settings.sha256, **{name: getattr(settings, name) for name in (*names, "allow_cpu")}}


def defaults_again(before: DeviceSettings | None, now: DeviceSettings) -> list[str]:
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

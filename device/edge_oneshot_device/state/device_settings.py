"""The settings of a device: what `install` decided. They are sealed in the gallery and parsed strictly."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from edge_oneshot_device.bundle.fields import Digest, Positive, Slug
from edge_oneshot_device.bundle.manifest import Runtime
from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_device.gallery import settings as sealed_settings
from edge_oneshot_device.gallery.limits import Limits
from edge_oneshot_device.state.folder import not_initialised
from edge_oneshot_device.state_names import BUNDLE_NAME

if TYPE_CHECKING:
    from edge_oneshot_device.gallery.gallery import Gallery


BundleFile = Annotated[str, msgspec.Meta(pattern=BUNDLE_NAME)]
TargetFar = Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)]


class InUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What runs, and what `rollback` brings back.

    Attributes:
        bundle: File name in the folder of bundles.
        sha256: Digest of that file.
        variant: The variant of the bundle.
        runtime: The runtime that passed the self-test, or the Edge TPU, which may have been absent then.
        threads: Threads of one inference.
        target_far: Target false accept rate; None for the smallest that the calibration supports.
        fingerprint: Fingerprint of the variant.
    """

    bundle: BundleFile
    sha256: Digest
    variant: Slug
    runtime: Literal[Runtime, "edgetpu"]
    threads: Positive
    target_far: TargetFar | None
    fingerprint: Digest


class DeviceSettings(InUse, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `install` decided.

    Attributes:
        trust: The public key, in hex, that every bundle has to be signed by; None accepts any bundle.
        keep_photos: Whether the images that people are enrolled from are kept, sealed.
        rejections_per_minute: Rejected attempts of 1:N in a minute after which everybody has to wait.
        allow_cpu: Whether the file that is not compiled runs where the Edge TPU fails.
        former: What was in use before.
    """

    trust: Digest | None = None
    keep_photos: bool = False
    rejections_per_minute: Positive = Limits().rejections_per_minute
    allow_cpu: bool = False
    former: InUse | None = None

    @property
    def in_use(self) -> InUse:
        """What is in use now, as `former` will hold it after the next `install`."""
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
        f"people are enrolled in {gallery.path}, but its settings are gone, or it is of a version without settings: "
        "run init again with the bundle, and with --trust as before; everybody stays enrolled"
    )
    raise IntegrityError(message, reason="settings_missing")


def read_settings(gallery: "Gallery") -> DeviceSettings | None:
    """The settings in force; None where nothing is installed.

    Raises:
        IntegrityError: Reason ``settings_altered`` or ``settings_unreadable``.
    """
    with gallery.reading() as transaction:
        content = sealed_settings.read(transaction)
    return None if content is None else decode_settings(gallery.path, content)


def decode_settings(path: Path, content: bytes) -> DeviceSettings:
    """Decode settings from the gallery.

    Args:
        path: The gallery's file, for errors.
        content: The settings as JSON.

    Returns:
        The settings.

    Raises:
        IntegrityError: Reason ``settings_unreadable``.
    """
    try:
        return msgspec.json.decode(content, type=DeviceSettings)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"the settings in {path} were written by another version ({error}): run init again"
        raise IntegrityError(message, reason="settings_unreadable") from error


def facts_of(settings: DeviceSettings) -> Mapping[str, Any]:
    """What the audit trail records of settings."""
    names = ("variant", "runtime", "threads", "target_far", "trust", "keep_photos", "rejections_per_minute")
    return {"bundle": settings.sha256, **{name: getattr(settings, name) for name in (*names, "allow_cpu")}}

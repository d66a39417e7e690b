"""The state folder: the bundle in use, the one before it, the gallery, the settings.

    settings.json                      which bundle is in use, and how
    bundles/NAME-<sha256[:12]>.oneshot
    gallery.db

A bundle is written under a name of its own and settings.json last, by one rename: an
interrupted `install` leaves everything as it was.
"""

import hashlib
import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from edge_oneshot_device.bundle import MAX_BUNDLE_BYTES, Bundle
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.files import read_file, write_atomically
from edge_oneshot_device.gallery.database import is_sealed
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key, find_key
from edge_oneshot_device.gallery.limits import Limits
from edge_oneshot_device.manifest import Digest, Manifest, Positive, Runtime, Slug
from edge_oneshot_device.matching import calibration_for, threshold_for
from edge_oneshot_device.signature import load_public_key
from edge_oneshot_device.summary import Operation, summarise

ENVIRONMENT: Final = "EDGE_ONESHOT_STATE"
DEFAULT_VARIANT: Final = "int8"
BUNDLES: Final = "bundles"
GALLERY: Final = "gallery.db"
SETTINGS: Final = "settings.json"
MAX_SETTINGS_BYTES: Final = 64 << 10

BundleFile = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}-[0-9a-f]{12}\.oneshot$")]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `install` decided; parsed strictly.

    Attributes:
        bundle: File name in the folder of bundles.
        sha256: Of that file.
        previous: The bundle that was in use before, kept.
        runtime: The runtime that passed the self-test.
        target_far: None for the smallest that the calibration supports.
        trust: The public key, in hex, that has to have signed a bundle; None takes any bundle.
        keep_photos: Keep the images that people are enrolled from, sealed.
        rejections_per_minute: Of 1:N, after which the door makes everybody wait.
    """

    format: Literal[1]
    bundle: BundleFile
    sha256: Digest
    previous: BundleFile | None
    variant: Slug
    runtime: Runtime
    threads: Positive
    target_far: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] | None
    trust: Digest | None = None
    keep_photos: bool = False
    rejections_per_minute: Positive = Limits().rejections_per_minute


@dataclass(frozen=True, slots=True)
class Installation:
    """What `install` installed.

    Attributes:
        name, format, variants, fingerprints, calibration, signed_by, bytes: See `Summary`.
        variant, runtime, threads: What is in use now.
        target_far: Wanted false accept rate; None when the variant is uncalibrated.
        provisional: True when `target_far` is smaller than what the calibration supports, or
            the calibration itself is provisional.
        trusted: Whether bundles signed by `signed_by` alone are taken from now on.
        people: How many are enrolled.
        state: The state folder.
        key: Where the key is that seals the gallery.
    """

    name: str
    format: int
    variants: list[str]
    fingerprints: dict[str, str]
    calibration: list[Operation]
    signed_by: str | None
    bytes: int
    variant: str
    runtime: str
    threads: int
    target_far: float | None
    provisional: bool
    trusted: bool
    people: int
    state: str
    key: str


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


def choose_variant(manifest: Manifest, variant: str | None = None) -> str:
    """The variant asked for, else int8.

    Raises:
        InputError: Reason ``variant_missing``; the message lists the bundle's variants.
    """
    names = [one.name for one in manifest.variants]
    chosen = DEFAULT_VARIANT if variant is None else variant
    if chosen not in names:
        message = f"{manifest.name} has no variant {chosen!r}: choose one with --variant: {', '.join(names)}"
        raise InputError(message, reason="variant_missing")
    return chosen


def install(
    bundle: str | os.PathLike[str],
    state: str | os.PathLike[str] | None = None,
    *,
    variant: str | None = None,
    runtime: str | None = None,
    target_far: float | None = None,
    threads: int = 1,
    trust: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
    keep_photos: bool = False,
    rejections_per_minute: int = Limits().rejections_per_minute,
) -> Installation:
    """Check a bundle, run its self-test, and put it in use.

    Args:
        bundle: The bundle file.
        state: The state folder, see `state_dir`; created if need be, mode 0700.
        variant: Name of a variant; None takes int8.
        runtime: Name of a runtime; None takes the one of the variant's format.
        target_far: Wanted false accept rate of an attempt; None takes the smallest that the
            calibration supports.
        threads: Threads of one inference.
        trust: The file of a public key: from now on this bundle, and every one after it, has to
            be signed by it. None keeps the key that is trusted already, if there is one.
        key: The file of the key that seals the gallery, made if there is none; None looks where `find_key` says.
        keep_photos: Keep the images that people are enrolled from, sealed, to enrol them again from.
        rejections_per_minute: Of 1:N, at least 1, after which the door makes everybody wait.

    Raises:
        InputError: Reason ``bad_limit``, ``bad_target_far``, ``variant_missing``, ``uncalibrated`` (with a
            `target_far`), or as `Bundle.open`, `Encoder.open` and `load_public_key` say.
        IntegrityError: Reason ``gallery_of_other_fingerprint``, ``trust_changed`` (by another
            `install` at the same time), or as those say.
        MachineError: The disk does not allow it, or the runtime failed.
    """
    if target_far is not None and not 0.0 < target_far < 1.0:
        raise InputError(f"target FAR {target_far}: must be above 0 and below 1", reason="bad_target_far")
    if rejections_per_minute < 1:
        message = f"{rejections_per_minute} rejections a minute: at least 1 is possible"
        raise InputError(message, reason="bad_limit")
    folder = state_dir(state)
    source = find_key(key)
    former = _read_settings(folder)
    kept = None if former is None else former.trust
    trusted = kept if trust is None else load_public_key(trust)
    opened = Bundle.open(bundle, trust=trusted)
    manifest = opened.manifest
    name = choose_variant(manifest, variant)
    encoder = Encoder.open(opened, name, runtime=runtime, threads=threads)
    resolved, provisional = _resolve_target(manifest, name, target_far)
    _make_folder(folder)
    _make_folder(folder / BUNDLES)
    settings = Settings(
        format=1,
        bundle=f"{manifest.name}-{opened.sha256[:12]}.oneshot",
        sha256=opened.sha256,
        previous=None,
        variant=name,
        runtime=msgspec.convert(encoder.runtime, Runtime),
        threads=threads,
        target_far=target_far,
        trust=trusted,
        keep_photos=keep_photos,
        rejections_per_minute=rejections_per_minute,
    )
    _make_key(source, folder / GALLERY)
    with Gallery.open(folder / GALLERY, encoder.fingerprint, encoder.embedding.size, source) as gallery:

        def work(connection: sqlite3.Connection) -> None:
            # the transaction keeps out another install, and an enrolment with the former encoder
            gallery.require_fingerprint(connection)
            detail = {"bundle": opened.sha256, "variant": name, "fingerprint": encoder.fingerprint}
            gallery.append_audit(connection, "installed", detail=detail)
            _commit(folder, settings, opened.content, kept)

        gallery.change(work)
        people = len(gallery.people())
    summary = summarise(opened)
    return Installation(
        name=summary.name,
        format=summary.format,
        variants=summary.variants,
        fingerprints=summary.fingerprints,
        calibration=summary.calibration,
        signed_by=summary.signed_by,
        bytes=summary.bytes,
        variant=name,
        runtime=encoder.runtime,
        threads=threads,
        target_far=resolved,
        provisional=provisional,
        trusted=trusted is not None,
        people=people,
        state=str(folder),
        key=str(source),
    )


def load(state: str | os.PathLike[str] | None = None) -> tuple[Settings, Bundle]:
    """The settings and the bundle in use, checked.

    Raises:
        InputError: Reason ``not_initialised``.
        IntegrityError: Reason ``settings_unreadable``, ``bundle_missing`` or ``bundle_altered``, or
            as `Bundle.open` says.
        MachineError: A file cannot be read.
    """
    folder = state_dir(state)
    settings = _read_settings(folder)
    if settings is None:
        message = f"no bundle is installed in {folder}: run edge-oneshot-device init NAME.oneshot --state {folder}"
        raise InputError(message, reason="not_initialised")
    path = folder / BUNDLES / settings.bundle
    try:
        content = read_file(path, MAX_BUNDLE_BYTES)
    except InputError as error:
        message = f"the bundle in use is gone: {error}; run init again"
        raise IntegrityError(message, reason="bundle_missing") from error
    if hashlib.sha256(content).hexdigest() != settings.sha256:
        message = f"{path} was altered since it was installed: run init again with an intact copy"
        raise IntegrityError(message, reason="bundle_altered")
    return settings, Bundle.open(content, trust=settings.trust)


def _resolve_target(manifest: Manifest, variant: str, target_far: float | None) -> tuple[float | None, bool]:
    """The target for one template a person, and whether its threshold is provisional."""
    if target_far is None and not any(c.variant == variant for c in manifest.calibration):
        return None, False
    calibration = calibration_for(manifest, variant, 1)
    resolved = calibration.target_far if target_far is None else target_far
    return resolved, threshold_for(calibration, resolved).provisional


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"cannot create the folder {folder}: {error.strerror}", reason="cannot_write") from error


def _make_key(source: KeySource, gallery: Path) -> None:
    """Make the key of a new gallery; one that is sealed already needs its own."""
    if source.path is not None and not source.path.exists() and not is_sealed(gallery):
        create_key(source.path)


def _commit(folder: Path, settings: Settings, content: bytes, trusted: str | None) -> None:
    """Write the bundle, then the settings that name it, then tidy up.

    Args:
        folder: The state folder.
        settings: All but `previous`.
        content: The bundle.
        trusted: The key that the former settings named when the bundle was checked.
    """
    former = _read_settings(folder)
    if former is not None:
        if former.trust != trusted:
            message = f"another init changed meanwhile which key is trusted in {folder}: run init again"
            raise IntegrityError(message, reason="trust_changed")
        kept = former.previous if former.bundle == settings.bundle else former.bundle
        settings = msgspec.structs.replace(settings, previous=kept)
    write_atomically(folder / BUNDLES / settings.bundle, content, mode=0o600)
    write_atomically(folder / SETTINGS, msgspec.json.format(msgspec.json.encode(settings), indent=1), mode=0o600)
    # it is installed: a leftover that cannot be removed is no failure
    with suppress(OSError):
        for path in (folder / BUNDLES).iterdir():
            if path.name not in (settings.bundle, settings.previous):
                path.unlink()


def _read_settings(folder: Path) -> Settings | None:
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

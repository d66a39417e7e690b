"""Putting a bundle in use, and going back to the one before."""

import os
import sqlite3
from pathlib import Path
from typing import Final

import msgspec

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.manifest import Manifest, Runtime
from edge_oneshot_device.bundle.signature import load_public_key
from edge_oneshot_device.bundle.summary import Operation, summarise
from edge_oneshot_device.encoding.encoder import Encoder
from edge_oneshot_device.encoding.trial import try_variant
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery import renewal
from edge_oneshot_device.gallery.database import is_sealed
from edge_oneshot_device.gallery.encoders import encoders, people_of
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key, find_key
from edge_oneshot_device.gallery.limits import Limits
from edge_oneshot_device.matching.decision import calibration_for, threshold_for
from edge_oneshot_device.recognition.enrolment import enrol_again
from edge_oneshot_device.recognition.state import (
    BUNDLES,
    GALLERY,
    IN_USE,
    Settings,
    commit,
    make_folder,
    open_bundle,
    read_settings,
    require_settings,
    state_dir,
)

DEFAULT_VARIANT: Final = "int8"


class Installation(msgspec.Struct, frozen=True):
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
    re_enrol: bool = False,
    empty: bool = False,
    allow_cpu: bool = False,
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
        re_enrol: Where another encoder was in use, enrol everybody again from the photos that were kept.
        empty: Where another encoder was in use, begin with nobody; the templates of before are kept for `rollback`.
        allow_cpu: With the runtime ``edgetpu``: run the variant's plain file where the Edge TPU fails, now or later.

    Raises:
        InputError: Reason ``bad_limit``, ``cannot_re_enrol``, ``bad_target_far``, ``variant_missing``, ``uncalibrated``
            (with a `target_far`), or as `Bundle.open`, `Encoder.open` and `load_public_key` say.
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
    former = read_settings(folder)
    kept = None if former is None else former.trust
    trusted = kept if trust is None else load_public_key(trust)
    opened = Bundle.open(bundle, trust=trusted)
    manifest = opened.manifest
    name = choose_variant(manifest, variant)
    try_variant(opened, name, runtime)
    encoder = Encoder.open(opened, name, runtime=runtime, threads=threads, allow_cpu=allow_cpu)
    _resolve_target(manifest, name, target_far)
    make_folder(folder)
    make_folder(folder / BUNDLES)
    settings = Settings(
        format=1,
        bundle=f"{manifest.name}-{opened.sha256[:12]}.oneshot",
        sha256=opened.sha256,
        previous=None,
        variant=name,
        runtime="edgetpu" if runtime == "edgetpu" else msgspec.convert(encoder.runtime, Runtime),
        threads=threads,
        target_far=target_far,
        trust=trusted,
        keep_photos=keep_photos,
        rejections_per_minute=rejections_per_minute,
        fingerprint=encoder.fingerprint,
        allow_cpu=allow_cpu,
    )
    _make_key(source, folder / GALLERY)
    with Gallery.open(folder / GALLERY, encoder.fingerprint, encoder.embedding.size, source) as gallery:
        changed = gallery.read(encoders)[-1:] not in ([], [encoder.fingerprint])
        again = enrol_again(gallery, encoder, manifest) if re_enrol and changed else None

        def work(connection: sqlite3.Connection) -> None:
            # the transaction keeps out another install, and an enrolment with the former encoder
            before = encoders(connection)
            if again is None and not empty and people_of(connection, "".join(before[-1:])):
                gallery.require_encoder(connection)
            gallery.use_encoder(connection, {"bundle": opened.sha256, "variant": name})
            if again is not None:
                renewal.replace_all(gallery, connection, again)
            commit(folder, settings, opened.content, kept, before)

        gallery.change(work)
        if changed:
            gallery.wipe()
        people = len(gallery.people())
    return _installation(opened, encoder, settings, folder, source, people)


def rollback(state: str | os.PathLike[str] | None = None, *, key: str | os.PathLike[str] | None = None) -> Installation:
    """Put in use what was in use before, with the templates of then; called again, it goes forth again.

    Args:
        state: The state folder, see `state_dir`.
        key: The file of the gallery's key, see `find_key`.

    Raises:
        InputError: Reason ``not_initialised`` or ``nothing_before``.
        IntegrityError: The former bundle is not as it was left, or the gallery is damaged.
        MachineError: The disk does not allow it, or the runtime failed.
    """
    folder = state_dir(state)
    settings = require_settings(folder)
    former = settings.former
    if former is None:
        raise InputError(f"nothing was in use in {folder} before: init another bundle", reason="nothing_before")
    opened = open_bundle(folder, former.bundle, former.sha256, settings.trust)
    encoder = Encoder.open(
        opened, former.variant, runtime=former.runtime, threads=former.threads, allow_cpu=settings.allow_cpu
    )
    source = find_key(key)
    wanted = msgspec.structs.replace(settings, **{name: getattr(former, name) for name in IN_USE})
    with Gallery.open(folder / GALLERY, encoder.fingerprint, encoder.embedding.size, source) as gallery:

        def work(connection: sqlite3.Connection) -> None:
            detail = {"bundle": opened.sha256, "variant": encoder.variant, "rollback": True}
            before = encoders(connection)
            gallery.use_encoder(connection, detail)
            commit(folder, wanted, opened.content, settings.trust, before)

        gallery.change(work)
        people = len(gallery.people())
    return _installation(opened, encoder, wanted, folder, source, people)


def _installation(
    opened: Bundle, encoder: Encoder, settings: Settings, folder: Path, source: KeySource, people: int
) -> Installation:
    resolved, provisional = _resolve_target(opened.manifest, encoder.variant, settings.target_far)
    summary = summarise(opened)
    return Installation(
        name=summary.name,
        format=summary.format,
        variants=summary.variants,
        fingerprints=summary.fingerprints,
        calibration=summary.calibration,
        signed_by=summary.signed_by,
        bytes=summary.bytes,
        variant=encoder.variant,
        runtime=encoder.runtime,
        threads=settings.threads,
        target_far=resolved,
        provisional=provisional,
        trusted=settings.trust is not None,
        people=people,
        state=str(folder),
        key=str(source),
    )


def _resolve_target(manifest: Manifest, variant: str, target_far: float | None) -> tuple[float | None, bool]:
    """The target for one template a person, and whether its threshold is provisional."""
    if target_far is None and not any(c.variant == variant for c in manifest.calibration):
        return None, False
    calibration = calibration_for(manifest, variant, 1)
    resolved = calibration.target_far if target_far is None else target_far
    return resolved, threshold_for(calibration, resolved).provisional


def _make_key(source: KeySource, gallery: Path) -> None:
    """Make the key of a new gallery; one that is sealed already needs its own."""
    if source.path is not None and not source.path.exists() and not is_sealed(gallery):
        create_key(source.path)

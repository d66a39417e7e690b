"""Putting a bundle in use, and going back to the one before."""

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import msgspec

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.manifest import Manifest, Runtime
from edge_oneshot_device.bundle.signature import load_public_key, short_key
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.trial import try_variant
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.gallery import renewal
from edge_oneshot_device.gallery import settings as sealed_settings
from edge_oneshot_device.gallery.database import is_sealed, version_of
from edge_oneshot_device.gallery.encoders import encoders, people_of, require_encoder
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key, find_key
from edge_oneshot_device.gallery.limits import Limits
from edge_oneshot_device.gallery.locking import locked
from edge_oneshot_device.gallery.migrations import SEALED
from edge_oneshot_device.gallery.storage_errors import unsealed
from edge_oneshot_device.gallery.transaction import Transaction, with_reserve
from edge_oneshot_device.inspection.bundle_summary import Operation, summarise
from edge_oneshot_device.matching.thresholds import Outlook
from edge_oneshot_device.recognition.enrolment import enrol_again
from edge_oneshot_device.recognition.outlook import forecast, outlook_of, resolve_target
from edge_oneshot_device.state.bundle_files import has_bundles, open_bundle, remove_bundles, write_bundle
from edge_oneshot_device.state.folder import (
    FORMER_SETTINGS,
    GALLERY,
    make_folder,
    require_gallery,
    require_owner,
    state_dir,
)
from edge_oneshot_device.state.settings import (
    DeviceSettings,
    InUse,
    decode_settings,
    defaults_again,
    facts_of,
    require_settings,
)

DEFAULT_VARIANT: Final = "int8"


class Installation(msgspec.Struct, frozen=True):
    """What `install` installed.

    Attributes:
        name, format, variants, fingerprints, calibration, signed_by, bytes: See `Summary`.
        variant, runtime, threads: What is in use now.
        target_far: Wanted false accept rate; None when the variant is uncalibrated.
        default_far: Whether that is the bundle's own, as none was asked for.
        provisional: True when `target_far` is smaller than what the calibration supports, or
            the calibration itself is provisional.
        outlook: What the door does with those who are enrolled; None when the variant is uncalibrated.
        forecast: The same, if anybody is enrolled, and for more people than are.
        trusted: Whether bundles signed by `signed_by` alone are taken from now on.
        people: How many are enrolled.
        replaced: Whether something else was in use until now, which `rollback` brings back.
        state: The state folder.
        key: Where the key is that seals the gallery.
        taken_over: How many people were taken over from a gallery that was not sealed.
        defaults_again: Options that had another value than the default until now, and have it from now on.
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
    default_far: bool
    provisional: bool
    outlook: Outlook | None
    forecast: list[Outlook]
    trusted: bool
    people: int
    replaced: bool
    state: str
    key: str
    taken_over: int = 0
    defaults_again: list[str] = []


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
    take_over: bool = False,
    allow_cpu: bool = False,
) -> Installation:
    """Check a bundle, run its self-test, and put it in use.

    Args:
        bundle: The bundle file.
        state: The state folder, see `state_dir`; created if need be, mode 0700.
        variant: Name of a variant; None takes int8.
        runtime: Name of a runtime; None takes the one of the variant's format.
        target_far: Wanted false accept rate of an attempt; None takes the smallest that the
            calibration supports, if that is at most 1 %.
        threads: Threads of one inference.
        trust: The file of a public key: from now on this bundle, and every one after it, has to
            be signed by it. None keeps the key that is trusted already, if there is one.
        key: The file of the key that seals the gallery, made if there is none; None looks where `find_key` says.
        keep_photos: Keep the images that people are enrolled from, sealed, to enrol them again from.
        rejections_per_minute: Of 1:N, 1 to 1,000, after which the door makes everybody wait.
        re_enrol: Where another encoder was in use, enrol everybody again from the photos that were kept.
        empty: Where another encoder was in use, begin with nobody; the templates of before are kept for `rollback`.
            Where the gallery is gone, make a new one.
        take_over: Seal the people of a gallery of version 1, which whoever could write the file chose.
        allow_cpu: With the runtime ``edgetpu``: run the variant's plain file where the Edge TPU fails, now or later.

    Raises:
        InputError: Reason ``bad_limit``, ``cannot_re_enrol``, ``bad_target_far``, ``target_far_needed``,
            ``unreachable``, ``variant_missing``, ``uncalibrated`` (with a `target_far`), or as `Bundle.open`,
            `Encoder.open` and `load_public_key` say.
        IntegrityError: Reason ``gallery_missing`` (something was installed, but there is no gallery),
            ``gallery_unsealed`` (without `take_over`),
            ``gallery_of_other_fingerprint``, ``trust_changed`` (by another `install` at the same time),
            ``settings_missing`` (with them the key that was trusted), or as those say.
        MachineError: The disk does not allow it, or the runtime failed.
    """
    if target_far is not None and not 0.0 < target_far < 1.0:
        raise InputError(f"target FAR {target_far}: must be above 0 and below 1", reason="bad_target_far")
    Limits(rejections_per_minute=rejections_per_minute)  # refuses what is out of range
    folder = state_dir(state)
    require_owner(folder)
    _refuse_others(folder, empty=empty, take_over=take_over)
    source = find_key(key)
    with ExitStack() as stack:
        gallery = stack.enter_context(_open_gallery(folder, source)) if os.path.lexists(folder / GALLERY) else None
        kept = None if gallery is None else _trusted(gallery, named=trust is not None)
        trusted = kept if trust is None else load_public_key(trust)
        opened = Bundle.open(bundle, trust=trusted)
        manifest = opened.manifest
        name = choose_variant(manifest, variant)
        try_variant(opened, name, runtime)
        encoder = Encoder.open(opened, name, runtime=runtime, threads=threads, allow_cpu=allow_cpu)
        resolve_target(manifest, name, target_far, strictly=True)
        # fit for use: from here on something is written
        if gallery is None:
            make_folder(folder)
            gallery = stack.enter_context(_open_gallery(folder, source))
        gallery.use_with(encoder.fingerprint, encoder.embedding.size)
        settings = DeviceSettings(
            bundle=f"{manifest.name}-{opened.sha256[:12]}.oneshot",
            sha256=opened.sha256,
            variant=name,
            runtime="edgetpu" if runtime == "edgetpu" else msgspec.convert(encoder.runtime, Runtime),
            threads=threads,
            target_far=target_far,
            fingerprint=encoder.fingerprint,
            trust=trusted,
            keep_photos=keep_photos,
            rejections_per_minute=rejections_per_minute,
            allow_cpu=allow_cpu,
        )
        with gallery.reading() as transaction:
            changed = encoders(transaction)[-1:] not in ([], [encoder.fingerprint])
        again = enrol_again(gallery, encoder, manifest) if re_enrol and changed else None
        before: InUse | None = None
        again_default: list[str] = []

        def refuse_strangers(transaction: Transaction) -> None:
            if again is None and not empty and people_of(transaction, "".join(encoders(transaction)[-1:])):
                require_encoder(transaction)

        def work(transaction: Transaction) -> DeviceSettings:
            nonlocal before, again_default
            refuse_strangers(transaction)  # again, in the transaction that keeps out an enrolment
            now = _settings_of(transaction)
            if now is not None and now.trust != kept:
                message = f"another init changed meanwhile which key is trusted in {folder}: run init again"
                raise IntegrityError(message, reason="trust_changed")
            again_default = defaults_again(now, settings)
            before = None if now is None or now.in_use == settings.in_use else now.in_use
            former = before or (None if now is None else now.former)
            wanted = msgspec.structs.replace(settings, former=former)
            sealed_settings.install(transaction, msgspec.json.encode(wanted), facts_of(wanted))
            if again is not None:
                renewal.replace_all(transaction, again)
            return wanted

        with gallery.reading() as transaction:
            refuse_strangers(transaction)
        _put_in_use(gallery, settings, opened, work)
        with suppress(OSError):
            (folder / FORMER_SETTINGS).unlink()
        if changed:
            gallery.wipe()
        people, taken_over = len(gallery.people()), gallery.taken_over
        outlook = outlook_of(gallery, manifest, encoder, target_far)
        ahead = forecast(gallery, manifest, encoder, target_far)
    done = _installation(opened, encoder, settings, folder, source, people, outlook, ahead, replaced=before is not None)
    return msgspec.structs.replace(done, taken_over=taken_over, defaults_again=again_default)


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
    folder, source = state_dir(state), find_key(key)
    with Gallery.open(require_gallery(folder), key=source) as gallery:
        settings = require_settings(gallery)
        former = settings.former
        if former is None:
            raise InputError(f"nothing was in use in {folder} before: init another bundle", reason="nothing_before")
        opened = open_bundle(folder, former.bundle, former.sha256, settings.trust)
        encoder = Encoder.open(
            opened, former.variant, runtime=former.runtime, threads=former.threads, allow_cpu=settings.allow_cpu
        )
        gallery.use_with(encoder.fingerprint, encoder.embedding.size)
        back = msgspec.structs.replace(settings, former=settings.in_use, **msgspec.structs.asdict(former))

        def work(transaction: Transaction) -> DeviceSettings:
            if _settings_of(transaction) != settings:
                message = f"another init or rollback came before this one in {folder}: nothing was changed; try again"
                raise MachineError(message, reason="gallery_busy")
            sealed_settings.install(transaction, msgspec.json.encode(back), {**facts_of(back), "rollback": True})
            return back

        _put_in_use(gallery, back, opened, work)
        people = len(gallery.people())
        outlook = outlook_of(gallery, opened.manifest, encoder, back.target_far)
        ahead = forecast(gallery, opened.manifest, encoder, back.target_far)
    return _installation(opened, encoder, back, folder, source, people, outlook, ahead, replaced=True)


def _refuse_others(folder: Path, *, empty: bool, take_over: bool) -> None:
    """Refuse a gallery that is gone, whose people would be lost without a word, or that anybody could have written."""
    path = folder / GALLERY
    installed = has_bundles(folder)  # looked at first: another init makes the gallery before the first bundle
    version = version_of(path)
    if 0 < version < SEALED and not take_over:
        raise unsealed(path)
    if not version and not empty and installed:
        message = f"something was installed in {folder}, but its gallery is gone or empty: put it back, or say --empty"
        raise IntegrityError(f"{message} to begin with nobody, then restore a backup", reason="gallery_missing")


def _put_in_use(
    gallery: Gallery, settings: DeviceSettings, opened: Bundle, work: Callable[[Transaction], DeviceSettings]
) -> None:
    """Write a bundle, then what puts it in use, then remove what is in use no more."""
    folder = gallery.path.parent
    with locked(folder):  # lest another one's bundle is removed before it is in use
        write_bundle(folder, settings.bundle, opened.content)
        done = _change(gallery, work)
        keep = {one.bundle for one in (done, done.former) if one is not None}
        with suppress(MachineError):  # it is installed: a leftover that cannot be removed is no failure
            remove_bundles(folder, keep)


@with_reserve
def _change(gallery: Gallery, work: Callable[[Transaction], DeviceSettings]) -> DeviceSettings:
    with gallery.writing() as transaction:
        return work(transaction)


def _settings_of(transaction: Transaction) -> DeviceSettings | None:
    """The settings in force; None where there are none, or none that can be read: then `init` writes new ones."""
    try:
        content = sealed_settings.read(transaction)
        return None if content is None else decode_settings(transaction.path, content)
    except IntegrityError as error:
        if error.reason not in ("settings_altered", "settings_unreadable"):
            raise
        return None


def _trusted(gallery: Gallery, *, named: bool) -> str | None:
    """The key that is trusted now.

    Raises:
        IntegrityError: Reason ``settings_missing``: the settings are gone, the audit trail names a key that was
            trusted, and none is `named` now.
    """
    with gallery.reading() as transaction:
        settings = _settings_of(transaction)
    if settings is not None or named:
        return None if settings is None else settings.trust
    query = "SELECT detail FROM audit WHERE act = 'installed' ORDER BY seq DESC LIMIT 1"
    with gallery.reading() as transaction:
        detail = transaction.value(query)
    trust = None if detail is None else msgspec.json.decode(detail).get("trust")
    if trust is not None:
        message = f"the settings in {gallery.path} are gone, and {short_key(str(trust))} alone was trusted: say --trust"
        raise IntegrityError(f"{message} KEY.pub with that key", reason="settings_missing")
    return None


def _installation(
    opened: Bundle,
    encoder: Encoder,
    settings: DeviceSettings,
    folder: Path,
    source: KeySource,
    people: int,
    outlook: Outlook | None,
    ahead: list[Outlook],
    *,
    replaced: bool,
) -> Installation:
    resolved, provisional = resolve_target(opened.manifest, encoder.variant, settings.target_far)
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
        default_far=resolved is not None and settings.target_far is None,
        provisional=provisional,
        outlook=outlook,
        forecast=ahead,
        trusted=settings.trust is not None,
        people=people,
        replaced=replaced,
        state=str(folder),
        key=str(source),
    )


def _open_gallery(folder: Path, source: KeySource) -> Gallery:
    """The gallery, and the key of a new one; one that is sealed already needs its own."""
    path = folder / GALLERY
    if source.path is not None and not source.path.exists() and not is_sealed(path):
        try:
            create_key(source.path)
        except MachineError as error:
            if error.reason != "key_exists":  # by another init, which may be for another state folder
                raise
    return Gallery.open(path, key=source, create=True)

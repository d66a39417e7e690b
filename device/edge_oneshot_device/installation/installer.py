"""Install a bundle, and roll back to the one before it."""

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.manifest import Runtime
from edge_oneshot_device.bundle.signature import load_public_key, short_key
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.options import choose_variant
from edge_oneshot_device.encoding.trial import try_variant
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.gallery import renewal
from edge_oneshot_device.gallery import settings as sealed_settings
from edge_oneshot_device.gallery.database import is_sealed, version_of
from edge_oneshot_device.gallery.encoders import encoders, people_of, require_encoder
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key, find_key
from edge_oneshot_device.gallery.locking import locked
from edge_oneshot_device.gallery.migrations import SEALED
from edge_oneshot_device.gallery.storage_errors import unsealed
from edge_oneshot_device.gallery.transaction import Transaction, with_reserve
from edge_oneshot_device.installation.installation_report import Installation, report_on
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_device.recognition.enrolment import enrol_again
from edge_oneshot_device.recognition.outlook import resolve_target
from edge_oneshot_device.state.bundle_files import has_bundles, open_bundle, remove_bundles, write_bundle
from edge_oneshot_device.state.device_settings import (
    DeviceSettings,
    decode_settings,
    facts_of,
    require_settings,
)
from edge_oneshot_device.state.folder import (
    make_folder,
    require_gallery,
    require_owner,
    state_dir,
)
from edge_oneshot_device.state_names import FORMER_SETTINGS, GALLERY


def install(
    bundle: str | os.PathLike[str],
    state: str | os.PathLike[str] | None = None,
    options: InstallOptions | None = None,
    *,
    key: str | os.PathLike[str] | None = None,
) -> Installation:
    """Check a bundle, run its self-test, and put it in use.

    Args:
        bundle: The bundle file.
        state: The state folder, see `state_dir`; it is created with mode 0700 if it does not exist.
        options: How to use the bundle; None takes the defaults.
        key: The file of the gallery's key, created if it does not exist; None looks where `find_key` says.

    Returns:
        What is in use now.

    Raises:
        InputError: Reason ``cannot_re_enrol``, ``bad_target_far``, ``target_far_needed``, ``unreachable``,
            ``variant_missing``, ``uncalibrated`` (with a target FAR), or as `Bundle.open`, `Encoder.open` and
            `load_public_key` say.
        IntegrityError: Reason ``gallery_missing`` (something was installed, but there is no gallery),
            ``gallery_unsealed`` (a gallery of version 1, without `take_over`), ``gallery_of_other_fingerprint``,
            ``trust_changed`` (by another `install` at the same time), ``settings_missing`` (the key that was trusted
            went with them), or as the functions above say.
        MachineError: The disk does not allow it, or the runtime failed.
    """
    options = InstallOptions() if options is None else options
    folder = state_dir(state)
    require_owner(folder)
    _check_gallery(folder, options)
    source = find_key(key)
    with ExitStack() as stack:
        gallery = stack.enter_context(_open_gallery(folder, source)) if os.path.lexists(folder / GALLERY) else None
        trusted = None if gallery is None else _trusted_key(gallery, named=options.trust is not None)
        trust = trusted if options.trust is None else load_public_key(options.trust)
        opened = Bundle.open(bundle, trust=trust)
        encoder = _open_encoder(opened, _variant(opened, options, gallery), options)
        # everything is fit for use: from here on something is written
        if gallery is None:
            make_folder(folder)
            gallery = stack.enter_context(_open_gallery(folder, source))
        gallery.use_with(encoder.fingerprint, encoder.embedding.size)
        with gallery.reading() as transaction:
            changed = encoders(transaction)[-1:] not in ([], [encoder.fingerprint])
        renewed = enrol_again(gallery, encoder, opened.manifest) if options.re_enrol and changed else None
        change = _Change(_settings_for(opened, encoder, options, trust), trusted, renewed, options.empty)
        with gallery.reading() as transaction:
            change.check_people(transaction)  # before the bundle is written, and again in the transaction
        now, before = _put_in_use(gallery, change.wanted.bundle, opened.content, change.apply)
        with suppress(OSError):
            (folder / FORMER_SETTINGS).unlink()
        if changed:
            gallery.wipe()
        replaced = before is not None and before.in_use != now.in_use
        return report_on(gallery, opened, encoder, now, replaced=replaced, defaults_again=_defaults_again(before, now))


def rollback(state: str | os.PathLike[str] | None = None, *, key: str | os.PathLike[str] | None = None) -> Installation:
    """Put in use what was in use before, with its templates; called again, it puts the newer one in use again.

    Args:
        state: The state folder, see `state_dir`.
        key: The file of the gallery's key, see `find_key`.

    Returns:
        What is in use now.

    Raises:
        InputError: Reason ``not_initialised`` or ``nothing_before``.
        IntegrityError: The former bundle was altered, or the gallery is damaged.
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

        def replace_settings(transaction: Transaction) -> tuple[DeviceSettings, DeviceSettings | None]:
            if _settings_of(transaction) != settings:
                message = f"another init or rollback came before this one in {folder}: nothing was changed; try again"
                raise MachineError(message, reason="gallery_busy")
            sealed_settings.install(transaction, msgspec.json.encode(back), {**facts_of(back), "rollback": True})
            return back, settings

        _put_in_use(gallery, back.bundle, opened.content, replace_settings)
        return report_on(gallery, opened, encoder, back, replaced=True, defaults_again=[])


class _Change(NamedTuple):
    """What `install` is about to change in the gallery.

    Attributes:
        wanted: The new settings.
        trusted: The public key that was trusted when the bundle was checked.
        renewed: Templates of the new encoder for everybody, by person; None where nobody is enrolled again.
        empty: Whether to start with nobody.
    """

    wanted: DeviceSettings
    trusted: str | None
    renewed: dict[int, NDArray[np.float32]] | None
    empty: bool

    def check_people(self, transaction: Transaction) -> None:
        """Refuse to leave people behind whose templates are of another encoder."""
        if self.renewed is None and not self.empty and people_of(transaction, "".join(encoders(transaction)[-1:])):
            require_encoder(transaction)

    def apply(self, transaction: Transaction) -> tuple[DeviceSettings, DeviceSettings | None]:
        """Put the settings and the templates in place; the settings in force now, and those before them."""
        self.check_people(transaction)
        before, wanted = _settings_of(transaction), self.wanted
        if before is not None and before.trust != self.trusted:
            folder = transaction.path.parent
            message = f"another init changed meanwhile which key is trusted in {folder}: run init again"
            raise IntegrityError(message, reason="trust_changed")
        if before is not None:  # what rollback brings back; to install the same again changes nothing in that
            former = before.former if before.in_use == wanted.in_use else before.in_use
            wanted = msgspec.structs.replace(wanted, former=former)
        sealed_settings.install(transaction, msgspec.json.encode(wanted), facts_of(wanted))
        if self.renewed is not None:
            renewal.replace_all(transaction, self.renewed)
        return wanted, before


def _variant(bundle: Bundle, options: InstallOptions, gallery: Gallery | None) -> str:
    """The variant that was asked for, else the one that people are enrolled with, else the bundle's first."""
    if options.variant is None and gallery is not None:
        with gallery.reading() as transaction:
            in_use = [own for own in encoders(transaction)[-1:] if people_of(transaction, own)]
        for one in bundle.manifest.variants:
            if one.fingerprint in in_use:
                return one.name
    return choose_variant(bundle.manifest, options.variant)


def _open_encoder(bundle: Bundle, name: str, options: InstallOptions) -> Encoder:
    """The encoder, after a trial of its model file in a process of its own; its target FAR can be kept."""
    try_variant(bundle, name, options.runtime)
    encoder = Encoder.open(bundle, name, runtime=options.runtime, threads=options.threads, allow_cpu=options.allow_cpu)
    resolve_target(bundle.manifest, name, options.target_far, strictly=True)
    return encoder


def _settings_for(bundle: Bundle, encoder: Encoder, options: InstallOptions, trust: str | None) -> DeviceSettings:
    return DeviceSettings(
        bundle=f"{bundle.manifest.name}-{bundle.sha256[:12]}.oneshot",
        sha256=bundle.sha256,
        variant=encoder.variant,
        runtime="edgetpu" if options.runtime == "edgetpu" else msgspec.convert(encoder.runtime, Runtime),
        threads=options.threads,
        target_far=options.target_far,
        fingerprint=encoder.fingerprint,
        trust=trust,
        keep_photos=options.keep_photos,
        rejections_per_minute=options.rejections_per_minute,
        allow_cpu=options.allow_cpu,
    )


def _check_gallery(folder: Path, options: InstallOptions) -> None:
    """Refuse a gallery that is gone, whose people would be lost silently, or that anybody could have written."""
    path = folder / GALLERY
    installed = has_bundles(folder)  # looked at first: another init makes the gallery before the first bundle
    version = version_of(path)
    if 0 < version < SEALED and not options.take_over:
        raise unsealed(path)
    if not version and not options.empty and installed:
        message = (
            f"a bundle is installed in {folder}, but its gallery is missing or empty: put the gallery back, or run"
        )
        raise IntegrityError(
            f"{message} init --empty to begin with nobody, then restore a backup", reason="gallery_missing"
        )


def _put_in_use(
    gallery: Gallery,
    name: str,
    content: bytes,
    replace_settings: Callable[[Transaction], tuple[DeviceSettings, DeviceSettings | None]],
) -> tuple[DeviceSettings, DeviceSettings | None]:
    """Write a bundle, then the settings that name it, then remove the bundles that no settings name any more.

    Returns:
        The settings in force now, and those before them.
    """
    folder = gallery.path.parent
    with locked(folder):  # another process must not remove the bundle before the settings name it
        write_bundle(folder, name, content)
        now, before = _change(gallery, replace_settings)
        keep = {one.bundle for one in (now, now.former) if one is not None}
        with suppress(MachineError):  # it is installed: a leftover that cannot be removed is no failure
            remove_bundles(folder, keep)
    return now, before


@with_reserve
def _change(
    gallery: Gallery, work: Callable[[Transaction], tuple[DeviceSettings, DeviceSettings | None]]
) -> tuple[DeviceSettings, DeviceSettings | None]:
    with gallery.writing() as transaction:
        return work(transaction)


def _settings_of(transaction: Transaction) -> DeviceSettings | None:
    """The settings in force; None where there are none that can be read: then `init` writes new ones."""
    try:
        content = sealed_settings.read(transaction)
        return None if content is None else decode_settings(transaction.path, content)
    except IntegrityError as error:
        if error.reason not in ("settings_altered", "settings_unreadable"):
            raise
        return None


def _trusted_key(gallery: Gallery, *, named: bool) -> str | None:
    """The public key that is trusted now.

    Args:
        gallery: Its settings name the key.
        named: Whether the user names a key now.

    Returns:
        The key in hex; None where any bundle is accepted.

    Raises:
        IntegrityError: Reason ``settings_missing``: the settings are gone, the audit trail names a key that was
            trusted, and the user names none.
    """
    with gallery.reading() as transaction:
        settings = _settings_of(transaction)
        if settings is not None or named:
            return None if settings is None else settings.trust
        detail = transaction.value("SELECT detail FROM audit WHERE act = 'installed' ORDER BY seq DESC LIMIT 1")
    trust = None if detail is None else msgspec.json.decode(detail).get("trust")
    if trust is not None:
        message = (
            f"the settings in {gallery.path} are gone, and only the key {short_key(str(trust))} was trusted: run init"
        )
        raise IntegrityError(f"{message} with --trust KEY.pub and that key", reason="settings_missing")
    return None


def _defaults_again(before: DeviceSettings | None, now: DeviceSettings) -> list[str]:
    """Options that were set before and have their defaults again, because the user did not repeat them."""
    if before is None:
        return []
    defaults = InstallOptions()
    names = ("target_far", "threads", "keep_photos", "rejections_per_minute", "allow_cpu")
    return [
        f"--{name.replace('_', '-')}"
        for name in names
        if getattr(before, name) != getattr(defaults, name) == getattr(now, name)
    ]


def _open_gallery(folder: Path, source: KeySource) -> Gallery:
    """The gallery; a new one gets a new key where there is none, a sealed one needs the key that it has."""
    path = folder / GALLERY
    if source.path is not None and not source.path.exists() and not is_sealed(path):
        try:
            create_key(source.path)
        except MachineError as error:
            if error.reason != "key_exists":  # by another init, which may be for another state folder
                raise
    return Gallery.open(path, key=source, create=True)

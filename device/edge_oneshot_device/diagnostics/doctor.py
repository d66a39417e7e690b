"""Check everything that the door needs: what is wrong, and how to fix it."""

import errno
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from edge_oneshot_device.bundle.manifest import Manifest
from edge_oneshot_device.bundle.signature import short_key
from edge_oneshot_device.diagnostics.equipment import Finding, find_audio, find_clock, find_edgetpu, find_runtimes
from edge_oneshot_device.diagnostics.health import find_temperature, is_synchronized
from edge_oneshot_device.errors import InputError, MachineError, OneShotError
from edge_oneshot_device.files import sync_folder
from edge_oneshot_device.formatting import count, percent
from edge_oneshot_device.gallery import audit
from edge_oneshot_device.gallery.clock import SYSTEM
from edge_oneshot_device.gallery.keys import find_key
from edge_oneshot_device.gallery.reserve import has_reserve
from edge_oneshot_device.gallery.zone import describe_zone
from edge_oneshot_device.matching.thresholds import LOOSE_FAR
from edge_oneshot_device.presentation.results import HIGH_FRR, UNCALIBRATED, outlook_text
from edge_oneshot_device.recognition.outlook import outlook_of, resolve_target
from edge_oneshot_device.recognition.policy import Policy
from edge_oneshot_device.state.folder import require_owner, state_dir
from edge_oneshot_device.state.opening import Installed, open_installed

_LOW_BYTES: Final = 64 << 20
_LOW_SHARE: Final = 0.05
_BLAMED: Final = {
    "wrong_key": "key",
    "no_key": "key",
    "bad_key_command": "key",
    "foreign_file": "gallery",
    "not_initialised": "state",
    "cannot_write": "disk",
    "disk_full": "disk",
}


class Diagnosis(msgspec.Struct, frozen=True):
    """The result of all checks.

    Attributes:
        state: The state folder.
        findings: One or more for each check.
        exit_code: 0, or the exit code of the first fault.
    """

    state: str
    findings: list[Finding]
    exit_code: int


def examine(
    state: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
    *,
    require: Callable[[Manifest], None] = lambda _: None,
) -> Diagnosis:
    """Check everything that the door needs. Nothing changes, except that a test file is written and deleted.

    Args:
        state: The state folder, see `state_dir`.
        key: The file of the gallery's key, see `find_key`.
        require: Raises an InputError where the bundle does not serve, such as one without faces for a door.

    Returns:
        The findings. A check that fails is a finding, not an error.
    """
    folder = state_dir(state)
    findings: list[Finding] = []
    codes: list[int] = []

    def run(what: str, check: Callable[[], list[Finding]]) -> None:
        try:
            findings.extend(check())
        except OneShotError as error:
            findings.append(Finding(_blamed(error.reason) or what, "fault", str(error), error.reason))
            codes.append(error.exit_code)

    run("state", lambda: _owned(folder))
    ours = not codes
    if ours:
        run("bundle", lambda: _door(folder, key, require))
    run("zone", lambda: [Finding("zone", "ok", describe_zone(SYSTEM.now()))])
    if folder.is_dir():
        run("disk", lambda: _disk(folder, probe=ours))
    findings += [*find_runtimes(), *find_edgetpu(), *find_temperature()]
    return Diagnosis(str(folder), findings, codes[0] if codes else 0)


def _blamed(reason: str) -> str | None:
    """The part of the door that a reason code blames; None where the code does not say."""
    if reason in _BLAMED:
        return _BLAMED[reason]
    return next((what for what in ("gallery", "audit", "settings", "key") if reason.startswith(f"{what}_")), None)


def _owned(folder: Path) -> list[Finding]:
    require_owner(folder)
    return []


def _door(folder: Path, key: str | os.PathLike[str] | None, require: Callable[[Manifest], None]) -> list[Finding]:
    source = find_key(key)
    opened = open_installed(folder, key=key)
    manifest = opened.bundle.manifest
    with opened.gallery as gallery:
        require(manifest)
        people = gallery.template_cache(manifest.embedding.metric, manifest.rule).index.people
        outlook = outlook_of(gallery, Policy(manifest, opened.encoder, opened.settings.target_far))
        report = gallery.check_audit()
        with gallery.reading() as transaction:
            last = audit.newest(transaction)
    found = [
        _bundle(opened),
        _settings(opened),
        Finding("key", "ok", f"from {source}"),
        Finding("gallery", "ok", f"{people} enrolled, SQLite {sqlite3.sqlite_version}, rollback journal"),
        Finding("audit", "ok", f"{count(report.rows, 'row')} since {report.since} intact, head {report.head.seq}"),
        find_clock(
            SYSTEM.now(),
            datetime.fromtimestamp(last.at / 1e6, UTC),
            manifest.created,
            synchronized=is_synchronized(),
        ),
    ]
    if outlook is not None:
        good = outlook.people <= outlook.most_people and outlook.frr <= HIGH_FRR
        found.append(Finding("threshold", "ok" if good else "warning", outlook_text(outlook)))
    if manifest.input.audio is not None:
        found += find_audio()
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        found.append(
            Finding("state", "warning", f"other users can open {folder} (mode {mode:03o}): run chmod 700 on it")
        )
    if source.path is not None and folder.resolve() in source.path.resolve().parents:
        text = f"the key {source.path} is in the state folder, so a copy of the folder can be opened: move it elsewhere"
        found.append(Finding("key", "warning", text))
    return found


def require_faces(manifest: Manifest) -> None:
    """Refuse a bundle that finds no faces, for a door.

    Args:
        manifest: The bundle's.

    Raises:
        InputError: Reason ``no_faces``.
    """
    if manifest.input.face is None:
        message = f"{manifest.name} finds no faces: export --pretrained faces makes a bundle for a door"
        raise InputError(message, reason="no_faces")


def require_calibrated(manifest: Manifest) -> None:
    """Refuse a bundle with which nothing can be decided at a door.

    Args:
        manifest: The bundle's.

    Raises:
        InputError: Reason ``uncalibrated``.
    """
    if not manifest.calibration:
        message = f"{manifest.name} is uncalibrated, so it lets nobody in: run edge-oneshot calibrate"
        raise InputError(message, reason="uncalibrated")


def _bundle(opened: Installed) -> Finding:
    """What runs, and whether that is what the settings ask for."""
    encoder, wanted = opened.encoder, opened.settings.runtime
    text = f"{opened.bundle.manifest.name}, {encoder.variant} on {encoder.runtime}"
    passed = "its self-test passed"
    if encoder.runtime != wanted:
        return Finding("bundle", "warning", f"{text} instead of {wanted}, which failed: {passed}; see below")
    if encoder.delegated:
        text += " with XNNPACK"
    elif wanted == "litert":  # tflite-runtime has no XNNPACK for 8 bits
        return Finding("bundle", "warning", f"{text} without XNNPACK, which makes it slower: {passed}")
    return Finding("bundle", "ok", f"{text}: {passed}")


def _settings(opened: Installed) -> Finding:
    """The settings that decide at the door."""
    settings = opened.settings
    target, provisional = resolve_target(opened.bundle.manifest, settings.variant, settings.target_far)
    shown = UNCALIBRATED if target is None else f"{percent(target)}{', provisional' if provisional else ''}"
    trust = (
        "any bundle is accepted" if settings.trust is None else f"only bundles signed by {short_key(settings.trust)}"
    )
    photos = "photos are kept" if settings.keep_photos else "photos are not kept"
    text = f"target FAR {shown}, {count(settings.rejections_per_minute, 'rejection')} a minute, {trust}, {photos}"
    if target is not None and target > LOOSE_FAR:
        text += f": more than {percent(LOOSE_FAR)} of strangers get in; run init with a smaller --target-far"
        return Finding("settings", "warning", text)
    return Finding("settings", "ok", text)


def _disk(folder: Path, *, probe: bool) -> list[Finding]:
    if probe:
        _probe(folder)
    usage = shutil.disk_usage(folder)
    text = f"{usage.free >> 20} MiB free of {usage.total >> 20}"
    if not has_reserve(folder):
        return [
            Finding("disk", "warning", f"{text}: the reserve is used up; free some space now, or the door will stop")
        ]
    if usage.free < _LOW_BYTES or usage.free < _LOW_SHARE * usage.total:
        return [Finding("disk", "warning", f"{text}: free some space before it is full")]
    return [Finding("disk", "ok", text)]


def _probe(folder: Path) -> None:
    """Write, sync and delete a file in the state folder, as the door does at every decision.

    Raises:
        MachineError: Reason ``cannot_write``. A full disk is no error here, because `_disk` reports it.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=".edge-oneshot-", suffix=".tmp", dir=folder)
        try:
            os.write(descriptor, bytes(4096))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            Path(name).unlink()
        sync_folder(folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return
        remedy = {
            errno.EROFS: "look at dmesg, because a failing card becomes read-only, then mount it for writing again",
            errno.EACCES: f"run chmod 700 {folder}",
            errno.EIO: "the disk is failing: copy the state folder to another disk",
        }.get(error.errno or 0, "check the disk and the permissions of the folder")
        message = f"nothing can be written in {folder} ({error.strerror}), so nobody is let in: {remedy}"
        raise MachineError(message, reason="cannot_write") from error

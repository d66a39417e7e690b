"""What is found on this machine, what is missing, and what mends it."""

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

from edge_oneshot_device.bundle.signature import short_key
from edge_oneshot_device.diagnostics.equipment import Finding, find_clock, find_edgetpu, find_runtimes
from edge_oneshot_device.errors import MachineError, OneShotError
from edge_oneshot_device.files import sync_folder
from edge_oneshot_device.formatting import count, percent
from edge_oneshot_device.gallery import audit
from edge_oneshot_device.gallery.clock import SYSTEM
from edge_oneshot_device.gallery.keys import find_key
from edge_oneshot_device.gallery.reserve import has_reserve
from edge_oneshot_device.gallery.zone import describe_zone
from edge_oneshot_device.matching.thresholds import LOOSE_FAR
from edge_oneshot_device.presentation.bundles import UNCALIBRATED
from edge_oneshot_device.presentation.results import LOCKS_OUT, outlook_text
from edge_oneshot_device.recognition.outlook import outlook_of, resolve_target
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
    """Everything that was looked at.

    Attributes:
        state: The state folder.
        findings: One for each thing.
        exit_code: 0, or that of the first fault.
    """

    state: str
    findings: list[Finding]
    exit_code: int


def examine(state: str | os.PathLike[str] | None = None, key: str | os.PathLike[str] | None = None) -> Diagnosis:
    """Look at everything that the door needs; nothing is changed but for a file that is made and deleted again.

    Args:
        state: The state folder, see `state_dir`.
        key: The file of the gallery's key, see `find_key`.
    """
    folder = state_dir(state)
    findings: list[Finding] = []
    codes: list[int] = []

    def look(what: str, check: Callable[[], list[Finding]]) -> None:
        try:
            findings.extend(check())
        except OneShotError as error:
            findings.append(Finding(_blamed(error.reason) or what, "fault", str(error), error.reason))
            codes.append(error.exit_code)

    look("state", lambda: _owned(folder))
    ours = not codes
    if ours:
        look("bundle", lambda: _door(folder, key))
    look("zone", lambda: [Finding("zone", "ok", describe_zone(SYSTEM.now()))])
    if folder.is_dir():
        look("disk", lambda: _disk(folder, probe=ours))
    findings += [*find_runtimes(), *find_edgetpu()]
    return Diagnosis(str(folder), findings, codes[0] if codes else 0)


def _blamed(reason: str) -> str | None:
    """What a fault is a fault of, by its reason; None where that says nothing."""
    if reason in _BLAMED:
        return _BLAMED[reason]
    return next((what for what in ("gallery", "audit", "settings", "key") if reason.startswith(f"{what}_")), None)


def _owned(folder: Path) -> list[Finding]:
    require_owner(folder)
    return []


def _door(folder: Path, key: str | os.PathLike[str] | None) -> list[Finding]:
    source = find_key(key)
    opened = open_installed(folder, key=key)
    manifest = opened.bundle.manifest
    with opened.gallery as gallery:
        people = gallery.template_cache(manifest.embedding.metric, manifest.rule).index.people
        outlook = outlook_of(gallery, manifest, opened.encoder, opened.settings.target_far)
        report = gallery.check_audit()
        with gallery.reading() as transaction:
            last = audit.newest(transaction)
    found = [
        _bundle(opened),
        _settings(opened),
        Finding("key", "ok", f"from {source}"),
        Finding("gallery", "ok", f"{people} enrolled, SQLite {sqlite3.sqlite_version}, rollback journal"),
        Finding("audit", "ok", f"{count(report.rows, 'row')} since {report.since} hold, head {report.head.seq}"),
        find_clock(SYSTEM.now(), datetime.fromtimestamp(last.at / 1e6, UTC), manifest.created),
    ]
    if outlook is not None:
        sound = outlook.people <= outlook.most_people and outlook.frr <= LOCKS_OUT
        found.append(Finding("threshold", "ok" if sound else "warning", outlook_text(outlook)))
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        found.append(Finding("state", "warning", f"{folder} is open to others (mode {mode:03o}): chmod 700 it"))
    if source.path is not None and folder.resolve() in source.path.resolve().parents:
        text = f"the key {source.path} lies beside the gallery, so that a copy of the folder opens: move it elsewhere"
        found.append(Finding("key", "warning", text))
    return found


def _bundle(opened: Installed) -> Finding:
    """What runs, and whether it is what was asked for."""
    encoder, wanted = opened.encoder, opened.settings.runtime
    text = f"{opened.bundle.manifest.name}, {encoder.variant} on {encoder.runtime}"
    passed = "its self-test passed"
    if encoder.runtime != wanted:
        return Finding("bundle", "warning", f"{text} in the place of {wanted}, which failed: {passed}; see below")
    if encoder.delegated:
        text += " with XNNPACK"
    elif wanted == "litert":  # tflite-runtime has none for 8 bits
        return Finding("bundle", "warning", f"{text} without XNNPACK, so slower than it could be: {passed}")
    return Finding("bundle", "ok", f"{text}: {passed}")


def _settings(opened: Installed) -> Finding:
    """What decides at the door."""
    settings = opened.settings
    target, provisional = resolve_target(opened.bundle.manifest, settings.variant, settings.target_far)
    shown = UNCALIBRATED if target is None else f"{percent(target)}{', provisional' if provisional else ''}"
    trust = (
        "any bundle is taken" if settings.trust is None else f"bundles signed by {short_key(settings.trust)} are taken"
    )
    photos = "photos are kept" if settings.keep_photos else "no photos are kept"
    text = f"target FAR {shown}, {count(settings.rejections_per_minute, 'rejection')} a minute, {trust}, {photos}"
    if target is not None and target > LOOSE_FAR:
        text += f": more than {percent(LOOSE_FAR)} of all strangers get in; run init with a smaller --target-far"
        return Finding("settings", "warning", text)
    return Finding("settings", "ok", text)


def _disk(folder: Path, *, probe: bool) -> list[Finding]:
    if probe:
        _probe(folder)
    usage = shutil.disk_usage(folder)
    text = f"{usage.free >> 20} MiB free of {usage.total >> 20}"
    if not has_reserve(folder):
        return [Finding("disk", "warning", f"{text}: the reserve is used up; free some space now, or the door stops")]
    if usage.free < _LOW_BYTES or usage.free < _LOW_SHARE * usage.total:
        return [Finding("disk", "warning", f"{text}: free some space before it is full")]
    return [Finding("disk", "ok", text)]


def _probe(folder: Path) -> None:
    """Write, sync and delete a file in the state folder, as the door does at every decision.

    Raises:
        MachineError: Reason ``cannot_write``. A full disk is none: what is left of it is told apart from this.
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
            errno.EROFS: "mount its disk for writing again, after a look at dmesg: a failing card is made read-only",
            errno.EACCES: f"chmod 700 {folder}",
            errno.EIO: "the disk fails: copy the state folder to another one",
        }.get(error.errno or 0, "look at the disk and at the rights of the folder")
        message = f"nothing can be written in {folder} ({error.strerror}), so that nobody is let in: {remedy}"
        raise MachineError(message, reason="cannot_write") from error

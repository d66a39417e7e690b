import errno
import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_oneshot_device import Recognizer, cli
from edge_oneshot_device.diagnostics import doctor
from edge_oneshot_device.diagnostics.doctor import Diagnosis, examine
from edge_oneshot_device.diagnostics.equipment import Finding
from edge_oneshot_device.gallery.reserve import RESERVE_BYTES, keep_reserve, release_reserve
from edge_oneshot_device.installation import installer
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_device.state_names import RESERVE
from tests.samples.tiny import MakeBundle, People, sign_bundle


@pytest.fixture
def folder(make_bundle: MakeBundle, people: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder with ada enrolled, on a disk that has room."""
    monkeypatch.setattr(doctor, "_LOW_BYTES", 0)
    monkeypatch.setattr(doctor, "_LOW_SHARE", 0.0)
    state = tmp_path / "state"
    installer.install(make_bundle(), state, key=tmp_path / "key")
    with Recognizer.open(state, key=tmp_path / "key") as recognizer:
        recognizer.enrol("ada", people["ada"][0])
    return state


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "key"


def found(diagnosis: Diagnosis, level: str) -> list[Finding]:
    """What was found of the state; what the machine has is looked at in test_equipment."""
    machine = ("clock", "zone", "runtime", "edgetpu", "temperature", "supply")
    return [finding for finding in diagnosis.findings if finding.level == level and finding.what not in machine]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_where_all_is_well_everything_is_named_and_nothing_changed(folder: Path, key: Path) -> None:
    before = contents(folder)
    diagnosis = examine(folder, key)
    assert (diagnosis.state, diagnosis.exit_code) == (str(folder), 0)
    assert found(diagnosis, "warning") == found(diagnosis, "fault") == []
    first = ["bundle", "settings", "key", "gallery", "audit", "clock", "threshold", "zone", "disk"]
    assert [finding.what for finding in diagnosis.findings][: len(first)] == first
    rest = {finding.what for finding in diagnosis.findings[len(first) :]}
    assert {"runtime", "edgetpu"} <= rest <= {"runtime", "edgetpu", "temperature", "supply"}
    text = {finding.what: finding.text for finding in diagnosis.findings}
    assert text["bundle"] == "tiny, int8 on litert with XNNPACK: its self-test passed"
    assert text["settings"] == "target FAR 1 %, 10 rejections a minute, any bundle is accepted, photos are not kept"
    assert text["key"] == f"from {key}"
    assert text["gallery"] == f"1 enrolled, SQLite {sqlite3.sqlite_version}, rollback journal"
    assert text["audit"].startswith("3 rows since 20")
    assert contents(folder) == before


# warnings: the door works, and the code is 0


def test_a_key_beside_the_gallery_or_below_it_is_a_warning(folder: Path, key: Path, tmp_path: Path) -> None:
    (folder / "keys").mkdir()
    (tmp_path / "link").symlink_to(folder / "key")
    for place in (folder / "key", folder / "keys" / "key"):
        shutil.copy(key, place)
        diagnosis = examine(folder, place)
        (warning,) = found(diagnosis, "warning")
        assert (warning.what, diagnosis.exit_code) == ("key", 0)
        assert "is in the state folder" in warning.text
    assert len(found(examine(folder, tmp_path / "link"), "warning")) == 1


def test_a_folder_open_to_others_is_a_warning(folder: Path, key: Path) -> None:
    folder.chmod(0o755)
    diagnosis = examine(folder, key)
    (warning,) = found(diagnosis, "warning")
    assert (warning.what, diagnosis.exit_code) == ("state", 0)
    assert "mode 755): run chmod 700 on it" in warning.text


def test_a_loose_target_is_a_warning_and_what_decides_is_named(folder, key, make_bundle, public_file):
    signer = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    options = {"trust": public_file(signer), "keep_photos": True, "rejections_per_minute": 3}
    installer.install(sign_bundle(make_bundle(), signer), folder, InstallOptions(target_far=0.05, **options), key=key)
    diagnosis = examine(folder, key)
    (warning,) = found(diagnosis, "warning")
    assert (warning.what, diagnosis.exit_code) == ("settings", 0)
    digits = signer.public_key().public_bytes_raw().hex()[:16]
    assert f"target FAR 5 %, 3 rejections a minute, only bundles signed by {digits}" in warning.text
    assert "photos are kept: more than 1 % of strangers get in" in warning.text


@pytest.mark.parametrize(("least", "share"), [(1 << 60, 0.0), (0, 1.0)])
def test_little_room_is_a_warning_long_before_the_end(folder, key, monkeypatch, least, share):
    monkeypatch.setattr(doctor, "_LOW_BYTES", least)
    monkeypatch.setattr(doctor, "_LOW_SHARE", share)
    diagnosis = examine(folder, key)
    (warning,) = found(diagnosis, "warning")
    assert (warning.what, diagnosis.exit_code) == ("disk", 0)
    assert "free some space before it is full" in warning.text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = os.geteuid() == 0 and shutil.which("mount") is not None
    if mounted:
        command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    if not mounted:
        pytest.skip("a file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> None:
    """Leave no room."""
    with (disk / "filler").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def test_a_disk_that_fills_is_told_and_the_reserve_keeps_the_door_going_for_a_while(folder, key, small_disk, people):
    state = small_disk / "state"
    shutil.copytree(folder, state)
    (state / RESERVE).unlink()
    assert keep_reserve(state)
    assert (state / RESERVE).stat().st_size == RESERVE_BYTES
    fill(small_disk)
    assert found(examine(state, key), "warning") == []
    with Recognizer.open(state, key=key, limits=None) as recognizer:
        assert recognizer.identify(people["ada"][1]).accepted
        assert not (state / RESERVE).exists()
        fill(small_disk)
        (warning,) = found(examine(state, key), "warning")
        assert "the reserve is used up; free some space now, or the door will stop" in warning.text
        refused = [recognizer.identify(people["ada"][1]) for _ in range(2)][-1]
        assert (refused.accepted, refused.reason) == (False, "audit_unavailable")
        assert refused.candidate is not None
        (small_disk / "filler").unlink()
        assert recognizer.identify(people["ada"][1]).accepted
    assert found(examine(state, key), "warning") == []
    assert (state / RESERVE).stat().st_size == RESERVE_BYTES


def test_a_reserve_is_made_whole_given_up_once_and_no_error_where_there_is_no_room(small_disk: Path) -> None:
    (small_disk / RESERVE).write_bytes(bytes(10))
    assert keep_reserve(small_disk)
    assert (small_disk / RESERVE).stat().st_blocks * 512 >= RESERVE_BYTES
    assert release_reserve(small_disk)
    assert not release_reserve(small_disk)
    fill(small_disk)
    assert not keep_reserve(small_disk)
    assert not (small_disk / RESERVE).exists()
    assert not keep_reserve(small_disk / "absent")


# faults: the code is that of the first


def execute(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "gallery.db", isolation_level=None)) as connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    ("fault", "what", "reason", "code"),
    [
        (lambda _, key: key.unlink(), "key", "key_missing", 3),
        (lambda _, key: key.chmod(0o644), "key", "key_exposed", 3),
        (lambda _, key: key.write_text("00" * 31 + "01"), "key", "wrong_key", 3),
        (lambda folder, _: next((folder / "bundles").iterdir()).unlink(), "bundle", "bundle_missing", 3),
        (lambda folder, _: next((folder / "bundles").iterdir()).write_bytes(b""), "bundle", "bundle_altered", 3),
        (
            lambda folder, _: execute(folder, "UPDATE settings SET sealed = zeroblob(200)"),
            "settings",
            "settings_altered",
            3,
        ),
        (lambda folder, _: execute(folder, "DELETE FROM settings"), "settings", "settings_missing", 3),
        (lambda folder, _: (folder / "gallery.db").write_text("notes " * 1000), "gallery", "gallery_corrupt", 3),
        (lambda folder, _: (folder / "gallery.db").write_bytes(b""), "gallery", "gallery_missing", 3),
        (lambda folder, _: execute(folder, "DROP TABLE photo"), "gallery", "gallery_altered", 3),
        (lambda folder, _: (folder / "gallery.db").unlink(), "gallery", "gallery_missing", 3),
        (lambda folder, _: shutil.rmtree(folder), "state", "not_initialised", 2),
    ],
)
def test_a_fault_is_named_with_what_mends_it(folder, key, fault, what, reason, code):
    fault(folder, key)
    diagnosis = examine(folder, key)
    assert diagnosis.exit_code == code
    first = found(diagnosis, "fault")[0]
    assert (first.what, first.reason) == (what, reason)
    assert all("\n" not in finding.text for finding in diagnosis.findings)


@pytest.mark.parametrize("words", [["people"], ["audit", "--check"], ["doctor"]])
def test_a_gallery_that_was_emptied_is_no_new_one(folder, key, words, capfd):
    where = ["--state", str(folder), "--key", str(key)]
    (folder / "gallery.db").write_bytes(b"")
    assert cli.main([*words, *where]) == 3
    printed = capfd.readouterr()
    assert "restore a backup" in printed.out + printed.err
    assert (folder / "gallery.db").read_bytes() == b""


@pytest.mark.parametrize("words", [["audit", "--check"], ["doctor"]])
def test_people_who_were_deleted_from_the_file_are_missed(folder, key, words, capfd):
    execute(folder, "DELETE FROM person")
    execute(folder, "DELETE FROM template")
    assert cli.main([*words, "--state", str(folder), "--key", str(key)]) == 3
    printed = capfd.readouterr()
    assert "restore a backup that you trust" in printed.out + printed.err


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("failing", ["tempfile.mkstemp", "os.fsync"])
def test_a_state_folder_that_nothing_can_be_written_in_is_a_fault(folder, key, monkeypatch, number, failing):
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    before = contents(folder)
    monkeypatch.setattr(failing, fail)
    diagnosis = examine(folder, key)
    (fault,) = found(diagnosis, "fault")
    assert (fault.what, fault.reason, diagnosis.exit_code) == ("disk", "cannot_write", 4)
    assert f"nothing can be written in {folder} ({os.strerror(number)})" in fault.text
    monkeypatch.undo()
    assert contents(folder) == before


def test_a_state_folder_on_a_read_only_disk_is_a_fault(folder: Path, key: Path, small_disk: Path) -> None:
    state = small_disk / "state"
    shutil.copytree(folder, state)
    assert examine(state, key).exit_code == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    diagnosis = examine(state, key)
    assert (diagnosis.exit_code, [fault.reason for fault in found(diagnosis, "fault")]) == (4, ["cannot_write"])
    assert "mount it for writing again" in found(diagnosis, "fault")[0].text


def test_in_the_folder_of_another_user_nothing_is_written(folder, key, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr("tempfile.mkstemp", lambda **_: pytest.fail("a file was made"))
    assert [fault.reason for fault in found(examine(folder, key), "fault")] == ["not_owner"]


# the time zone


def test_the_zone_is_shown_with_the_time_there_and_an_unknown_one_is_a_fault(folder, key, monkeypatch):
    def zone() -> Finding:
        (finding,) = (finding for finding in examine(folder, key).findings if finding.what == "zone")
        return finding

    try:
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        assert re.fullmatch(r"Asia/Tokyo \(from TZ\), \d{4}-\d\d-\d\d \d\d:\d\d there \(UTC\+0900\)", zone().text)
        monkeypatch.setenv("TZ", "Asia/Tokio")
        assert (zone().level, zone().reason, examine(folder, key).exit_code) == ("fault", "unknown_zone", 4)
        monkeypatch.delenv("TZ")
        for target, shown in (("/usr/share/zoneinfo/Europe/Berlin", "Europe/Berlin, "), (None, "UTC, as there is no ")):
            link = folder.parent / f"localtime of {shown[:3]}"
            if target is not None:
                link.symlink_to(target)
            monkeypatch.setattr("edge_oneshot_device.gallery.zone._LOCALTIME", link)
            assert zone().text.startswith(shown)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE audit SET at = at + 1 WHERE seq = 2", "audit_altered"),
        ("UPDATE template SET sealed = zeroblob(92)", "gallery_corrupt"),
        ("DELETE FROM audit", "audit_altered"),
        ("DELETE FROM audit WHERE seq = 1", "audit_altered"),
    ],
)
def test_a_gallery_that_was_altered_is_a_fault(folder: Path, key: Path, change: str, reason: str) -> None:
    execute(folder, change)
    diagnosis = examine(folder, key)
    assert (diagnosis.exit_code, found(diagnosis, "fault")[0].reason) == (3, reason)


def test_the_command_says_it_line_by_line_and_ends_with_the_code_of_the_fault(folder, key, capfd):
    arguments = ["doctor", "--state", str(folder), "--key", str(key)]
    assert cli.main(arguments) == 0
    printed = capfd.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()][:4] == ["ok"] * 4
    key.chmod(0o640)
    assert cli.main([*arguments, "--json"]) == 3
    diagnosis = json.loads(capfd.readouterr().out)
    assert diagnosis["exit_code"] == 3
    assert [finding["reason"] for finding in diagnosis["findings"] if finding["level"] == "fault"] == ["key_exposed"]
    shutil.rmtree(folder)
    assert cli.main(arguments) == 2
    printed = capfd.readouterr()
    assert printed.out.startswith("fault")
    assert "edge-oneshot-device init" in printed.out
    assert not folder.exists()

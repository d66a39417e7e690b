import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.diagnostics.doctor import examine
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.gallery import audit, renewal
from edge_oneshot_device.gallery import settings as settings_rows
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key, read_key
from edge_oneshot_device.gallery.rotation import rotate_key
from edge_oneshot_device.gallery.transfer import back_up, restore
from edge_oneshot_device.installation import installer as installing
from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_device.recognition.recognizer import Recognizer
from edge_oneshot_device.state.device_settings import DeviceSettings, decode_settings
from edge_oneshot_device.state.folder import state_dir
from edge_oneshot_device.state.opening import open_installed
from tests.raising import raises
from tests.samples.galleries import tampering
from tests.samples.tiny import MakeBundle, hex_of, sign_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "var" / "state"


def bundles(folder: Path) -> set[str]:
    return {path.name for path in (folder / "bundles").iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def load(folder: Path) -> tuple[DeviceSettings, Bundle]:
    """The settings and the bundle in use."""
    opened = open_installed(folder)
    opened.gallery.close()
    return opened.settings, opened.bundle


def refusal(folder: Path) -> str:
    """Why the state does not open."""
    with pytest.raises((InputError, IntegrityError)) as refused:
        load(folder)
    assert "\n" not in str(refused.value)
    return refused.value.reason


def enrol_somebody(folder: Path, bundle: Path, variant: str = "int8") -> None:
    manifest = Bundle.open(bundle).manifest
    fingerprint = next(v.fingerprint for v in manifest.variants if v.name == variant)
    with Gallery.open(folder / "gallery.db", fingerprint, manifest.embedding.size) as gallery:
        gallery.enrol("ada", np.ones((1, manifest.embedding.size), np.float32))


# which folder


def test_the_argument_comes_before_the_environment_and_that_before_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDGE_ONESHOT_STATE", "/from/environment")
    assert state_dir("/from/argument") == Path("/from/argument")
    assert state_dir() == Path("/from/environment")
    for unset in (
        lambda: monkeypatch.setenv("EDGE_ONESHOT_STATE", ""),
        lambda: monkeypatch.delenv("EDGE_ONESHOT_STATE"),
    ):
        unset()
        assert state_dir() == tmp_path / ".local/state/edge-oneshot"


def test_an_empty_state_argument_is_refused() -> None:
    with raises(InputError, reason="no_state_folder"):
        state_dir("")


# install


def test_an_installed_bundle_is_kept_byte_for_byte_and_opened_again(make_bundle: MakeBundle, folder: Path) -> None:
    path = make_bundle()
    content = path.read_bytes()
    installation = install(path, folder, InstallOptions(target_far=0.05, threads=2))
    path.unlink()
    assert (installation.name, installation.variant, installation.runtime) == ("tiny", "int8", "litert")
    assert (installation.bytes, installation.signed_by, installation.format) == (len(content), None, 1)
    assert installation.variants == ["int8", "float32", "onnx-float32"]
    assert list(installation.fingerprints) == installation.variants
    assert (installation.target_far, installation.provisional, installation.people) == (0.05, False, 0)
    settings, bundle = load(folder)
    assert bundle.content == content
    assert settings.sha256 == hashlib.sha256(content).hexdigest()
    assert settings.bundle == f"tiny-{settings.sha256[:12]}.oneshot"
    assert (settings.variant, settings.runtime, settings.threads, settings.target_far) == ("int8", "litert", 2, 0.05)


def test_the_state_is_its_owners_alone(make_bundle: MakeBundle, folder: Path) -> None:
    install(make_bundle(), folder)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}
    assert modes.pop(folder.name) == 0o700
    assert modes.pop("bundles") == 0o700
    assert len(modes) == 3
    assert set(modes.values()) == {0o600}


def test_without_a_target_the_smallest_supported_one_is_taken(make_bundle: MakeBundle, folder: Path) -> None:
    installation = install(make_bundle(), folder)
    assert (installation.target_far, installation.provisional) == (0.01, False)
    assert load(folder)[0].target_far is None


def test_a_target_smaller_than_supported_is_installed_as_provisional(make_bundle: MakeBundle, folder: Path) -> None:
    assert install(make_bundle(), folder, InstallOptions(target_far=0.002)).provisional is True
    assert load(folder)[0].target_far == 0.002


def test_a_target_that_the_calibration_cannot_promise_is_refused_with_the_smallest_that_it_can(make_bundle, folder):
    for target in (1e-9, 0.00099):
        with raises(InputError, match=r"supports 0\.001 or more", reason="bad_target_far"):
            install(make_bundle(), folder, InstallOptions(target_far=target))
    assert not folder.exists()
    assert install(make_bundle(), folder, InstallOptions(target_far=0.001)).outlook is not None


def test_a_bundle_that_takes_everybody_for_the_same_is_not_installed(make_bundle: MakeBundle, folder: Path) -> None:
    def collapse(manifest: Any) -> None:
        for calibration in manifest["calibration"]:
            for point in calibration["points"]:
                point["threshold"] = 1.0

    with raises(InputError, match="cannot tell people apart", reason="unreachable"):
        install(make_bundle(change=collapse), folder)


def test_an_uncalibrated_bundle_is_installed_without_a_target(make_bundle: MakeBundle, folder: Path) -> None:
    installation = install(make_bundle(calibrated=False), folder)
    assert (installation.target_far, installation.provisional, installation.calibration) == (None, False, [])


@pytest.mark.parametrize(
    ("made", "asked", "reason"),
    [
        ({}, {"target_far": 0.0}, "bad_target_far"),
        ({}, {"target_far": 1.0}, "bad_target_far"),
        ({}, {"target_far": float("nan")}, "bad_target_far"),
        ({}, {"variant": "coral"}, "variant_missing"),
        ({"calibrated": False}, {"target_far": 0.1}, "uncalibrated"),
        ({}, {"runtime": "onnxruntime"}, "wrong_runtime"),
        ({}, {"threads": 0}, "wrong_threads"),
    ],
)
def test_a_refused_init_creates_nothing(make_bundle, folder, made, asked, reason):
    with raises(InputError, reason=reason):
        install(make_bundle(**made), folder, InstallOptions(**asked))
    assert not folder.exists()


def test_a_missing_variant_is_refused_with_the_list_of_those_there_are(make_bundle: MakeBundle, folder: Path) -> None:
    with pytest.raises(InputError, match=r"no variant 'int8'.*--variant: float32, onnx-float32"):
        install(make_bundle(variants=("float32", "onnx-float32")), folder, InstallOptions(variant="int8"))


@pytest.mark.parametrize("variants", [("int8", "float32"), ("float32", "int8"), ("onnx-float32",)])
def test_a_new_door_uses_the_bundle_s_first_variant(make_bundle, folder, variants):
    assert install(make_bundle(variants=variants), folder).variant == variants[0]
    assert load(folder)[0].variant == variants[0]


@pytest.mark.parametrize(("enrolled", "variant"), [(True, "int8"), (False, "float32")])
def test_a_door_with_people_keeps_its_variant_when_the_next_bundle_has_another_first(
    make_bundle, folder, enrolled, variant
):
    former = make_bundle(variants=("int8", "float32"))
    install(former, folder)
    if enrolled:
        enrol_somebody(folder, former)
    installation = install(make_bundle(name="recalibrated", variants=("float32", "int8"), counts=(1, 5)), folder)
    assert (installation.variant, installation.people) == (variant, int(enrolled))


def test_a_door_takes_the_first_variant_of_another_encoder(make_bundle: MakeBundle, folder: Path) -> None:
    install(make_bundle(variants=("int8", "float32")), folder)
    other = make_bundle(name="other", variants=("float32", "int8"), min_contrast=17)
    assert install(other, folder).variant == "float32"


def test_a_bundle_with_any_byte_flipped_is_refused_and_the_former_one_stays(make_bundle, folder, tmp_path):
    install(make_bundle(), folder)
    before = contents(folder)
    content = make_bundle(name="next").read_bytes()
    broken = tmp_path / "broken.oneshot"
    for position in np.linspace(0, len(content) - 1, 40).astype(int):
        flipped = bytearray(content)
        flipped[position] ^= 0x10
        broken.write_bytes(flipped)
        with pytest.raises(IntegrityError):
            install(broken, folder)
    assert contents(folder) == before


def test_a_bundle_that_fails_its_self_test_is_refused(make_bundle: MakeBundle, folder: Path) -> None:
    def spoil(manifest: dict[str, Any]) -> None:
        manifest["self_test"]["outputs"]["int8"][1][0] += 20.0

    with raises(IntegrityError, reason="self_test_failed"):
        install(make_bundle(change=spoil), folder)
    assert not folder.exists()


# the next bundle


def test_the_bundle_before_is_kept_and_older_ones_are_removed(make_bundle: MakeBundle, folder: Path) -> None:
    found = []
    for name in ("first", "second", "third"):
        install(make_bundle(name=name), folder)
        found.append(load(folder)[0].bundle)
        assert bundles(folder) == set(found[-2:])
    install(make_bundle(name="third"), folder, InstallOptions(variant="float32"))
    # what was in use before is another variant of the same bundle
    assert bundles(folder) == set(found[2:])
    install(make_bundle(name="second"), folder)
    settings, _ = load(folder)
    assert settings.former is not None
    assert (settings.bundle, settings.former.bundle) == (found[1], found[2])


def test_a_leftover_of_an_interrupted_init_is_removed_by_the_next(make_bundle: MakeBundle, folder: Path) -> None:
    install(make_bundle(), folder)
    (folder / "bundles" / ".edge-oneshot-abc.tmp").write_bytes(b"half")
    install(make_bundle(), folder)
    assert bundles(folder) == {load(folder)[0].bundle}


def test_people_of_another_fingerprint_keep_a_bundle_out(make_bundle: MakeBundle, folder: Path) -> None:
    former = make_bundle()
    install(former, folder)
    enrol_somebody(folder, former)
    before = contents(folder)
    other = make_bundle(name="other", min_contrast=17)
    with raises(IntegrityError, match="1 person is enrolled", reason="gallery_of_other_fingerprint"):
        install(other, folder)
    with raises(IntegrityError, reason="gallery_of_other_fingerprint"):
        install(former, folder, InstallOptions(variant="float32"))
    assert contents(folder) == before
    with Gallery.open(folder / "gallery.db", "0" * 64, 16) as gallery:
        gallery.forget("ada")
    assert install(other, folder).name == "other"


def test_people_stay_enrolled_when_only_the_calibration_is_new(make_bundle: MakeBundle, folder: Path) -> None:
    former = make_bundle()
    install(former, folder)
    enrol_somebody(folder, former)
    assert install(make_bundle(name="recalibrated", counts=(1, 5)), folder).people == 1


@pytest.mark.parametrize("moment", ["before the bundle", "before the transaction", "within it", "after it"])
def test_an_interrupted_init_leaves_what_was_in_use_or_what_is_to_be(make_bundle, folder, monkeypatch, moment):
    install(make_bundle(), folder)
    former = load(folder)[0]
    write, put_in_use, remove = installing.write_bundle, settings_rows.install, installing.remove_bundles

    def cut(place: Any, *arguments: Any) -> None:
        if moment == "before the transaction":
            write(place, *arguments)
        if moment == "within it":
            put_in_use(place, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment in ("before the bundle", "before the transaction"):
            patch.setattr(installing, "write_bundle", cut)
        elif moment == "within it":
            patch.setattr(settings_rows, "install", cut)
        else:
            patch.setattr(installing, "remove_bundles", cut)
        with pytest.raises(KeyboardInterrupt):
            install(make_bundle(name="next"), folder)
    settings, bundle = load(folder)
    if moment == "after it":
        assert (bundle.manifest.name, settings.former) == ("next", former.in_use)
    else:
        assert settings == former
        assert bundle.manifest.name == "tiny"
    assert remove is installing.remove_bundles
    assert install(make_bundle(name="last"), folder).name == "last"
    settings, _ = load(folder)
    assert settings.former is not None
    assert bundles(folder) == {settings.bundle, settings.former.bundle}


def test_a_state_folder_that_cannot_be_made_is_a_clear_error(make_bundle: MakeBundle, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file")
    for place in (tmp_path / "occupied", tmp_path / "occupied" / "deeper"):
        with raises(MachineError, match="cannot create the folder", reason="cannot_write"):
            install(make_bundle(), place)


# load


def test_a_state_without_init_says_which_command_to_run(tmp_path: Path) -> None:
    with raises(InputError, match=r"run edge-oneshot-device init NAME\.oneshot --state", reason="not_initialised"):
        load(tmp_path / "nowhere")


def test_an_altered_bundle_is_refused(make_bundle: MakeBundle, folder: Path) -> None:
    install(make_bundle(), folder)
    path = folder / "bundles" / load(folder)[0].bundle
    intact = path.read_bytes()
    # whole in itself, but not the one that was installed
    path.write_bytes(make_bundle(seed=1).read_bytes())
    with raises(IntegrityError, match="was altered", reason="bundle_altered"):
        load(folder)
    path.unlink()
    with raises(IntegrityError, match="run init again", reason="bundle_missing"):
        load(folder)
    path.write_bytes(intact)
    assert load(folder)[1].content == intact


# settings


def test_settings_are_sealed_and_every_change_of_them_is_a_row_of_the_record(make_bundle, folder, key, public_file):
    bundle = sign_bundle(make_bundle(), key)
    install(bundle, folder)
    install(
        bundle,
        folder,
        InstallOptions(target_far=0.05, trust=public_file(key), rejections_per_minute=3, keep_photos=True),
    )
    assert not (folder / "settings.json").exists()
    content = (folder / "gallery.db").read_bytes()
    assert load(folder)[0].bundle.encode() not in content
    with open_installed(folder).gallery as gallery:
        details = [msgspec.json.decode(row.detail) for row in gallery.rows() if row.act == "installed"]
        gallery.check_audit()
    assert [(one["target_far"], one["trust"], one["rejections_per_minute"]) for one in details] == [
        (None, None, 10),
        (0.05, key.public_key().public_bytes_raw().hex(), 3),
    ]
    assert {one["bundle"] for one in details} == {hashlib.sha256(bundle.read_bytes()).hexdigest()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE settings SET sealed = zeroblob(length(sealed))", "settings_altered"),
        ("UPDATE settings SET sealed = x'00'", "settings_altered"),
        ("UPDATE settings SET seq = seq + 1", "settings_altered"),
        ("UPDATE settings SET sealed = (SELECT record FROM person)", "settings_altered"),
        ("UPDATE settings SET sealed = (SELECT chain FROM epoch)", "settings_altered"),
        ("DELETE FROM settings", "settings_missing"),
        ("UPDATE audit SET act = 'changed' WHERE act = 'installed'", "settings_altered"),
        ("DELETE FROM audit WHERE act = 'installed'", "audit_altered"),
    ],
)
def test_settings_that_were_altered_or_removed_are_refused_and_never_replaced_by_defaults(
    make_bundle, folder, change, reason
):
    bundle = make_bundle()
    install(bundle, folder, InstallOptions(target_far=0.001))
    enrol_somebody(folder, bundle)
    with tampering(folder / "gallery.db") as connection:
        connection.execute(change)
    assert refusal(folder) == reason
    with raises(IntegrityError, reason=reason):
        installing.rollback(folder)
    if reason == "audit_altered":
        with raises(IntegrityError, reason=reason):
            install(bundle, folder, InstallOptions(target_far=0.001))
        return
    # the way back: nobody is lost
    assert install(bundle, folder, InstallOptions(target_far=0.001)).people == 1
    assert load(folder)[0].target_far == 0.001


def test_former_settings_of_the_same_gallery_put_back_are_refused(make_bundle: MakeBundle, folder: Path) -> None:
    bundle = make_bundle()
    install(bundle, folder, InstallOptions(target_far=0.2))
    with tampering(folder / "gallery.db") as connection:
        loose = connection.execute("SELECT seq, sealed FROM settings").fetchone()
    install(bundle, folder, InstallOptions(target_far=0.001))
    with tampering(folder / "gallery.db") as connection:
        connection.execute("UPDATE settings SET seq = ?, sealed = ?", loose)
    assert refusal(folder) == "settings_altered"
    # nor with the later row of the audit trail removed, and another put in its place
    with tampering(folder / "gallery.db") as connection:
        connection.execute("DELETE FROM audit WHERE seq > ?", loose[:1])
        connection.execute("INSERT INTO audit SELECT seq + 2, at, 'x', person, detail, mac FROM audit WHERE seq = 1")
    assert refusal(folder) == "audit_altered"


def test_the_record_says_whether_the_settings_are_the_last_ones(make_bundle: MakeBundle, folder: Path) -> None:
    bundle = make_bundle()
    for far in (0.2, 0.001):
        install(bundle, folder, InstallOptions(target_far=far))
    with open_installed(folder).gallery as gallery:
        gallery.check_audit()
        with tampering(folder / "gallery.db") as connection:
            connection.execute("UPDATE settings SET seq = seq - 1")
        with pytest.raises(IntegrityError, match="are not those that the audit trail says") as refused:
            gallery.check_audit()
    assert refused.value.reason == "audit_altered"


def test_settings_of_another_gallery_with_the_same_key_are_refused(make_bundle, folder, tmp_path):
    bundle = make_bundle()
    install(bundle, folder, InstallOptions(target_far=0.001))
    install(bundle, tmp_path / "other", InstallOptions(target_far=0.5))
    with tampering(tmp_path / "other" / "gallery.db") as other, tampering(folder / "gallery.db") as connection:
        loose = other.execute("SELECT seq, sealed FROM settings").fetchone()
        assert connection.execute("SELECT seq FROM settings").fetchone() == loose[:1]
        connection.execute("UPDATE settings SET seq = ?, sealed = ?", loose)
    assert refusal(folder) == "settings_altered"


def test_settings_survive_a_new_key_and_what_the_record_lets_go_of(make_bundle: MakeBundle, folder: Path) -> None:
    install(make_bundle(), folder, InstallOptions(target_far=0.05))
    before = load(folder)[0]
    with open_installed(folder).gallery as gallery:
        rotate_key(gallery)
        with gallery.writing() as transaction:
            audit.append(transaction, "exported")
        assert gallery.prune_audit(datetime.now(UTC) + timedelta(days=1)) > 3
        assert gallery.check_audit().first > 3
        assert [row.act for row in gallery.rows()] == ["checkpoint", "installed"]
    assert load(folder)[0] == before
    with open_installed(folder).gallery as gallery:
        rotate_key(gallery)
        gallery.prune_audit(datetime.now(UTC) + timedelta(days=1))
        gallery.check_audit()
    assert load(folder)[0] == before


def test_a_restored_backup_brings_its_people_and_leaves_this_devices_settings(make_bundle, folder, tmp_path):
    bundle = make_bundle()
    install(bundle, folder, InstallOptions(target_far=0.2, keep_photos=True))
    enrol_somebody(folder, bundle)
    with open_installed(folder).gallery as gallery:
        back_up(gallery, tmp_path / "own")
    install(bundle, folder, InstallOptions(target_far=0.001))
    before = load(folder)[0]
    for place, file in ((folder, tmp_path / "own"), (tmp_path / "other", tmp_path / "own")):
        if place != folder:
            install(bundle, place, InstallOptions(target_far=0.001))
            before = load(place)[0]
        with open_installed(place).gallery as gallery:
            assert restore(gallery, file).people == 1
            assert gallery.check_audit().people == 1
        assert load(place)[0] == before
        assert load(place)[0].target_far == 0.001


def test_a_state_of_before_the_settings_were_sealed_takes_an_init_and_keeps_its_people(make_bundle, folder):
    bundle = make_bundle()
    install(bundle, folder)
    enrol_somebody(folder, bundle)
    with tampering(folder / "gallery.db") as connection:
        connection.execute("DROP TABLE settings")
        connection.execute("DROP INDEX audit_installed")
        connection.execute("PRAGMA user_version = 2")
    (folder / "settings.json").write_text('{"target_far": 0.5}')
    with raises(IntegrityError, match=r"people are enrolled .* run init again", reason="settings_missing"):
        load(folder)
    assert (folder / "settings.json").exists()
    assert install(bundle, folder).people == 1
    assert not (folder / "settings.json").exists()
    assert load(folder)[0].target_far is None


def test_without_people_or_without_a_gallery_there_is_nothing_but_an_init_to_run(make_bundle, folder):
    assert refusal(folder) == "not_initialised"
    install(make_bundle(), folder)
    with tampering(folder / "gallery.db") as connection:
        connection.execute("DELETE FROM settings")
    assert refusal(folder) == "not_initialised"
    (folder / "gallery.db").unlink()
    assert refusal(folder) == "gallery_missing"


def test_settings_of_another_version_are_refused_in_one_line(make_bundle: MakeBundle, folder: Path) -> None:
    install(make_bundle(), folder)
    settings = msgspec.to_builtins(load(folder)[0])
    for wrong in (
        {"bundle": "../../../etc/passwd"},
        {"bundle": "tiny.oneshot"},
        {"threads": 0},
        {"threads": "1"},
        {"target_far": 1.5},
        {"runtime": "torch"},
        {"colour": "red"},
        {"sha256": "0"},
    ):
        with raises(IntegrityError, match="run init again", reason="settings_unreadable") as refused:
            decode_settings(folder / "gallery.db", msgspec.json.encode(settings | wrong))
        assert "\n" not in str(refused.value)
    assert decode_settings(folder, msgspec.json.encode(settings)) == load(folder)[0]


# links, and folders of others


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """Somebody's folder, with names like the program's own."""
    place = tmp_path / "precious"
    place.mkdir()
    for name in ("letter.txt", f"tiny-{'0' * 12}.oneshot", ".edge-oneshot-abc.tmp"):
        (place / name).write_text("of value")
    return place


def test_a_link_in_the_place_of_the_folder_of_bundles_is_refused_and_nothing_behind_it_touched(
    make_bundle, folder, precious
):
    bundle = make_bundle()
    install(bundle, folder)
    (folder / "bundles").rename(folder / "elsewhere")
    (folder / "bundles").symlink_to(precious)
    before = contents(precious)
    for call in (lambda: install(bundle, folder), lambda: install(make_bundle(name="next"), folder)):
        with raises(IntegrityError, match="is not a folder, or is a link", reason="foreign_folder"):
            call()
    assert contents(precious) == before
    (folder / "bundles").unlink()
    assert install(bundle, folder).name == "tiny"


def test_nothing_but_the_programs_own_files_is_deleted(make_bundle: MakeBundle, folder: Path, precious: Path) -> None:
    install(make_bundle(), folder)
    places = folder / "bundles"
    own = places / f"old-{'1' * 12}.oneshot"
    for path in (own, places / "notes.txt", places / "copy.oneshot"):
        path.write_text("?")
    (places / f"link-{'2' * 12}.oneshot").symlink_to(precious / "letter.txt")
    (places / f"folder-{'3' * 12}.oneshot").mkdir()
    os.mkfifo(places / f"pipe-{'4' * 12}.oneshot")
    install(make_bundle(name="next"), folder)
    assert not own.exists()
    left = {
        "notes.txt",
        "copy.oneshot",
        *(f"{name}-{digit * 12}.oneshot" for name, digit in (("link", "2"), ("folder", "3"), ("pipe", "4"))),
    }
    assert left < bundles(folder)
    assert len(bundles(folder)) == len(left) + 2
    assert (precious / "letter.txt").read_text() == "of value"


def test_a_link_in_the_place_of_a_bundle_is_replaced_and_its_target_left(make_bundle, folder, precious):
    bundle = make_bundle()
    install(bundle, folder)
    path = folder / "bundles" / load(folder)[0].bundle
    path.unlink()
    path.symlink_to(precious / "letter.txt")
    install(bundle, folder)
    assert path.is_file()
    assert not path.is_symlink()
    assert (precious / "letter.txt").read_text() == "of value"


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to give files away")
def test_a_state_folder_of_another_user_is_refused_before_anything_in_it_is_looked_at(make_bundle, folder, monkeypatch):
    bundle = make_bundle()
    install(bundle, folder)
    before = contents(folder)
    os.chown(folder, 65534, 65534)
    for call in (
        lambda: install(bundle, folder),
        lambda: installing.rollback(folder),
        lambda: open_installed(folder),
        lambda: Recognizer.open(folder),
    ):
        with pytest.raises(
            IntegrityError, match=r"belongs to nobody, but this program runs as root: .*sudo -u nobody"
        ) as no:
            call()
        assert no.value.reason == "not_owner"
    diagnosis = examine(folder)
    assert diagnosis.exit_code == 3
    assert [one.reason for one in diagnosis.findings if one.level == "fault"] == ["not_owner"]
    os.chown(folder, 0, 0)
    assert contents(folder) == before
    with monkeypatch.context() as patch:  # and the other way round
        patch.setattr(os, "geteuid", lambda: 65534)
        with pytest.raises(IntegrityError, match="belongs to root, but this program runs as nobody"):
            open_installed(folder)
    os.chown(folder / "bundles", 65534, 65534)
    with raises(IntegrityError, match="belongs to another user", reason="foreign_folder"):
        install(make_bundle(name="next"), folder)


# trust

PublicFile = Callable[[Any], Path]


def install_trusted(make_bundle: MakeBundle, folder: Path, key: Any, public_file: PublicFile) -> None:
    installation = install(sign_bundle(make_bundle(), key), folder, InstallOptions(trust=public_file(key)))
    assert (installation.signed_by, installation.trusted) == (hex_of(key), True)


def test_a_trusted_key_is_kept_and_asked_of_every_bundle_from_then_on(make_bundle, folder, key, stranger, public_file):
    install_trusted(make_bundle, folder, key, public_file)
    settings, bundle = load(folder)
    assert settings.trust == bundle.signed_by == hex_of(key)
    before = contents(folder)
    for other, reason in (
        (make_bundle(name="other"), "unsigned"),
        (sign_bundle(make_bundle(name="another"), stranger), "untrusted_key"),
    ):
        with raises(IntegrityError, reason=reason):
            install(other, folder)
    assert contents(folder) == before
    installation = install(sign_bundle(make_bundle(name="other"), key), folder)
    assert (installation.name, installation.signed_by, installation.trusted) == ("other", hex_of(key), True)
    assert load(folder)[0].trust == hex_of(key)


def test_another_key_takes_the_place_of_the_trusted_one_only_when_named(
    make_bundle, folder, key, stranger, public_file
):
    install_trusted(make_bundle, folder, key, public_file)
    with pytest.raises(IntegrityError, match="is signed by"):
        install(sign_bundle(make_bundle(), key), folder, InstallOptions(trust=public_file(stranger)))
    assert load(folder)[0].trust == hex_of(key)
    install(sign_bundle(make_bundle(), stranger), folder, InstallOptions(trust=public_file(stranger)))
    assert load(folder)[0].trust == hex_of(stranger)
    with raises(IntegrityError, reason="untrusted_key"):
        install(sign_bundle(make_bundle(), key), folder)


def test_a_refused_first_init_with_a_key_creates_nothing(make_bundle, folder, key, public_file, tmp_path):
    with raises(IntegrityError, reason="unsigned"):
        install(make_bundle(), folder, InstallOptions(trust=public_file(key)))
    (tmp_path / "no.pub").write_text("no key")
    with raises(InputError, reason="bad_key"):
        install(make_bundle(), folder, InstallOptions(trust=tmp_path / "no.pub"))
    assert not folder.exists()


def test_without_a_key_signed_and_unsigned_bundles_are_installed_and_nobody_is_trusted(make_bundle, folder, key):
    installation = install(sign_bundle(make_bundle(), key), folder)
    assert (installation.signed_by, installation.trusted) == (hex_of(key), False)
    installation = install(make_bundle(), folder)
    assert (installation.signed_by, installation.trusted) == (None, False)


def test_whoever_exchanges_the_bundle_and_its_digest_is_stopped_by_the_signature(make_bundle, folder, key, public_file):
    install_trusted(make_bundle, folder, key, public_file)
    other = make_bundle(seed=1).read_bytes()
    settings = load(folder)[0]
    (folder / "bundles" / settings.bundle).write_bytes(other)
    assert refusal(folder) == "bundle_altered"
    # not even with the key of the gallery
    forged = msgspec.structs.replace(settings, sha256=hashlib.sha256(other).hexdigest())
    with Gallery.open(folder / "gallery.db", settings.fingerprint, 16) as gallery, gallery.writing() as transaction:
        settings_rows.install(transaction, msgspec.json.encode(forged), {})
    assert refusal(folder) == "unsigned"


@pytest.mark.parametrize("change", ["DELETE FROM settings", "UPDATE settings SET sealed = zeroblob(100)"])
def test_whoever_removes_the_settings_does_not_take_the_trusted_key_along(
    make_bundle, folder, key, public_file, change
):
    install_trusted(make_bundle, folder, key, public_file)
    with tampering(folder / "gallery.db") as connection:
        connection.execute(change)
    for bundle in (make_bundle(name="other"), sign_bundle(make_bundle(name="signed"), key)):
        with pytest.raises(
            IntegrityError, match=r"only the key \w+ was trusted: run init with --trust KEY\.pub"
        ) as refused:
            install(bundle, folder)
        assert refused.value.reason == "settings_missing"
    install_trusted(make_bundle, folder, key, public_file)
    assert load(folder)[0].trust == hex_of(key)


def test_two_inits_at_once_do_not_lose_the_key(make_bundle, folder, key, public_file, monkeypatch):
    unsigned = make_bundle(name="unsigned")

    original = installing.choose_variant

    def choose(*arguments: Any) -> str:
        monkeypatch.setattr(installing, "choose_variant", original)
        install_trusted(make_bundle, folder, key, public_file)
        return original(*arguments)

    monkeypatch.setattr(installing, "choose_variant", choose)
    with raises(IntegrityError, reason="trust_changed"):
        install(unsigned, folder)
    assert load(folder)[1].signed_by == hex_of(key)


INIT = """
import sys
from edge_oneshot_device import cli
sys.exit(cli.main(["init", sys.argv[1], "--state", sys.argv[2], "--key", sys.argv[3], "--json"]))
"""


@pytest.mark.parametrize("states", [("one", "one"), ("one", "two")])
def test_two_first_inits_at_once_both_succeed_with_one_key_and_one_bundle_in_use(make_bundle, tmp_path, states):
    files = [make_bundle(name=name) for name in ("first", "second")]
    key = tmp_path / "keys" / "key"
    for attempt in range(4):
        root = tmp_path / str(attempt)
        programs = [
            [sys.executable, "-c", INIT, str(file), str(root / name), str(key)]
            for file, name in zip(files, states, strict=True)
        ]
        running = [subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for program in programs]
        ends = [process.communicate() for process in running]
        assert [process.returncode for process in running] == [0, 0], ends
        for name in states:
            opened = open_installed(root / name, key=key)
            with opened.gallery as gallery:
                assert gallery.check_audit().people == 0
            own = bundles(root / name)
            assert opened.settings.bundle in own
            assert len(own) == (2 if states[0] == states[1] else 1)
        key.unlink()


def test_an_init_that_finds_a_key_made_meanwhile_goes_on_with_that(make_bundle, folder, tmp_path, monkeypatch):
    made = []

    def overtaken(path: Path) -> bytes:
        made.append(create_key(path))
        return create_key(path)

    monkeypatch.setattr(installing, "create_key", overtaken)
    install(make_bundle(), folder, key=tmp_path / "key")
    assert [read_key(KeySource(tmp_path / "key"))] == made


# another encoder, and back


def test_another_encoder_begins_with_nobody_and_a_rollback_brings_them_back(make_bundle, folder):
    former = make_bundle()
    install(former, folder, InstallOptions(target_far=0.05))
    enrol_somebody(folder, former)
    assert install(make_bundle(name="other", min_contrast=17), folder, InstallOptions(empty=True)).people == 0
    back = installing.rollback(folder)
    assert (back.name, back.people, back.target_far) == ("tiny", 1, 0.05)
    forth = installing.rollback(folder)
    assert (forth.name, forth.people) == ("other", 0)
    assert load(folder)[1].manifest.name == "other"
    with open_installed(folder).gallery as gallery:
        assert gallery.check_audit().people == 0
        # forgetting reaches the templates that are kept for a rollback
        assert gallery.forget("ada").reason == "forgotten"
    assert installing.rollback(folder).people == 0


def test_everybody_is_enrolled_again_from_the_photos_that_were_kept(make_bundle, folder, people):
    install(make_bundle(), folder, InstallOptions(keep_photos=True))
    with Recognizer.open(folder) as recognizer:
        recognizer.enrol("ada", *people["ada"][:2])
        recognizer.enrol("grace", people["grace"][0])
        recognizer.enrol("grace", people["grace"][1], replace=True)
    other = make_bundle(name="other", min_contrast=17)
    assert install(other, folder, InstallOptions(re_enrol=True, keep_photos=True)).people == 2
    with Recognizer.open(folder) as recognizer:
        assert {one.person: one.templates for one in recognizer.people()} == {"ada": 2, "grace": 1}
        assert recognizer.identify(people["grace"][2]).person == "grace"
        assert recognizer.gallery.check_audit().people == 2
    assert installing.rollback(folder).people == 2
    # a third encoder: the templates of the first but one are kept no longer
    install(make_bundle(name="third", min_contrast=18), folder, InstallOptions(re_enrol=True))
    with Recognizer.open(folder) as recognizer:
        assert recognizer.identify(people["ada"][3]).person == "ada"
        assert recognizer.gallery.check_audit().people == 2


def test_photos_from_before_another_encoder_do_not_outlive_a_new_enrolment(make_bundle, folder, people):
    install(make_bundle(), folder, InstallOptions(keep_photos=True))
    with Recognizer.open(folder) as recognizer:
        recognizer.enrol("ada", *people["ada"][:2])
    install(make_bundle(name="other", min_contrast=17), folder, InstallOptions(empty=True, keep_photos=True))
    with Recognizer.open(folder) as recognizer:
        assert recognizer.enrol("ada", people["ada"][2]).reason == "enrolled"
        with recognizer.gallery.reading() as transaction:
            (kept,) = renewal.photos(transaction).values()
        assert kept == [people["ada"][2]]


def test_nobody_is_enrolled_again_without_a_photo(make_bundle: MakeBundle, folder: Path) -> None:
    former = make_bundle()
    install(former, folder)
    enrol_somebody(folder, former)
    before = contents(folder)
    with raises(InputError, match=r"1 cannot be enrolled again: ada \(no photo was kept\)", reason="cannot_re_enrol"):
        install(make_bundle(name="other", min_contrast=17), folder, InstallOptions(re_enrol=True))
    assert contents(folder) == before


def test_an_init_that_changes_nothing_is_nothing_for_a_rollback_to_go_back_to(make_bundle, folder):
    first, second = make_bundle(name="first"), make_bundle(name="second")
    assert install(first, folder).replaced is False
    assert install(first, folder).replaced is False
    assert install(second, folder).replaced is True
    # again, as an installer does that is run twice: what was in use until now is the same
    assert install(second, folder).replaced is False
    back = installing.rollback(folder)
    assert (back.name, back.replaced) == ("first", True)
    assert installing.rollback(folder).name == "second"


def test_a_rollback_that_another_init_overtakes_changes_nothing(make_bundle, folder, monkeypatch):
    for name in ("first", "second"):
        install(make_bundle(name=name), folder)
    write = installing.write_bundle

    def overtaken(*arguments: Any) -> None:
        monkeypatch.setattr(installing, "write_bundle", write)
        monkeypatch.setattr(installing, "locked", lambda _: nullcontext())
        install(make_bundle(name="third"), folder)
        write(*arguments)

    monkeypatch.setattr(installing, "write_bundle", overtaken)
    with raises(MachineError, match="try again", reason="gallery_busy"):
        installing.rollback(folder)
    assert load(folder)[1].manifest.name == "third"


def test_there_is_no_way_back_where_nothing_was_before(make_bundle: MakeBundle, folder: Path) -> None:
    install(make_bundle(), folder)
    with raises(InputError, reason="nothing_before"):
        installing.rollback(folder)


def test_a_process_with_the_encoder_of_before_decides_no_more(make_bundle, folder, people):
    install(make_bundle(), folder)
    with Recognizer.open(folder) as door:
        door.enrol("ada", people["ada"][0])
        assert door.identify(people["ada"][1]).accepted
        install(make_bundle(name="other", min_contrast=17), folder, InstallOptions(empty=True))
        for call in (lambda: door.identify(people["ada"][1]), lambda: door.enrol("grace", people["grace"][0])):
            with raises(IntegrityError, reason="gallery_of_other_fingerprint"):
                call()

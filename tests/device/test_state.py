import hashlib
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_oneshot_device import files
from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.gallery import renewal
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.recognition import installation as installing
from edge_oneshot_device.recognition import state
from edge_oneshot_device.recognition.installation import install
from edge_oneshot_device.recognition.opening import open_installed
from edge_oneshot_device.recognition.recognizer import Recognizer

MakeBundle = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "var" / "state"


def bundles(folder: Path) -> set[str]:
    return {path.name for path in (folder / "bundles").iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def enrol_somebody(folder: Path, bundle: Path, variant: str = "int8") -> None:
    manifest = Bundle.open(bundle).manifest
    fingerprint = next(v.fingerprint for v in manifest.variants if v.name == variant)
    with Gallery.open(folder / "gallery.db", fingerprint, manifest.embedding.size) as gallery:
        gallery.enrol("ada", np.ones((1, manifest.embedding.size), np.float32))


# which folder


def test_the_argument_comes_before_the_environment_and_that_before_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDGE_ONESHOT_STATE", "/from/environment")
    assert state.state_dir("/from/argument") == Path("/from/argument")
    assert state.state_dir() == Path("/from/environment")
    for unset in (
        lambda: monkeypatch.setenv("EDGE_ONESHOT_STATE", ""),
        lambda: monkeypatch.delenv("EDGE_ONESHOT_STATE"),
    ):
        unset()
        assert state.state_dir() == tmp_path / ".local/state/edge-oneshot"


def test_an_empty_state_argument_is_refused() -> None:
    with pytest.raises(InputError) as refused:
        state.state_dir("")
    assert refused.value.reason == "no_state_folder"


# install


def test_an_installed_bundle_is_kept_byte_for_byte_and_opened_again(make_bundle: MakeBundle, folder: Path) -> None:
    path = make_bundle()
    content = path.read_bytes()
    installation = install(path, folder, target_far=0.05, threads=2)
    path.unlink()
    assert (installation.name, installation.variant, installation.runtime) == ("tiny", "int8", "litert")
    assert (installation.bytes, installation.signed_by, installation.format) == (len(content), None, 1)
    assert installation.variants == ["int8", "float32", "onnx-float32"]
    assert list(installation.fingerprints) == installation.variants
    assert (installation.target_far, installation.provisional, installation.people) == (0.05, False, 0)
    settings, bundle = state.load(folder)
    assert bundle.content == content
    assert settings.sha256 == hashlib.sha256(content).hexdigest()
    assert settings.bundle == f"tiny-{settings.sha256[:12]}.oneshot"
    assert (settings.variant, settings.runtime, settings.threads, settings.target_far) == ("int8", "litert", 2, 0.05)


def test_the_state_is_its_owners_alone(make_bundle: MakeBundle, folder: Path) -> None:
    install(make_bundle(), folder)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}
    assert modes.pop(folder.name) == 0o700
    assert modes.pop("bundles") == 0o700
    assert len(modes) == 4
    assert set(modes.values()) == {0o600}


def test_without_a_target_the_smallest_supported_one_is_taken(make_bundle: MakeBundle, folder: Path) -> None:
    installation = install(make_bundle(), folder)
    assert (installation.target_far, installation.provisional) == (0.01, False)
    assert state.load(folder)[0].target_far is None


def test_a_target_smaller_than_supported_is_installed_as_provisional(make_bundle: MakeBundle, folder: Path) -> None:
    assert install(make_bundle(), folder, target_far=0.002).provisional is True
    assert state.load(folder)[0].target_far == 0.002


def test_a_target_that_the_calibration_cannot_promise_is_refused_with_the_smallest_that_it_can(
    make_bundle: MakeBundle, folder: Path
) -> None:
    for target in (1e-9, 0.00099):
        with pytest.raises(InputError, match=r"promises 0\.001 at the least") as refused:
            install(make_bundle(), folder, target_far=target)
        assert refused.value.reason == "bad_target_far"
    assert not folder.exists()
    assert install(make_bundle(), folder, target_far=0.001).outlook is not None


def test_a_bundle_that_takes_everybody_for_the_same_is_not_installed(make_bundle: MakeBundle, folder: Path) -> None:
    def collapse(manifest: Any) -> None:
        for calibration in manifest["calibration"]:
            for point in calibration["points"]:
                point["threshold"] = 1.0

    with pytest.raises(InputError, match="takes other people for the same") as refused:
        install(make_bundle(change=collapse), folder)
    assert refused.value.reason == "unreachable"


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
        ({"variants": ("float32", "onnx-float32")}, {}, "variant_missing"),
        ({"calibrated": False}, {"target_far": 0.1}, "uncalibrated"),
        ({}, {"runtime": "onnxruntime"}, "wrong_runtime"),
        ({}, {"threads": 0}, "wrong_threads"),
    ],
)
def test_a_refused_init_creates_nothing(
    make_bundle: MakeBundle, folder: Path, made: dict[str, Any], asked: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError) as refused:
        install(make_bundle(**made), folder, **asked)
    assert refused.value.reason == reason
    assert not folder.exists()


def test_a_missing_variant_is_refused_with_the_list_of_those_there_are(make_bundle: MakeBundle, folder: Path) -> None:
    with pytest.raises(InputError, match=r"no variant 'int8'.*--variant: float32, onnx-float32"):
        install(make_bundle(variants=("float32", "onnx-float32")), folder)


def test_a_bundle_with_any_byte_flipped_is_refused_and_the_former_one_stays(
    make_bundle: MakeBundle, folder: Path, tmp_path: Path
) -> None:
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

    with pytest.raises(IntegrityError) as refused:
        install(make_bundle(change=spoil), folder)
    assert refused.value.reason == "self_test_failed"
    assert not folder.exists()


# the next bundle


def test_the_bundle_before_is_kept_and_older_ones_are_removed(make_bundle: MakeBundle, folder: Path) -> None:
    found = []
    for name in ("first", "second", "third"):
        install(make_bundle(name=name), folder)
        found.append(state.load(folder)[0].bundle)
        assert bundles(folder) == set(found[-2:])
    install(make_bundle(name="third"), folder, variant="float32")
    # what was in use before is another variant of the same bundle
    assert bundles(folder) == set(found[2:])
    install(make_bundle(name="second"), folder)
    settings, _ = state.load(folder)
    assert (settings.bundle, settings.previous) == (found[1], found[2])


def test_a_leftover_of_an_interrupted_init_is_removed_by_the_next(make_bundle: MakeBundle, folder: Path) -> None:
    install(make_bundle(), folder)
    (folder / "bundles" / ".edge-oneshot-abc.tmp").write_bytes(b"half")
    install(make_bundle(), folder)
    assert bundles(folder) == {state.load(folder)[0].bundle}


def test_people_of_another_fingerprint_keep_a_bundle_out(make_bundle: MakeBundle, folder: Path) -> None:
    former = make_bundle()
    install(former, folder)
    enrol_somebody(folder, former)
    before = contents(folder)
    other = make_bundle(name="other", min_contrast=17)
    with pytest.raises(IntegrityError, match="1 person is enrolled") as refused:
        install(other, folder)
    assert refused.value.reason == "gallery_of_other_fingerprint"
    with pytest.raises(IntegrityError):
        install(former, folder, variant="float32")
    assert contents(folder) == before
    with Gallery.open(folder / "gallery.db", "0" * 64, 16) as gallery:
        gallery.forget("ada")
    assert install(other, folder).name == "other"


def test_people_stay_enrolled_when_only_the_calibration_is_new(make_bundle: MakeBundle, folder: Path) -> None:
    former = make_bundle()
    install(former, folder)
    enrol_somebody(folder, former)
    assert install(make_bundle(name="recalibrated", counts=(1, 5)), folder).people == 1


@pytest.mark.parametrize("failing", [0, 1], ids=["while the bundle is written", "while the settings are written"])
def test_an_interrupted_init_leaves_the_former_state_in_use(
    make_bundle: MakeBundle, folder: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    install(make_bundle(), folder)
    former = state.load(folder)[0]
    written = []

    def write_or_die(path: Path, content: bytes, mode: int) -> None:
        if len(written) == failing:
            raise KeyboardInterrupt
        written.append(path)
        files.write_atomically(path, content, mode)

    monkeypatch.setattr(state, "write_atomically", write_or_die)
    with pytest.raises(KeyboardInterrupt):
        install(make_bundle(name="next"), folder)
    assert len(written) == failing
    settings, bundle = state.load(folder)
    assert settings == former
    assert bundle.manifest.name == "tiny"
    monkeypatch.undo()
    assert install(make_bundle(name="next"), folder).name == "next"


def test_a_state_folder_that_cannot_be_made_is_a_clear_error(make_bundle: MakeBundle, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file")
    for place in (tmp_path / "occupied", tmp_path / "occupied" / "deeper"):
        with pytest.raises(MachineError, match="cannot create the folder") as refused:
            install(make_bundle(), place)
        assert refused.value.reason == "cannot_write"


# load


def test_a_state_without_init_says_which_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run edge-oneshot-device init NAME\.oneshot --state") as refused:
        state.load(tmp_path / "nowhere")
    assert refused.value.reason == "not_initialised"


def test_an_altered_bundle_is_refused(make_bundle: MakeBundle, folder: Path) -> None:
    install(make_bundle(), folder)
    path = folder / "bundles" / state.load(folder)[0].bundle
    # whole in itself, but not the one that was installed
    path.write_bytes(make_bundle(seed=1).read_bytes())
    with pytest.raises(IntegrityError, match="was altered") as refused:
        state.load(folder)
    assert refused.value.reason == "bundle_altered"
    path.unlink()
    with pytest.raises(IntegrityError, match="run init again") as refused:
        state.load(folder)
    assert refused.value.reason == "bundle_missing"


def _changed(**values: Any) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps(json.loads(content) | values).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda content: content[:-20],
        lambda _: b"\xff\xfe",
        lambda _: b"[]",
        lambda content: content + bytes(1 << 17),
        _changed(bundle="../../../etc/passwd"),
        _changed(bundle="tiny.oneshot"),
        _changed(threads=0),
        _changed(threads="1"),
        _changed(target_far=1.5),
        _changed(format=2),
        _changed(runtime="torch"),
        _changed(colour="red"),
        lambda content: content.replace(b'"sha256"', b'"sha"'),
    ],
)
def test_settings_that_cannot_be_understood_are_refused_in_one_line(
    make_bundle: MakeBundle, folder: Path, damage: Callable[[bytes], bytes]
) -> None:
    install(make_bundle(), folder)
    path = folder / "settings.json"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(IntegrityError, match="run init again") as refused:
        state.load(folder)
    assert refused.value.reason == "settings_unreadable"
    assert "\n" not in str(refused.value)


def test_settings_that_are_a_folder_are_refused(folder: Path) -> None:
    (folder / "settings.json").mkdir(parents=True)
    with pytest.raises(IntegrityError) as refused:
        state.load(folder)
    assert refused.value.reason == "settings_unreadable"


# trust

Sign = Callable[[Path, Any], Path]
PublicFile = Callable[[Any], Path]


def hex_of(key: Any) -> str:
    digits: str = key.public_key().public_bytes_raw().hex()
    return digits


def install_trusted(make_bundle: MakeBundle, folder: Path, sign: Sign, key: Any, public_file: PublicFile) -> None:
    installation = install(sign(make_bundle(), key), folder, trust=public_file(key))
    assert (installation.signed_by, installation.trusted) == (hex_of(key), True)


def test_a_trusted_key_is_kept_and_asked_of_every_bundle_from_then_on(
    make_bundle: MakeBundle, folder: Path, sign: Sign, key: Any, stranger: Any, public_file: PublicFile
) -> None:
    install_trusted(make_bundle, folder, sign, key, public_file)
    settings, bundle = state.load(folder)
    assert settings.trust == bundle.signed_by == hex_of(key)
    before = contents(folder)
    for other, reason in (
        (make_bundle(name="other"), "unsigned"),
        (sign(make_bundle(name="another"), stranger), "untrusted_key"),
    ):
        with pytest.raises(IntegrityError) as refused:
            install(other, folder)
        assert refused.value.reason == reason
    assert contents(folder) == before
    installation = install(sign(make_bundle(name="other"), key), folder)
    assert (installation.name, installation.signed_by, installation.trusted) == ("other", hex_of(key), True)
    assert state.load(folder)[0].trust == hex_of(key)


def test_another_key_takes_the_place_of_the_trusted_one_only_when_named(
    make_bundle: MakeBundle, folder: Path, sign: Sign, key: Any, stranger: Any, public_file: PublicFile
) -> None:
    install_trusted(make_bundle, folder, sign, key, public_file)
    with pytest.raises(IntegrityError, match="is signed by"):
        install(sign(make_bundle(), key), folder, trust=public_file(stranger))
    assert state.load(folder)[0].trust == hex_of(key)
    install(sign(make_bundle(), stranger), folder, trust=public_file(stranger))
    assert state.load(folder)[0].trust == hex_of(stranger)
    with pytest.raises(IntegrityError):
        install(sign(make_bundle(), key), folder)


def test_a_refused_first_init_with_a_key_creates_nothing(
    make_bundle: MakeBundle, folder: Path, key: Any, public_file: PublicFile, tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError):
        install(make_bundle(), folder, trust=public_file(key))
    (tmp_path / "no.pub").write_text("no key")
    with pytest.raises(InputError):
        install(make_bundle(), folder, trust=tmp_path / "no.pub")
    assert not folder.exists()


def test_without_a_key_signed_and_unsigned_bundles_are_installed_and_nobody_is_trusted(
    make_bundle: MakeBundle, folder: Path, sign: Sign, key: Any
) -> None:
    installation = install(sign(make_bundle(), key), folder)
    assert (installation.signed_by, installation.trusted) == (hex_of(key), False)
    installation = install(make_bundle(), folder)
    assert (installation.signed_by, installation.trusted) == (None, False)


def test_whoever_exchanges_the_bundle_and_its_digest_is_stopped_by_the_signature(
    make_bundle: MakeBundle, folder: Path, sign: Sign, key: Any, public_file: PublicFile
) -> None:
    install_trusted(make_bundle, folder, sign, key, public_file)
    other = make_bundle(seed=1).read_bytes()
    settings = json.loads((folder / "settings.json").read_bytes())
    (folder / "bundles" / settings["bundle"]).write_bytes(other)
    settings["sha256"] = hashlib.sha256(other).hexdigest()
    (folder / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(IntegrityError) as refused:
        state.load(folder)
    assert refused.value.reason == "unsigned"


def test_settings_of_before_there_was_trust_are_read(make_bundle: MakeBundle, folder: Path) -> None:
    install(make_bundle(), folder)
    settings = json.loads((folder / "settings.json").read_bytes())
    del settings["trust"]
    (folder / "settings.json").write_text(json.dumps(settings))
    assert state.load(folder)[0].trust is None


def test_two_inits_at_once_do_not_lose_the_key(
    make_bundle: MakeBundle,
    folder: Path,
    sign: Sign,
    key: Any,
    public_file: PublicFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unsigned = make_bundle(name="unsigned")

    original = installing.choose_variant

    def choose(*arguments: Any) -> str:
        monkeypatch.setattr(installing, "choose_variant", original)
        install_trusted(make_bundle, folder, sign, key, public_file)
        return original(*arguments)

    monkeypatch.setattr(installing, "choose_variant", choose)
    with pytest.raises(IntegrityError) as refused:
        install(unsigned, folder)
    assert refused.value.reason == "trust_changed"
    assert state.load(folder)[1].signed_by == hex_of(key)


# another encoder, and back


def test_another_encoder_begins_with_nobody_and_a_rollback_brings_them_back(
    make_bundle: MakeBundle, folder: Path
) -> None:
    former = make_bundle()
    install(former, folder, target_far=0.05)
    enrol_somebody(folder, former)
    assert install(make_bundle(name="other", min_contrast=17), folder, empty=True).people == 0
    back = installing.rollback(folder)
    assert (back.name, back.people, back.target_far) == ("tiny", 1, 0.05)
    forth = installing.rollback(folder)
    assert (forth.name, forth.people) == ("other", 0)
    assert state.load(folder)[1].manifest.name == "other"
    with open_installed(folder).gallery as gallery:
        assert gallery.check_audit().people == 0
        # forgetting reaches the templates that are kept for a rollback
        assert gallery.forget("ada").reason == "forgotten"
    assert installing.rollback(folder).people == 0


def test_everybody_is_enrolled_again_from_the_photos_that_were_kept(
    make_bundle: MakeBundle, folder: Path, people: dict[str, tuple[bytes, ...]]
) -> None:
    install(make_bundle(), folder, keep_photos=True)
    with Recognizer.open(folder) as recognizer:
        recognizer.enrol("ada", *people["ada"][:2])
        recognizer.enrol("grace", people["grace"][0])
        recognizer.enrol("grace", people["grace"][1], replace=True)
    other = make_bundle(name="other", min_contrast=17)
    assert install(other, folder, re_enrol=True, keep_photos=True).people == 2
    with Recognizer.open(folder) as recognizer:
        assert {one.person: one.templates for one in recognizer.people()} == {"ada": 2, "grace": 1}
        assert recognizer.identify(people["grace"][2]).person == "grace"
        assert recognizer.gallery.check_audit().people == 2
    assert installing.rollback(folder).people == 2
    # a third encoder: the templates of the first but one are kept no longer
    install(make_bundle(name="third", min_contrast=18), folder, re_enrol=True)
    with Recognizer.open(folder) as recognizer:
        assert recognizer.identify(people["ada"][3]).person == "ada"
        assert recognizer.gallery.check_audit().people == 2


def test_photos_from_before_another_encoder_do_not_outlive_a_new_enrolment(
    make_bundle: MakeBundle, folder: Path, people: dict[str, tuple[bytes, ...]]
) -> None:
    install(make_bundle(), folder, keep_photos=True)
    with Recognizer.open(folder) as recognizer:
        recognizer.enrol("ada", *people["ada"][:2])
    install(make_bundle(name="other", min_contrast=17), folder, empty=True, keep_photos=True)
    with Recognizer.open(folder) as recognizer:
        assert recognizer.enrol("ada", people["ada"][2]).reason == "enrolled"
        (kept,) = renewal.photos(recognizer.gallery).values()
        assert kept == [people["ada"][2]]


def test_nobody_is_enrolled_again_without_a_photo(make_bundle: MakeBundle, folder: Path) -> None:
    former = make_bundle()
    install(former, folder)
    enrol_somebody(folder, former)
    before = contents(folder)
    with pytest.raises(InputError, match=r"1 cannot be enrolled again: ada \(no photo was kept\)") as refused:
        install(make_bundle(name="other", min_contrast=17), folder, re_enrol=True)
    assert refused.value.reason == "cannot_re_enrol"
    assert contents(folder) == before


def install_and_cut(make_bundle: MakeBundle, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install "tiny", enrol ada, and begin with "other", cut between settings and gallery."""
    former = make_bundle()
    install(former, folder)
    enrol_somebody(folder, former)
    commit = installing.commit

    def cut(*arguments: Any) -> None:
        commit(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(installing, "commit", cut)
        with pytest.raises(KeyboardInterrupt):
            install(make_bundle(name="other", min_contrast=17), folder, empty=True)


def test_an_init_cut_between_settings_and_gallery_leaves_what_was_in_use(
    make_bundle: MakeBundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_and_cut(make_bundle, folder, monkeypatch)
    assert state.load(folder)[1].manifest.name == "other"
    opened = open_installed(folder)
    with opened.gallery as gallery:
        assert (opened.bundle.manifest.name, [one.person for one in gallery.people()]) == ("tiny", ["ada"])


def test_a_bundle_whose_init_was_cut_is_not_what_a_rollback_goes_back_to(
    make_bundle: MakeBundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_and_cut(make_bundle, folder, monkeypatch)
    third = install(make_bundle(name="third", min_contrast=18), folder, empty=True)
    assert (third.name, third.people) == ("third", 0)
    back = installing.rollback(folder)
    assert (back.name, back.people) == ("tiny", 1)
    assert installing.rollback(folder).name == "third"


def test_there_is_no_way_back_where_nothing_was_before(make_bundle: MakeBundle, folder: Path) -> None:
    install(make_bundle(), folder)
    with pytest.raises(InputError) as refused:
        installing.rollback(folder)
    assert refused.value.reason == "nothing_before"


def test_a_process_with_the_encoder_of_before_decides_no_more(
    make_bundle: MakeBundle, folder: Path, people: dict[str, tuple[bytes, ...]]
) -> None:
    install(make_bundle(), folder)
    with Recognizer.open(folder) as door:
        door.enrol("ada", people["ada"][0])
        assert door.identify(people["ada"][1]).accepted
        install(make_bundle(name="other", min_contrast=17), folder, empty=True)
        for call in (lambda: door.identify(people["ada"][1]), lambda: door.enrol("grace", people["grace"][0])):
            with pytest.raises(IntegrityError) as refused:
                call()
            assert refused.value.reason == "gallery_of_other_fingerprint"

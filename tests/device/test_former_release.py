"""The bundle and the state folder in data/former, which a former release made, work with this one."""

import json
import shutil

import pytest

from edge_oneshot_device import Bundle, Encoder, cli
from tests import MODELS

FORMER = MODELS / "former"
BUNDLE = next((FORMER / "state" / "bundles").glob("*.oneshot"))
PEOPLE = ("ada", "grace")


@pytest.fixture
def state(tmp_path):
    """A copy of the state folder with its key beside it, and the image that each person was enrolled from."""
    pytest.importorskip("ai_edge_litert", reason="the settings of this door name LiteRT")
    shutil.copytree(FORMER, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    bundle = Bundle.open(BUNDLE)
    for person, path in zip(PEOPLE, bundle.manifest.self_test.images, strict=False):
        (tmp_path / f"{person}.png").write_bytes(bundle.read(path))
    return tmp_path / "state"


@pytest.fixture
def run(state, capfd):
    """Runs a command that succeeds; returns what it printed, a line of JSON each."""

    def run(*words):
        capfd.readouterr()
        code = cli.main([*map(str, words), "--state", str(state), "--key", str(state.parent / "key"), "--json"])
        out, error = capfd.readouterr()
        assert code == 0, error
        return [json.loads(line) for line in out.splitlines()]

    return run


def show(run, state):
    """Whom the door takes each of the people for."""
    return [run("identify", state.parent / f"{person}.png")[0]["person"] for person in PEOPLE]


@pytest.mark.parametrize("variant", ["int8", "float32"])
def test_its_bundle_opens_and_passes_its_self_test(variant):
    bundle = Bundle.open(BUNDLE)
    assert [one.name for one in bundle.manifest.variants] == ["int8", "float32"]
    assert bundle.manifest.default_variant == "int8"
    described = next(one for one in bundle.manifest.variants if one.name == variant)
    assert Encoder.open(bundle, variant).fingerprint == described.fingerprint


def test_its_door_recognizes_who_was_enrolled_and_its_record_holds(run, state):
    assert show(run, state) == ["ada", "grace"]
    assert run("verify", "grace", state.parent / "grace.png")[0]["accepted"]
    (check,) = run("audit", "--check")
    assert check["people"] == 2
    acts = [row["act"] for row in run("audit", "--export")]
    assert acts[:7] == ["created", "installed", "enrolled", "enrolled", "key_rotated", "access", "identify"]


def test_its_people_are_enrolled_again_for_a_newer_bundle_and_come_back_with_the_former(run, state, make_bundle):
    run("init", make_bundle(variants=("int8",), min_contrast=1), "--re-enrol")
    assert [one["person"] for one in run("people")[0]] == ["ada", "grace"]
    run("rollback")
    assert show(run, state) == ["ada", "grace"]


def test_its_backup_is_restored_and_its_file_of_people_imported(run, state):
    run("forget", "ada")
    run("restore", state.parent / "door.backup")
    assert show(run, state) == ["ada", "grace"]
    run("forget", "ada")
    run("people", "import", state.parent / "door.people")
    assert show(run, state) == ["ada", "grace"]

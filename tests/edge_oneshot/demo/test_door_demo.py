"""What the demo of a door prepares; tests/journeys/test_door.py runs it."""

import pytest

from edge_oneshot import cli
from edge_oneshot.demo.door import BUNDLE, DoorFiles, has_bundle, prepare_door
from edge_oneshot.errors import TrainingError
from tests.raising import raises


def test_a_folder_that_no_demo_made_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with raises(TrainingError, reason="not_a_demo"):
        prepare_door(tmp_path, lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_program_gives_way_to_that_of_the_device(tmp_path, monkeypatch):
    files = DoorFiles(*(tmp_path / name for name in ("faces.oneshot", "state", "key", "door.avi", "door.toml")))
    called = []

    def replace(program: str, command: list[str]) -> None:
        called.append((program, command))
        raise SystemExit(0)

    monkeypatch.setattr("edge_oneshot.demo.door.prepare_door", lambda folder, _: called.append(folder) or files)
    monkeypatch.setattr("os.execv", replace)
    assert cli.main(["demo", "--door", "--json", "--out", str(tmp_path)]) == 0
    folder, (program, command) = called
    assert folder == tmp_path / "door"
    place = ["--config", files.config, "--state", files.state, "--key", files.key]
    assert command == [program, "-m", "edge_oneshot_device", "run", *map(str, place), "--json"]


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 of a copy that was broken off"])
def test_a_bundle_that_is_missing_or_broken_is_made_anew(tmp_path, content):
    if content is not None:
        (tmp_path / BUNDLE).write_bytes(content)
    assert not has_bundle(tmp_path)

"""What the commands say of a folder of people that has more in it than images of people."""

import json
from pathlib import Path

import pytest
from PIL import Image

from edge_oneshot import cli
from tests import MODELS
from tests.samples.folders import draw_people_folders

MODEL = MODELS / "tiny-float32.tflite"
LEFT = "left out 4: Thumbs.db (litter), handbook.pdf (no_image), visitor.jpe (no_person), nobody/ (no_image)"


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Twelve people, and what else lies in such a folder."""
    found = tmp_path / "people"
    draw_people_folders(found, map(str, range(12)), ("0.png", "1.jfif", "2.jpe", "3.jpg"))
    (found / "Thumbs.db").write_bytes(b"")
    (found / "handbook.pdf").write_bytes(b"%PDF-1.7")
    Image.new("L", (16, 16)).save(found / "visitor.jpe")
    (found / "nobody").mkdir()
    return found


def test_every_command_counts_and_names_what_it_left_out(people, tmp_path, capfd):
    theirs, ours, run = (str(tmp_path / name) for name in ("theirs.oneshot", "ours.oneshot", "run"))
    lines = (
        ["export", "--model", str(MODEL), "--data", str(people), "--out", theirs],
        ["calibrate", theirs, "--data", str(people), "--out", ours],
        ["train", str(people), "--out", run, "--images", "64", "--size", "16", "--net", "down8 pool 16",
         "--embedding", "8", "--batch", "16"],
    )  # fmt: skip
    for line in lines:
        capfd.readouterr()
        assert cli.main([*line, "--json"]) == 0
        printed = json.loads(capfd.readouterr().out)
        left = printed["skipped" if line[0] == "train" else "passed_over"]
        assert [(one["name"], one["reason"]) for one in left] == [
            ("Thumbs.db", "litter"),
            ("handbook.pdf", "no_image"),
            ("visitor.jpe", "no_person"),
            ("nobody/", "no_image"),
        ]
        assert line[0] == "train" or printed["calibration"]
    judge = ["evaluate", ours, "--data", str(people), "--variant", "float32", "--ways", "5", "--protocol"]
    for protocol in ("verification", "random"):
        assert cli.main([*judge, protocol, "--json"]) == 0
        printed = json.loads(capfd.readouterr().out)
        for one in [printed] if protocol == "verification" else printed:
            names = [left["name"] for left in one["passed_over"]]
            assert names == ["Thumbs.db", "handbook.pdf", "visitor.jpe", "nobody/"]
    for line in ([*lines[1][:-1], str(tmp_path / "again.oneshot")], [*judge, "verification"]):
        assert cli.main(line) == 0
        assert LEFT in capfd.readouterr().out.splitlines()


def test_one_file_that_cannot_be_read_stops_no_command_on_a_folder_and_is_listed(people, tmp_path, capfd):
    (people / "3" / "4.jpg").write_bytes(b"no picture")
    theirs, ours = (str(tmp_path / name) for name in ("theirs.oneshot", "ours.oneshot"))
    lines = (
        ["export", "--model", str(MODEL), "--data", str(people), "--out", theirs],
        ["calibrate", theirs, "--data", str(people), "--out", ours],
        ["evaluate", theirs, "--data", str(people), "--variant", "float32", "--protocol", "verification"],
    )
    for line in lines:
        assert cli.main(line) == 0
        assert LEFT.replace("4:", "5:") + ", 3/4.jpg (not_an_image)" in capfd.readouterr().out.splitlines()


def test_too_few_people_are_refused_with_what_was_left_out(people, tmp_path, capfd):
    theirs = str(tmp_path / "theirs.oneshot")
    assert cli.main(["export", "--model", str(MODEL), "--data", str(people), "--out", theirs]) == 0
    for image in sorted(people.glob("*/*.png"))[3:]:
        for own in image.parent.iterdir():
            own.write_bytes(b"no picture")
    capfd.readouterr()
    assert cli.main(["calibrate", theirs, "--data", str(people), "--out", str(tmp_path / "x.oneshot")]) == 2
    said = capfd.readouterr().err.splitlines()[-1]
    assert "at least 4 identities" in said
    assert "left out 36: " in said

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

"""The README's example for the device: it works as written, with the files that come along."""

import re
import shlex

import numpy as np
from PIL import Image

from edge_oneshot import cli as workstation
from edge_oneshot.data.glyphs import draw_alphabet
from edge_oneshot_device import cli
from tests import ROOT

EXAMPLES = ROOT / "examples"
NUMBERS = (0, 1, 2, 3, 4, 5, 13, 7, 8, 9, 10, 11)  # of the made-up alphabet's characters, in the order of the names
STRANGER = 12


def commands() -> list[tuple[list[str], int]]:
    """The words of each of the device's commands, and its exit code."""
    text = (ROOT / "README.md").read_text()
    lines = re.findall(r"^edge-oneshot-device (.*)$", text.partition("\nOn the device (")[2], re.MULTILINE)
    return [(shlex.split(line, comments=True), 1 if "(exit code 1)" in line else 0) for line in lines]


def test_the_examples_are_drawings_of_the_made_up_alphabets() -> None:
    drawn = draw_alphabet(1)
    names = sorted(path.stem for path in (EXAMPLES / "enrolled").iterdir())
    wanted = {f"enrolled/{name}.png": drawn[number, 0] for name, number in zip(names, NUMBERS, strict=True)}
    wanted |= {f"probes/{name}.png": drawn[number, 1] for name, number in zip(names, NUMBERS, strict=True)}
    wanted["probes/stranger.png"] = drawn[STRANGER, 1]
    assert {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.png")} == set(wanted)
    for name, drawing in wanted.items():
        with Image.open(EXAMPLES / name) as image:
            assert np.mean(np.asarray(image) != drawing) < 0.01, name


def test_the_readme_s_example_works_as_written(tmp_path, omniglot_dir, monkeypatch, capfd):
    bundle = tmp_path / "omniglot.oneshot"
    made = ["export", "--pretrained", "base", "--out", str(bundle), "--variants", "int8"]
    assert workstation.main([*made, "--data-dir", str(omniglot_dir)]) == 0
    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_ONESHOT_STATE", str(tmp_path / "state"))
    capfd.readouterr()
    told = {}
    for words, code in commands():
        assert cli.main(words) == code, words
        told[" ".join(words[:2])] = capfd.readouterr().out
    assert "with 100 people enrolled, about 100 of 1,000 strangers get in" in told["init omniglot.oneshot"]
    enrolled = told["enrol --folder"].splitlines()
    assert enrolled[0] == "enrolled 12, already enrolled 0, refused 0"
    assert enrolled[-1].startswith("with 12 people enrolled, about 100 ")
    assert told["verify oak"].startswith("accepted  oak")
    assert len(told) >= 8
    # and the other right matches
    assert cli.main(["enrol", "oak", "examples/enrolled/oak.png"]) == 0
    for probe in sorted((EXAMPLES / "probes").iterdir()):
        capfd.readouterr()
        assert cli.main(["identify", str(probe)]) == (1 if probe.stem == "stranger" else 0), probe.stem
        if probe.stem != "stranger":
            assert capfd.readouterr().out.startswith(f"accepted  {probe.stem}")

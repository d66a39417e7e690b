"""The device's wheel in an environment of its own: no TensorFlow, and all of the door."""

import json
import os
import re
import shlex
import subprocess
import venv
from importlib import util
from pathlib import Path

import pytest
from PIL import Image

from edge_oneshot.data import glyphs
from tests import ROOT

HEAVY = {"tensorflow", "keras", "onnx", "tf2onnx", "scikit-learn", "scipy", "edge-oneshot"}


def run(*command: object, code: int = 0) -> str:
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert result.returncode == code, (command, result.stdout, result.stderr)
    return result.stdout


@pytest.fixture(scope="module")
def device(tmp_path_factory) -> Path:
    """The bin folder of a fresh environment into which ./device was installed."""
    folder = tmp_path_factory.mktemp("device") / "venv"
    venv.create(folder, with_pip=True)
    install = [folder / "bin" / "pip", "install", "--quiet", ROOT / "device"]
    result = subprocess.run([*map(str, install)], capture_output=True, text=True, check=False)
    if result.returncode != 0 and "CI" not in os.environ:
        pytest.skip(f"the package registry is not to be reached: {result.stderr.strip().splitlines()[-1]}")
    assert result.returncode == 0, result.stderr
    return folder / "bin"


def test_it_installs_without_anything_heavy(device):
    installed = {package["name"].lower() for package in json.loads(run(device / "pip", "list", "--format", "json"))}
    assert "edge-oneshot-device" in installed
    assert not installed & HEAVY


def test_the_program_prints_its_help(device):
    help_text = run(device / "edge-oneshot-device", "--help")
    for command in ("init", "enrol", "verify", "identify", "people", "forget", "bench", "inspect"):
        assert command in help_text


def test_it_enrols_verifies_and_identifies(device, bundle, tmp_path):
    program, state = device / "edge-oneshot-device", ("--state", tmp_path / "state")
    for number in range(2):
        Image.fromarray(glyphs.draw_alphabet(number, 0)[0, 0]).save(tmp_path / f"{number}.png")
    run(program, "init", bundle, *state)
    run(program, "enrol", "ada", tmp_path / "0.png", *state)
    run(program, "verify", "ada", tmp_path / "0.png", *state)
    run(program, "verify", "ada", tmp_path / "1.png", *state, code=1)
    decision = json.loads(run(program, "identify", tmp_path / "0.png", "--json", "--scores", *state))
    assert decision["person"] == "ada"
    assert decision["runtime"] == "litert"


def test_what_doctor_says_to_run_can_be_installed_there(device, bundle, tmp_path):
    state = ("--state", tmp_path / "state")
    run(device / "edge-oneshot-device", "init", bundle, *state)
    told = run(device / "edge-oneshot-device", "doctor", *state)
    lines = re.findall(r"run: pip install (.*)", told)
    assert any("onnxruntime" in line for line in lines), told
    for line in lines:
        run(device / "pip", "install", "--dry-run", "--quiet", *shlex.split(line))


def test_it_knows_a_face_again_from_one_photo(device, faces_bundle, tmp_path):
    program, state = device / "edge-oneshot-device", ("--state", tmp_path / "state")
    folder = next(iter(util.find_spec("skimage").submodule_search_locations))
    with Image.open(f"{folder}/data/astronaut.png") as photo:
        photo.convert("RGB").save(tmp_path / "ada.jpg")
        later = photo.convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(8).crop((20, 10, 500, 480))
        later.point(lambda level: level * 3 // 4).save(tmp_path / "later.jpg")
    run(program, "init", faces_bundle, *state)
    run(program, "enrol", "ada", tmp_path / "ada.jpg", *state)
    decision = json.loads(run(program, "verify", "ada", tmp_path / "later.jpg", "--json", "--scores", *state))
    assert (decision["person"], decision["runtime"], decision["provisional"]) == ("ada", "litert", True)
    run(program, "verify", "ada", f"{folder}/data/coffee.png", *state, code=2)
    script = "import sys, edge_oneshot_device.faces.finding, edge_oneshot_device.encoder; print(*sys.modules)"
    loaded = {name.split(".")[0] for name in run(device / "python", "-c", script).split()}
    assert not loaded & {"tensorflow", "keras", "onnx", "scipy", "cv2", "sklearn", "matplotlib"}


def test_the_python_example_of_the_readme_runs(device, bundle, tmp_path):
    text = (ROOT / "device" / "README.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    state = tmp_path / "state"
    Image.fromarray(glyphs.draw_alphabet(0, 0)[0, 0]).save(tmp_path / "ada.jpg")
    Image.fromarray(glyphs.draw_alphabet(0, 0)[0, 1]).save(tmp_path / "ada-today.jpg")
    Image.fromarray(glyphs.draw_alphabet(1, 0)[3, 0]).save(tmp_path / "visitor.jpg")
    run(device / "edge-oneshot-device", "init", bundle, "--state", state)
    script = example.replace("/var/lib/edge-oneshot", str(state))
    assert str(state) in script
    result = subprocess.run(
        [str(device / "python"), "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("None ")

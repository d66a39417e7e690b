import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def project(path: str) -> dict:
    return tomllib.loads((ROOT / path).read_text())["project"]


def test_both_distributions_have_one_version():
    workstation, device = project("pyproject.toml"), project("device/pyproject.toml")
    assert workstation["version"] == device["version"]
    assert f"edge-oneshot-device[onnx]=={device['version']}" in workstation["dependencies"]


def test_the_lock_pins_every_dependency_with_its_hash():
    lock = (ROOT / "requirements.txt").read_text()
    pinned = {line.split("==")[0] for line in lock.splitlines() if line and line[0].isalnum()}
    for path in ("pyproject.toml", "device/pyproject.toml"):
        for requirement in project(path)["dependencies"]:
            name = requirement.split(";")[0].split("[")[0].split(">")[0].split("=")[0].strip()
            assert name in pinned | {"edge-oneshot-device"}, name
    assert lock.count("--hash=sha256:") >= len(pinned)
    assert "://" not in lock


def test_an_interpreter_out_of_range_is_one_clear_line(tmp_path):
    fake = tmp_path / "python3"
    fake.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 9, 0); exec(sys.argv[1])" "$2"\n'
    )
    fake.chmod(0o755)
    result = subprocess.run(["make", "setup", f"PYTHON={fake}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "Python 3.9 is not supported, 3.11 to 3.13 is needed" in result.stderr


def test_a_missing_interpreter_is_one_clear_line():
    result = subprocess.run(["make", "setup", "PYTHON=python9"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "python9 not found" in result.stderr

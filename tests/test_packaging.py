import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import edge_oneshot_device
from tests import ROOT


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


def test_the_size_that_is_said_of_the_environment_is_its_own():
    if not Path(sys.prefix, ".stamp").exists():
        pytest.skip("this environment was not made by make setup")
    size = sum(path.lstat().st_size for path in Path(sys.prefix).rglob("*") if path.is_file())
    for page in ("Makefile", "README.md"):
        told = re.search(r"\b([0-9.]+) GB", (ROOT / page).read_text())
        assert told is not None
        assert float(told[1]) == pytest.approx(size / 1e9, rel=0.15), page


def install_through(pip: str, every: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the progress of make setup with a script in pip's place."""
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    (tmp_path / "pip" / "__main__.py").write_text(pip)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    lock = tmp_path / "lock.txt"
    lock.write_text("big==2.0 \\\n    --hash=sha256:00\nother[x]==1 ; python_version < '3'\nsmall==1\n")
    spec = spec_from_file_location("pip_progress", ROOT / "tools" / "pip_progress.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.run(["install", "--no-index", "-r", str(lock)], every=every)


def test_setting_up_says_every_few_seconds_how_far_it_is(tmp_path, monkeypatch):
    go = tmp_path / "go"
    pip = f"""
import pathlib, time
print("Ignoring other: markers do not match your environment")
print("Collecting big==2.0 (from -r lock.txt (line 1))")
print("  Downloading big-2.0-py3-none-any.whl (572.4 MB)")
while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)
print("Collecting small==1 (from -r lock.txt (line 3))")
print("Installing collected packages: big, small")
while pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)
"""

    def seen(line: str, **_: object) -> None:
        printed.append(line)
        if "big 2.0 (572.4 MB)" in line:
            go.touch()
        elif "installing" in line:
            go.unlink(missing_ok=True)

    printed: list[str] = []
    monkeypatch.setattr("builtins.print", seen)
    assert install_through(pip, 0.05, tmp_path, monkeypatch) == 0
    assert any(re.fullmatch(r"  \d+:\d\d fetching: 1 of 2 packages, big 2\.0 \(572\.4 MB\)", line) for line in printed)
    assert any(re.fullmatch(r"  \d+:\d\d installing: 0 of 2 packages", line) for line in printed)


def test_what_pip_refuses_is_said_and_ends_the_setting_up(tmp_path, monkeypatch, capfd):
    pip = "import sys; print('noise'); sys.exit('ERROR: No matching distribution found for big')"
    assert install_through(pip, 5, tmp_path, monkeypatch) == 1
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "ERROR: No matching distribution found for big\n")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both wheels, as pip builds them, by their distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    done = subprocess.run([*build, str(ROOT / "device"), str(ROOT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path.name.split("-")[0]: path for path in folder.glob("*-py3-none-any.whl")}


@pytest.fixture(scope="module")
def wheel(wheels: dict[str, Path]) -> Path:
    """The device's wheel."""
    return wheels["edge_oneshot_device"]


@pytest.mark.parametrize("distribution", ["edge_oneshot", "edge_oneshot_device"])
def test_a_wheel_describes_itself_at_length_and_says_what_it_builds_on(wheels, distribution):
    with zipfile.ZipFile(wheels[distribution]) as packed:
        name = next(one for one in packed.namelist() if one.endswith(".dist-info/METADATA"))
        told = Parser().parsestr(packed.read(name).decode())
    page = ROOT / "README.md" if distribution == "edge_oneshot" else ROOT / "device" / "README.md"
    assert told["Description-Content-Type"] == "text/markdown"
    assert told.get_payload().strip() == page.read_text().strip()
    urls = told.get_all("Project-URL")
    assert urls
    for one in urls:  # the first comma ends the label
        assert re.fullmatch(r"[^,]{1,32}, https://\S+", one), one


def test_the_devices_wheel_is_the_package_as_it_is_and_nothing_else(wheel):
    """No net, no data and no generated module slips in, and no module is left out."""
    package = Path(edge_oneshot_device.__path__[0])
    expected = {f"edge_oneshot_device/{path.relative_to(package)}" for path in package.rglob("*.py")}
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
        assert names == expected | {"edge_oneshot_device/py.typed"}
        for name in names:
            assert packed.read(name) == (package.parent / name).read_bytes(), name


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_everything_that_a_device_needs_is_a_wheel_for_its_machine_and_its_python(python, machine, wheel, tmp_path):
    ask = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--report", "-", "--only-binary=:all:"]
    ask += ["--target", str(tmp_path), "--implementation", "cp", "--python-version", python]
    # glibc 2.36 is that of Debian 12
    ask += [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(36, 16, -1)]
    command = [*ask, f"--platform=manylinux2014_{machine}", f"{wheel}[onnx,search]"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "CI" not in os.environ:
        pytest.skip(f"the package registry is not to be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    found = {one["metadata"]["name"].lower() for one in json.loads(done.stdout)["install"]}
    needed = {"ai-edge-litert", "cryptography", "msgspec", "numkong", "numpy", "onnxruntime", "pillow"}
    assert needed <= found
    assert not found & {"tensorflow", "keras", "onnx", "scipy", "scikit-learn", "opencv-python-headless"}

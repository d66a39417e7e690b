import ast
import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import edge_oneshot_device

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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The device's wheel, as pip builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    done = subprocess.run([*build, str(ROOT / "device")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("edge_oneshot_device-*-py3-none-any.whl"))


def test_the_devices_wheel_is_under_200_kilobytes(wheel):
    assert wheel.stat().st_size < 200_000  # 150,000 until pictures, model files and the gallery's schema were checked


def test_the_devices_wheel_has_the_code_to_the_line_and_the_docstrings_of_public_names(wheel):
    def code(source: str) -> str:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                node.body = [one for one in node.body if not isinstance(one, ast.Pass) and not is_text(one)]
                node.end_lineno = node.end_col_offset = 0  # a docstring may be all that a function has
        return ast.dump(tree, include_attributes=True)

    def is_text(node: ast.stmt) -> bool:
        return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)

    package = Path(edge_oneshot_device.__path__[0])
    with zipfile.ZipFile(wheel) as packed:
        names = [name for name in packed.namelist() if name.endswith(".py")]
        assert sorted(names) == sorted(f"edge_oneshot_device/{p.relative_to(package)}" for p in package.rglob("*.py"))
        for name in names:
            source = (package.parent / name).read_text()
            assert code(packed.read(name).decode()) == code(source), name
        for public in edge_oneshot_device.__all__:
            module = getattr(edge_oneshot_device, public).__module__.replace(".", "/")
            assert packed.read(f"{module}.py").decode() == (package.parent / f"{module}.py").read_text()


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

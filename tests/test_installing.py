"""Each line that installs something, in the pages, the docstrings and the messages, as pip takes it in a clone."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from os import environ
from pathlib import Path

import pytest

from edge_oneshot.faces import packages
from edge_oneshot_device import extras
from edge_oneshot_device.bundle.runtime_kinds import RUNTIME_KINDS
from edge_oneshot_device.encoding import heif
from tests import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "device" / "README.md",
    *sorted(ROOT.glob("docs/**/*.md")),
]
FOLDERS = ("edge_oneshot", "export", "device", "benchmarks", "tests/campaigns", "tools")
CODE = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
LINE = re.compile(r"""pip (?:install|wheel)(?: (?:"[^"\n]*"|'[^'\n]*'|[^\s"'`#;&,(){}]+))+""")


def said(path: Path) -> Iterator[str]:
    """What a page shows as code, and the texts in a program."""
    text = path.read_text()
    if path.suffix == ".md":
        for number, part in enumerate(text.split("```")):
            yield from [part] if number % 2 else (" ".join(span.split()) for span in part.split("`")[1::2])
    else:
        texts = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
        yield from (value for value in texts if isinstance(value, str))


def found() -> dict[str, list[str]]:
    """Each line once, and where it was found."""
    lines: dict[str, list[str]] = {}
    for path in PAGES + CODE:
        for text in said(path):
            for line in LINE.findall(text):
                if shlex.split(line)[2:]:
                    lines.setdefault(line, []).append(str(path.relative_to(ROOT)))
    return lines


LINES = found()


def test_the_lines_of_pages_docstrings_and_messages_are_found():
    pages = {"README.md", "device/README.md", "docs/explanation/matching.md", "docs/guides/training.md"}
    programs = {"edge_oneshot/faces/packages.py", "device/edge_oneshot_device/bundle/runtime_kinds.py"}
    assert pages | programs | {"benchmarks/search.py"} <= {place for places in LINES.values() for place in places}


@pytest.mark.parametrize("line", LINES)
def test_no_registry_is_asked_for_what_is_published_in_none(line):
    """Whoever takes the name there would be installed."""
    asked = [word for word in shlex.split(line) if re.match(r"edge[-_.]oneshot", word)]
    assert not asked, f"{LINES[line]}: {line}"
    if "./device" not in line and "dist/" not in line:
        assert not re.search(r"(^| )[\"']?\.(\[|\"| |$)", line), f"{LINES[line]}: . needs ./device beside it: {line}"


def test_the_messages_ask_for_what_the_distributions_declare():
    def declared(path: str, extra: str | None = None) -> set[str]:
        project = tomllib.loads((ROOT / path).read_text())["project"]
        wanted = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
        return {one.split(";")[0] for one in wanted}

    def asked(line: str) -> set[str]:
        return set(shlex.split(line)[2:])

    assert asked(packages.INSTALL) == declared("pyproject.toml", "faces")
    assert asked(RUNTIME_KINDS["onnxruntime"].install) == declared("device/pyproject.toml", "onnx")
    assert asked(RUNTIME_KINDS["tflite-runtime"].install) == declared("device/pyproject.toml", "tflite-runtime")
    assert asked(RUNTIME_KINDS["litert"].install) < declared("device/pyproject.toml")
    for path in ("device/pyproject.toml", "pyproject.toml"):
        assert asked(heif.INSTALL["HEIC"]) == declared(path, "heif")
    for extra, line in extras.INSTALL.items():
        assert {one.split(";")[0] for one in asked(line)} == declared("device/pyproject.toml", extra)
    (pillow,) = (one for one in declared("device/pyproject.toml") if one.startswith("pillow>"))
    (newer,) = asked(heif.INSTALL["AVIF"])
    assert newer.rpartition(",")[2] == pillow.rpartition(",")[2]
    tensorboard = declared("pyproject.toml", "tensorboard")
    assert any(
        asked(line) == tensorboard for line, places in LINES.items() if "edge_oneshot/training/logs.py" in places
    )


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with a fresh environment in it, and the wheels that the README's line builds."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("README.md", "LICENSE", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for name in ("device", "edge_oneshot", "export"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    venv.create(folder / "venv", with_pip=True)
    probe = pip(folder, "pip install --dry-run packaging")
    if probe.returncode and "CI" not in environ:
        pytest.skip(f"the package registry is not to be reached: {probe.stderr.strip().splitlines()[-1]}")
    built = pip(folder, "pip wheel --no-deps --wheel-dir dist ./device .")
    assert built.returncode == 0, built.stderr
    return folder


def pip(clone: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line with the clone's own environment."""
    command = [str(clone / "venv" / "bin" / "pip"), *shlex.split(line)[1:]]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("pip install")])
def test_each_line_that_installs_finds_everything_in_a_fresh_environment(clone, line):
    if "tflite-runtime>" in line and sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime is for Python up to 3.11; the program does not print this line there")
    done = pip(clone, f"{line} --dry-run --quiet")
    assert done.returncode == 0, f"{LINES[line]}: {line}\n{done.stderr}"


def test_each_line_that_builds_wheels_does(clone, tmp_path):
    lines = [line for line in LINES if line.startswith("pip wheel")]
    assert "pip wheel --no-deps --wheel-dir dist ./device ." in lines
    for line in lines:
        done = pip(clone, line.replace("dist", shlex.quote(str(tmp_path / "dist"))))
        assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "dist").iterdir()} == {path.name for path in (clone / "dist").iterdir()}

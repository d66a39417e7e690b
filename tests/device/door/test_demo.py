"""Where the demo of a door begins."""

import sys

import pytest

from edge_oneshot_device.door.demo import demo_command
from edge_oneshot_device.errors import MachineError
from tests.raising import raises


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An environment without programs."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    return tmp_path


def install(folder):
    folder.mkdir()
    program = folder / "edge-oneshot"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return str(program)


def test_a_device_says_where_the_demo_runs(place):  # noqa: ARG001 (nothing is installed there)
    with raises(MachineError, reason="extra_missing", match="workstation"):
        demo_command(as_json=False)


def test_the_program_of_the_same_environment_comes_first(place):
    elsewhere = install(place / "elsewhere")
    assert demo_command(as_json=False) == [elsewhere, "demo", "--door"]
    beside = install(place / "bin")
    assert demo_command(as_json=True) == [beside, "demo", "--door", "--json"]

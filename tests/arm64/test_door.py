"""The door on an emulated Raspberry Pi, as the archive's own installer put it there: from init to identify.

Runs by `make test-arm64`, within a userland.
"""

import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

if platform.machine() != "aarch64" or "EDGE_ONESHOT_ANSWERS" not in os.environ:
    pytest.skip("runs in an arm64 userland: make test-arm64", allow_module_level=True)

BIN = Path("/opt/edge-oneshot/current/bin")
BUNDLE = Path(os.environ["EDGE_ONESHOT_BUNDLES"]) / "tiny.oneshot"
FILES = Path(os.environ["EDGE_ONESHOT_ANSWERS"]) / "files"


def program(*words, code=0, command=BIN / "edge-oneshot-device", **environment):
    command = [*map(str, (command, *words, "--json"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    assert done.returncode == code, (command, done.stdout, done.stderr)
    return json.loads(done.stdout or done.stderr)


def test_this_is_the_raspberry_pi_that_was_asked_for():
    assert Path(sys.executable).parent == BIN
    told = Path("/proc/cpuinfo").read_text()
    assert {"cortex-a72": "0xd08", "cortex-a76": "0xd0b"}[os.environ["QEMU_CPU"]] in told
    assert os.cpu_count() == 4
    assert f"{sys.version_info.major}.{sys.version_info.minor}" == os.environ["EDGE_ONESHOT_PYTHON"]


@pytest.mark.parametrize("name", ["ai_edge_litert.interpreter", "cryptography", "hypothesis", "msgspec", "numkong",
                                  "numpy", "onnxruntime", "PIL.Image", "sqlite3"])  # fmt: skip
def test_nothing_is_skipped_for_want_of_a_wheel(name):
    importlib.import_module(name)


def test_the_installer_leaves_a_door_that_its_own_user_keeps_and_the_doctor_passes():
    assert oct(Path("/etc/edge-oneshot.key").stat().st_mode)[-3:] == "600"
    state = Path("/var/lib/edge-oneshot")
    assert state.owner() == state.group() == "edge-oneshot"
    assert {path.owner() for path in state.rglob("*")} == {"edge-oneshot"}
    assert Path("/etc/systemd/system/edge-oneshot.service").is_file()
    assert Path("/etc/udev/rules.d/99-edge-oneshot-coral.rules").is_file()
    found = program("doctor", command="/usr/local/bin/edge-oneshot-device")
    assert found["exit_code"] == 0
    assert {one["what"] for one in found["findings"] if one["level"] == "ok"} >= {"bundle", "gallery", "key", "runtime"}


def test_from_init_to_identify_and_back(tmp_path):
    places = ("--state", str(tmp_path / "state"), "--key", str(tmp_path / "key"))

    def door(*words, code=0):
        return program(*words, *places, code=code)

    assert door("init", BUNDLE)["name"] == "tiny"
    ada, other = FILES / "ada.png", FILES / "other.png"
    assert door("enrol", "ada", ada)["templates"] == 1
    decision = door("identify", ada, "--scores")
    assert (decision["person"], decision["accepted"], decision["runtime"]) == ("ada", True, "litert")
    assert decision["score"] == pytest.approx(1.0, abs=1e-6)
    assert door("verify", "ada", other, code=1)["reason"] == "below_threshold"
    assert door("identify", other, code=1)["person"] is None
    assert [one["person"] for one in door("people")] == ["ada"]
    assert door("audit", "--check")
    door("forget", "ada")
    assert door("people") == []


def test_a_library_that_is_missing_is_one_clear_line(tmp_path):
    (tmp_path / "libstdc++.so.6").write_bytes(b"")  # found before the system's
    places = ("--state", str(tmp_path / "state"), "--key", str(tmp_path / "key"))
    error = program("init", BUNDLE, *places, code=4, LD_LIBRARY_PATH=str(tmp_path))
    assert error["reason"] == "library_missing"
    assert "libstdc++.so.6: " in error["error"]
    assert "\n" not in error["error"]

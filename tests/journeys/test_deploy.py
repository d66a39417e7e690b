"""A bundle's way to a device: the archive, its installer, and the way back."""

import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

from edge_oneshot.data import glyphs
from edge_oneshot.deploying.archive import build_archive
from edge_oneshot.deploying.options import DeployOptions
from edge_oneshot.deploying.remote import install_on
from edge_oneshot.deploying.wheels import pack_device
from edge_oneshot.errors import DeployError
from edge_oneshot_device.errors import InputError
from tests import ROOT
from tests.raising import raises

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
DAMAGED = "install.sh: the archive is damaged: build it again"
FILES = ROOT / "edge_oneshot" / "deploying" / "files"


@pytest.fixture
def device(tmp_path):
    """A place to install in, without root."""
    return tmp_path / "device"


@pytest.fixture(scope="module")
def installed(archive, unpack, tmp_path_factory):
    """A device on which the archive was installed without a network."""
    folder = tmp_path_factory.mktemp("installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_INDEX_URL", "http://localhost:1/nothing")
        assert f"installed {archive.release}" in install(unpack(archive, folder), folder / "device")
    return folder / "device"


def options(device):
    places = ["--prefix", device / "opt", "--state", device / "state", "--key", device / "key"]
    return [*map(str, places), "--python", sys.executable, "--no-service"]


def install(unpacked, device, code=0):
    done = subprocess.run([unpacked / "install.sh", *options(device)], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr.splitlines()[-1]


def program(device, *words, code=0):
    command = [device / "opt" / "current" / "bin" / "edge-oneshot-device", *words]
    places = ["--state", device / "state", "--key", device / "key"]
    done = subprocess.run([*map(str, [*command, *places])], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_is_whole_and_the_same_every_time(tmp_path):
    (tmp_path / "again").mkdir()
    wheel, again = pack_device(tmp_path), pack_device(tmp_path / "again")
    assert wheel.read_bytes() == again.read_bytes()
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        assert packed.testzip() is None
    assert "edge_oneshot_device/cli.py" in names
    assert "edge_oneshot_device/faces/finding.py" in names
    assert any(name.endswith("entry_points.txt") for name in names)
    assert any(name.endswith("LICENSE") for name in names)
    assert not any("__pycache__" in name for name in names)


def test_an_archive_is_the_same_for_the_same_bundle(archive, bundle, tmp_path):
    out = tmp_path / "again.tar.gz"
    again = build_archive(bundle, out, DeployOptions(machine=platform.machine(), python=PYTHON, target_far=0.2))
    assert again.release == archive.release
    assert out.read_bytes() == Path(archive.file).read_bytes()
    assert not any("tensorflow" in wheel or "keras" in wheel for wheel in archive.wheels)


def test_it_installs_without_a_network_and_the_door_works(archive, unpack, installed, tmp_path):
    Image.fromarray(glyphs.draw_alphabet(0, 0)[0, 0]).save(tmp_path / "ada.png")
    program(installed, "enrol", "ada", tmp_path / "ada.png")
    assert json.loads(program(installed, "identify", tmp_path / "ada.png", "--json"))["person"] == "ada"
    script = (installed / "opt" / "current" / "completion.bash").read_text()
    assert script.endswith("complete -o bashdefault -F _shtab_edge_oneshot_device edge-oneshot-device\n")
    # once more: nothing is installed twice, and nobody is lost
    install(unpack(archive, tmp_path), installed)
    assert "ada" in program(installed, "people")
    program(installed, "forget", "ada")


def test_a_damaged_archive_installs_nothing(archive, unpack, device, tmp_path):
    unpacked = unpack(archive, tmp_path)
    (unpacked / "bundle.oneshot").write_bytes(b"other")
    assert install(unpacked, device, code=3) == DAMAGED
    assert not device.exists()


@pytest.mark.parametrize("kind", ["file", "link", "folder", "program"])
def test_a_file_that_is_not_listed_is_refused(archive, unpack, device, tmp_path, kind):
    unpacked = unpack(archive, tmp_path)
    other = unpacked / "wheels" / "numpy.py"
    if kind == "file":
        other.write_text("")
    elif kind == "link":  # a listed name, with what is listed behind it
        (unpacked / "README.txt").rename(tmp_path / "elsewhere.txt")
        (unpacked / "README.txt").symlink_to(tmp_path / "elsewhere.txt")
    elif kind == "folder":
        other.symlink_to(tmp_path)
    else:
        os.mkfifo(other)
    assert install(unpacked, device, code=3) == DAMAGED
    assert not device.exists()


@pytest.mark.parametrize("line", ["RELEASE=$(touch {})", "PATH=/tmp", "touch {}", "INIT_OPTIONS=--state /etc",
                                  "INIT_OPTIONS=`touch {}`", "RELEASE=../../../etc"])  # fmt: skip
def test_nothing_in_an_archive_is_a_command(archive, unpack, alter, device, tmp_path, line):
    unpacked, made = unpack(archive, tmp_path), tmp_path / "made"
    facts = unpacked / "release.env"
    facts.write_text(f"{facts.read_text()}{line.format(made)}\n")
    assert install(unpacked, device, code=3) == DAMAGED
    alter(unpacked, "README.txt", "release", "Release")  # whoever rewrites the digests too gets no further here
    assert install(unpacked, device, code=3) == DAMAGED
    assert not made.exists()
    assert not device.exists()


def test_an_option_that_the_installer_would_not_take_is_refused_when_the_archive_is_built(bundle, tmp_path):
    with raises(InputError, match="cannot be a value of an option", reason="wrong_use"):
        build_archive(bundle, tmp_path / "door.tar.gz", DeployOptions(runtime="litert;reboot"))


def test_the_digest_of_an_archive_is_told(archive):
    assert archive.sha256 == sha256(Path(archive.file).read_bytes()).hexdigest()


def test_the_installer_prints_its_options(archive, unpack, tmp_path):
    done = subprocess.run(
        [unpack(archive, tmp_path) / "install.sh", "--help"], capture_output=True, text=True, check=True
    )
    for option in ("--no-service", "--prefix", "--state", "--key", "--python"):
        assert option in done.stdout


def test_places_may_be_relative(archive, unpack, tmp_path):
    unpacked = unpack(archive, tmp_path)
    places = ["--prefix", "door/opt", "--state", "door/state", "--key", "door/key", "--python", sys.executable]
    command = [unpacked / "install.sh", "--no-service", *places]
    subprocess.run(command, cwd=tmp_path, check=True, umask=0o077)
    assert (tmp_path / "door/opt/current").resolve(strict=True).name == archive.release
    assert json.loads(program(tmp_path / "door", "doctor", "--json"))["exit_code"] == 0


def test_a_door_that_is_not_fit_goes_back_to_what_was_there(archive, unpack, bundle, installed, tmp_path):
    other = tmp_path / "other.tar.gz"
    later = build_archive(bundle, other, DeployOptions(machine=platform.machine(), python=PYTHON, variant="float32"))
    with closing(sqlite3.connect(installed / "state" / "gallery.db", isolation_level=None)) as connection:
        (sound,) = connection.execute("SELECT detail FROM audit WHERE seq = 1").fetchone()
        connection.execute("UPDATE audit SET detail = '{}' WHERE seq = 1")
        told = install(unpack(later, tmp_path), installed, code=4)
        connection.execute("UPDATE audit SET detail = ? WHERE seq = 1", [sound])
    # it was not before either: nothing better is said than what is true
    assert told == ("install.sh: the door does not work: what was in use before is restored, but does not work either")
    assert (installed / "opt" / "current").resolve().name == archive.release
    assert "int8 on litert" in program(installed, "doctor")


def test_an_archive_for_another_machine_says_so(archive, unpack, alter, device, tmp_path):
    unpacked = unpack(archive, tmp_path)
    alter(unpacked, "release.env", platform.machine(), "riscv64")
    assert "this archive is for riscv64" in install(unpacked, device, code=2)


def test_it_is_installed_through_ssh(archive, installed, tmp_path, monkeypatch):
    # what stands for ssh runs the same script on this machine
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(
        '#!/bin/sh\n[ "$6" = pi@door ] || { echo "ssh: no route to host" >&2; exit 255; }\nexec sh -c "$7"\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    done = install_on("pi@door", Path(archive.file), archive.release, tuple(options(installed)), sudo=False)
    assert f"installed {archive.release}" in done.output
    with raises(DeployError, match="no route to host", reason="host_unreachable"):
        install_on("pi@nowhere", Path(archive.file), archive.release)
    with raises(DeployError, match="unknown option --unknown", reason="not_installed"):
        install_on("pi@door", Path(archive.file), archive.release, ("--unknown",), sudo=False)


def test_wheels_that_there_are_none_of_are_a_clear_error(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with raises(DeployError, match=r"no wheels for aarch64 and Python 3\.13", reason="no_wheels"):
        build_archive(bundle, tmp_path / "door.tar.gz")
    assert not (tmp_path / "door.tar.gz").exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_service_is_sound_and_hardened(tmp_path):
    unit = tmp_path / "edge-oneshot.service"
    text = (FILES / unit.name).read_text()
    # here there is no such program
    unit.write_text(text.replace("/opt/edge-oneshot/current/bin/edge-oneshot-device", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    judge = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", unit]
    assert subprocess.run(judge, capture_output=True, check=False).returncode == 0

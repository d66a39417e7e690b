"""A bundle's way to a device: the archive, its installer, and the way back."""

import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from edge_oneshot.data import glyphs
from edge_oneshot.deploying.archive import Options, build_archive
from edge_oneshot.deploying.remote import install_on
from edge_oneshot.deploying.wheels import pack_device
from edge_oneshot.errors import DeployError

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
FILES = Path(__file__).parents[2] / "edge_oneshot" / "deploying" / "files"


@pytest.fixture(scope="module")
def archive(tmp_path_factory, bundle):
    out = tmp_path_factory.mktemp("archive") / "door.tar.gz"
    try:
        return build_archive(bundle, out, machine=platform.machine(), python=PYTHON, options=Options(target_far=0.2))
    except DeployError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(f"the package registry is not to be reached: {error}")


@pytest.fixture
def device(tmp_path):
    """A place to install in, without root."""
    return tmp_path / "device"


@pytest.fixture(scope="module")
def installed(archive, tmp_path_factory):
    """A device on which the archive was installed without a network."""
    folder = tmp_path_factory.mktemp("installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_INDEX_URL", "http://localhost:1/nothing")
        assert f"installed {archive.release}" in install(unpack(archive, folder), folder / "device")
    return folder / "device"


def unpack(archive, folder):
    with tarfile.open(archive.file) as packed:
        packed.extractall(folder, filter="data")
    return folder / f"edge-oneshot-{archive.release}"


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
    again = build_archive(bundle, out, machine=platform.machine(), python=PYTHON, options=Options(target_far=0.2))
    assert again.release == archive.release
    assert out.read_bytes() == Path(archive.file).read_bytes()
    assert not any("tensorflow" in wheel or "keras" in wheel for wheel in archive.wheels)


def test_it_installs_without_a_network_and_the_door_works(archive, installed, tmp_path):
    Image.fromarray(glyphs.draw_alphabet(0, 0)[0, 0]).save(tmp_path / "ada.png")
    program(installed, "enrol", "ada", tmp_path / "ada.png")
    assert json.loads(program(installed, "identify", tmp_path / "ada.png", "--json"))["person"] == "ada"
    # once more: nothing is installed twice, and nobody is lost
    install(unpack(archive, tmp_path), installed)
    assert "ada" in program(installed, "people")
    program(installed, "forget", "ada")


def test_a_damaged_archive_installs_nothing(archive, device, tmp_path):
    unpacked = unpack(archive, tmp_path)
    (unpacked / "bundle.oneshot").write_bytes(b"other")
    assert install(unpacked, device, code=3) == "install.sh: the archive is damaged: build it again"
    assert not device.exists()


def test_a_door_that_is_not_fit_goes_back_to_what_was_there(archive, bundle, installed, tmp_path):
    other = tmp_path / "other.tar.gz"
    later = build_archive(bundle, other, machine=platform.machine(), python=PYTHON, options=Options(variant="float32"))
    gallery = installed / "state" / "gallery.db"
    sound = gallery.read_bytes()
    with closing(sqlite3.connect(gallery, isolation_level=None)) as connection:
        connection.execute("UPDATE audit SET detail = '{}' WHERE seq = 1")
    assert "what was in use before is in use again" in install(unpack(later, tmp_path), installed, code=4)
    assert (installed / "opt" / "current").resolve().name == archive.release
    (row,) = json.loads(program(installed, "audit", "--last", "1", "--json"))
    assert (row["act"], row["detail"]["variant"], row["detail"]["rollback"]) == ("installed", "int8", True)
    gallery.write_bytes(sound)


def test_an_archive_for_another_machine_says_so(archive, device, tmp_path):
    unpacked = unpack(archive, tmp_path)
    facts = unpacked / "release.env"
    facts.write_text(facts.read_text().replace(platform.machine(), "riscv64"))
    assert "this archive is for riscv64" in install(unpacked, device, code=2)


def test_it_is_installed_through_ssh(archive, installed, tmp_path, monkeypatch):
    # what stands for ssh runs the same script on this machine
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(
        '#!/bin/sh\n[ "$4" = pi@door ] || { echo "ssh: no route to host" >&2; exit 255; }\nexec sh -c "$5"\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    done = install_on("pi@door", Path(archive.file), archive.release, tuple(options(installed)), sudo=False)
    assert f"installed {archive.release}" in done.output
    with pytest.raises(DeployError, match="no route to host") as refused:
        install_on("pi@nowhere", Path(archive.file), archive.release)
    assert refused.value.reason == "host_unreachable"
    with pytest.raises(DeployError, match="--unknown is not known") as refused:
        install_on("pi@door", Path(archive.file), archive.release, ("--unknown",), sudo=False)
    assert refused.value.reason == "not_installed"


def test_wheels_that_there_are_none_of_are_a_clear_error(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DeployError, match=r"no wheels for aarch64 and Python 3\.11") as refused:
        build_archive(bundle, tmp_path / "door.tar.gz")
    assert refused.value.reason == "no_wheels"
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

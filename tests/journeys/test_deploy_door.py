"""The installer as root with a door's configuration: the loop becomes a service, and an update keeps it or goes back.

The machine is that of test_deploy_as_root. What stands for systemd runs `doctor --config` in place of the loop: the
service is ready where what it needs is there.
"""

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_oneshot.deploying.archive import build_archive
from edge_oneshot.deploying.options import DeployOptions
from edge_oneshot.errors import DeployError
from tests import ROOT
from tests.journeys.test_deploy_as_root import LATER, SYSTEMCTL, USER, copy, pristine  # noqa: F401 (a fixture)

UNIT = "/etc/systemd/system/edge-oneshot-door.service"
CONFIG = "/etc/edge-oneshot/door.toml"
FILES = ROOT / "edge_oneshot" / "deploying" / "files"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def door_archive(faces_bundle, tmp_path_factory):
    """The archive of a door whose camera is always there."""
    folder = tmp_path_factory.mktemp("door")
    (folder / "door.toml").write_text('[camera]\nsource = "/dev/null"\n')
    options = DeployOptions(machine=platform.machine(), python=PYTHON, door=folder / "door.toml")
    try:
        return build_archive(faces_bundle, folder / "door.tar.gz", options)
    except DeployError as error:
        pytest.skip(f"the package registry is not to be reached: {error}")


@pytest.fixture(scope="module")
def doors(door_archive, unpack, alter, tmp_path_factory):
    """That archive, and one of a later release with another name of the door, unpacked."""
    first = unpack(door_archive, tmp_path_factory.mktemp("first"))
    later = unpack(door_archive, tmp_path_factory.mktemp("later"))
    alter(later, "release.env", door_archive.release, LATER)
    alter(later, "door.toml", "[camera]", 'name = "Yard"\n[camera]')
    return first, later


@pytest.fixture(scope="module")
def made(pristine, doors, tmp_path_factory):  # noqa: F811 (the fixture)
    """A machine with a systemd on which that door runs, and the later one was installed."""
    machine = copy(pristine, tmp_path_factory.mktemp("made"))
    machine.path("/run/systemd/system").mkdir(parents=True)
    machine.put_program("systemctl", SYSTEMCTL)
    machine.put_program("udevadm", "#!/bin/sh\n")
    for unpacked in (doors[0], doors[1], doors[0]):
        machine.install(unpacked)
    return machine


@pytest.fixture
def machine(made, tmp_path):
    machine = copy(made, tmp_path)
    machine.path("/run/systemctl.log").unlink()
    return machine


@pytest.fixture
def later(doors, tmp_path):
    """The later release, to be altered."""
    return Path(shutil.copytree(doors[1], tmp_path / "altered", symlinks=True))


def calls(machine):
    """What systemctl was told."""
    return machine.path("/run/systemctl.log").read_text().splitlines()


def test_a_door_runs_as_a_service_with_its_configuration_and_the_groups_of_its_devices(made):
    config = made.path(CONFIG)
    assert config.read_text() == '[camera]\nsource = "/dev/null"\n'
    assert oct(config.stat().st_mode)[-3:] == "640"
    assert (config.stat().st_uid, config.stat().st_gid) == (0, int(made.run("id", "-g", USER)))
    assert made.path(UNIT).read_bytes() == (FILES / "edge-oneshot-door.service").read_bytes()
    assert made.run("id", "-nG", USER).split() == [USER, "video"]
    told = calls(made)
    assert told.index("enable --quiet edge-oneshot-door.service") < told.index("restart edge-oneshot-door.service")
    assert json.loads(made.door("doctor", "--config", CONFIG, "--json"))["exit_code"] == 0


def test_an_update_starts_the_door_again_and_keeps_the_former_configuration(machine, doors):
    machine.install(doors[1])
    machine.expect_fit(LATER)
    assert 'name = "Yard"' in machine.path(CONFIG).read_text()
    assert "Yard" not in machine.path(f"{CONFIG}.former").read_text()
    assert calls(machine)[-1] == "restart edge-oneshot-door.service"


def test_a_door_that_lacks_something_is_not_switched_to(machine, door_archive, later, alter):
    alter(later, "door.toml", "/dev/null", "/dev/video63")
    assert machine.install(later, code=4) == (
        "install.sh: the door does not work with door.toml: what was in use before is in use again"
    )
    machine.expect_fit(door_archive.release)
    assert "/dev/null" in machine.path(CONFIG).read_text()


def test_a_door_that_does_not_become_ready_goes_back_to_the_former_one(machine, door_archive, doors):
    broken = f'[ "$*" = "restart edge-oneshot-door.service" ] && readlink /opt/edge-oneshot/current | grep -q {LATER}'
    machine.put_program("systemctl", SYSTEMCTL.replace("case", f"{broken} && exit 1\ncase", 1))
    before = machine.path(CONFIG).read_bytes(), machine.path(UNIT).read_bytes()
    assert machine.install(doors[1], code=4) == (
        "install.sh: the service does not start: what was in use before is in use again"
    )
    machine.expect_fit(door_archive.release)
    assert (machine.path(CONFIG).read_bytes(), machine.path(UNIT).read_bytes()) == before
    assert calls(machine)[-1] == "restart edge-oneshot-door.service"  # with the former program


def test_a_first_door_that_does_not_become_ready_leaves_none(pristine, doors, tmp_path):  # noqa: F811 (the fixture)
    machine = copy(pristine, tmp_path)
    machine.path("/run/systemd/system").mkdir(parents=True)
    refuses = '[ "$*" = "restart edge-oneshot-door.service" ] && exit 1'
    machine.put_program("systemctl", SYSTEMCTL.replace("case", f"{refuses}\ncase", 1))
    machine.put_program("udevadm", "#!/bin/sh\n")
    assert machine.install(doors[0], code=4).endswith("nothing was in use before")
    assert "disable --quiet --now edge-oneshot-door.service" in calls(machine)
    assert not machine.path(UNIT).exists()
    assert not machine.path(CONFIG).exists()


def test_a_door_is_not_ended_by_an_archive_without_one(machine, later):
    (later / "door.toml").unlink()
    sums = later / "SHA256SUMS"
    sums.write_text("".join(line for line in sums.read_text().splitlines(keepends=True) if "door.toml" not in line))
    assert "a door runs here, and this archive has none: deploy --door" in machine.install(later, code=2)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_door_s_service_is_sound_and_as_closed_as_the_page_says(tmp_path):
    unit = tmp_path / "edge-oneshot-door.service"
    text = (FILES / unit.name).read_text()
    # here there is no such program
    unit.write_text(text.replace("/opt/edge-oneshot/current/bin/edge-oneshot-device", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    judge = ["systemd-analyze", "security", "--offline=yes", "--threshold=15", unit]
    assert subprocess.run(judge, capture_output=True, check=False).returncode == 0

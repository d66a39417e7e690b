"""What deploy does before it builds anything: the defaults, the archive's name, a look at the device."""

import os
import re
from pathlib import Path

import msgspec
import pytest

from edge_oneshot import cli
from edge_oneshot.deploying import archive
from edge_oneshot.deploying.door import door_needs
from edge_oneshot.deploying.options import DeployOptions
from edge_oneshot.deploying.remote import check_host
from edge_oneshot.deploying.wheels import needed
from edge_oneshot.errors import DeployError
from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.errors import InputError
from tests import ROOT
from tests.raising import raises
from tests.samples.tiny import bundle_maker, draw_people, tiny_section

PAGE = ROOT / "docs" / "guides" / "deploy.md"
USERLAND = ROOT / "tests" / "arm64" / "userland.py"


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a device at the other end of ssh: its machine, its commands, or how ssh fails."""

    def ssh(machine: str = "aarch64", *programs: str, fails: str = "") -> None:
        there, here = tmp_path / "there", tmp_path / "here"
        there.mkdir(), here.mkdir()
        scripts = {"uname": f"echo {machine}", **dict.fromkeys(programs, "echo Python 3.11.2")}
        for folder, name, text in ((there, name, text) for name, text in scripts.items()):
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)
        # the script on the device sets PATH: the device's folder stands in its place
        script = f'echo welcome; printf "%s" "$7" | sed "s|^PATH=.*|PATH={there}|" | /bin/sh'
        (here / "ssh").write_text(f"#!/bin/sh\n{f'echo {fails} >&2; exit 255' if fails else script}\n")
        (here / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{here}:{os.environ['PATH']}")

    return ssh


def test_a_device_that_an_archive_would_be_for_is_taken(ssh):
    ssh("aarch64", "python3.13", "python3")
    check_host("pi@door", "aarch64", "3.13")


@pytest.mark.parametrize(
    ("machine", "programs", "words"),
    [
        (
            "x86_64",
            ["python3.13"],
            "pi@door is not aarch64: uname -m prints x86_64 there; give its machine with --machine",
        ),
        (
            "armv7l",
            ["python3.13"],
            "pi@door is not aarch64: uname -m prints armv7l there; give its machine with --machine",
        ),
        (
            "aarch64",
            ["python3", "python3.11"],
            "pi@door has Python 3.11.2, not python3.13: give its version with --python",
        ),
        ("aarch64", [], "pi@door has no Python 3, not python3.13: give its version with --python"),
    ],
)
def test_a_device_that_it_would_not_be_for_is_refused(ssh, machine, programs, words):
    ssh(machine, *programs)
    with raises(DeployError, match=re.escape(words), reason="other_device"):
        check_host("pi@door", "aarch64", "3.13")


def test_a_host_that_is_not_to_be_reached_is_refused_before_anything_is_packed(ssh, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(archive, "pack_device", lambda _: pytest.fail("something was packed"))
    ssh(fails="ssh: connect to host door port 22: No route to host")
    assert cli.main(["deploy", "door.oneshot", "--host", "pi@door", "--json"]) == 4
    said = capsys.readouterr().err
    assert '"reason":"host_unreachable"' in said
    assert "No route to host; make sure that ssh pi@door works without a password" in said
    assert not list(tmp_path.glob("*.tar.gz"))


def test_a_workstation_without_ssh_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with raises(DeployError, match="no ssh on this machine: install openssh-client", reason="no_ssh"):
        check_host("pi@door", "aarch64", "3.13")


def test_the_default_is_todays_raspberry_pi_os_and_the_name_says_for_what(monkeypatch):
    def build(_bundle: Path, out: Path, options: DeployOptions, **_: object) -> archive.DeviceArchive:
        built.append(out.name)
        return archive.DeviceArchive(str(out), "0" * 12, "door", options.machine, options.python, [], 0, "0" * 64)

    built: list[str] = []
    monkeypatch.setattr(archive, "build_archive", build)
    pythons = dict(re.findall(r'"(bookworm|trixie)": "([\d.]+)"', USERLAND.read_text()))
    assert pythons["trixie"] == DeployOptions().python
    for words in ([], ["--python", "3.11"], ["--machine", "x86_64"]):
        assert cli.main(["deploy", "door.oneshot", *words]) == 0
    assert built == ["door-aarch64-py3.13.tar.gz", "door-aarch64-py3.11.tar.gz", "door-x86_64-py3.13.tar.gz"]
    page = PAGE.read_text()
    assert set(re.findall(r"door-[\w.-]+\.tar\.gz", page)) == {built[0]}
    assert f"Debian 13 (trixie) | {DeployOptions().python}, the default |" in page
    assert f"Debian 12 (bookworm) | {pythons['bookworm']} |" in page


def test_a_door_needs_a_bundle_that_finds_faces(tmp_path):
    bundle = bundle_maker(tmp_path, draw_people(), tiny_section())()
    (tmp_path / "door.toml").write_text("")
    with raises(InputError, match="finds no faces", reason="no_faces"):
        archive.build_archive(bundle, tmp_path / "door.tar.gz", DeployOptions(door=tmp_path / "door.toml"))


def test_requirements_are_read_as_on_the_device():
    boards = "python_version >= '3.13' and platform_machine != 'x86_64'"
    requires = ["numpy>=1", "lgpio; python_version < '3.13' and extra == 'gpio'", "torch; extra == 'other'"]
    requires.append(f"adafruit-lgpio; {boards} and extra == 'gpio'")
    assert needed(requires, "aarch64", "3.13", ()) == ["numpy>=1"]
    assert needed(requires, "aarch64", "3.13", ("gpio",)) == ["numpy>=1", "adafruit-lgpio"]
    assert needed(requires, "aarch64", "3.11", ("gpio",)) == ["numpy>=1", "lgpio"]
    assert needed(requires, "x86_64", "3.13", ("gpio",)) == ["numpy>=1"]


@pytest.mark.parametrize(
    ("text", "extras", "groups", "system_packages"),
    [
        ('[lock]\nkind = "gpio"\n[pin]\nkeypad = "/dev/input/event0"', ("camera", "gpio", "pin"),
         ("video", "gpio", "input"), False),
        ('[camera]\nsource = "picamera"\n[second_factor]\nprompt_command = ["say"]', (), ("video", "audio"), True),
        ('[second_factor]\nmode = "word"\n[word]\nstate = "/w"', ("audio", "camera"), ("video", "audio"), False),
        ('[camera]\nsource = "rtsp://camera/1"\n[mqtt]\nhost = "broker"', ("camera", "mqtt"), (), False),
    ],
)  # fmt: skip
def test_a_door_gets_the_packages_and_groups_of_what_its_configuration_names(
    tmp_path, text, extras, groups, system_packages
):
    manifest = Bundle.open(bundle_maker(tmp_path, draw_people(), tiny_section())()).manifest
    face = msgspec.structs.replace(manifest.input, face=object())
    (tmp_path / "door.toml").write_text(text)
    needs = door_needs(tmp_path / "door.toml", msgspec.structs.replace(manifest, input=face))
    assert (needs.extras, needs.groups, needs.system_packages) == (extras, groups, system_packages)

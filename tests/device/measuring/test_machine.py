"""What a run was measured on, read off machines laid out as folders."""

import os
from pathlib import Path

import pytest

from edge_oneshot_device.measuring.machine import Health, board, disk_of, look_at_health, look_at_machine, was_throttled

NOTHING = Health(governor=None, mhz=None, temperature_c=None, throttled=None, load=None)


def lay(root: Path, **files: str) -> Path:
    """Files by their paths, / written as __."""
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_a_raspberry_pi_is_named_by_its_device_tree_a_pc_by_dmi_another_by_its_processor(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    lay(tmp_path, proc__cpuinfo="processor\t: 0\nCPU part\t: 0xd08\n")
    assert board(tmp_path) == "aarch64"
    lay(tmp_path, proc__cpuinfo="processor\t: 0\nvendor_id\t: x\nmodel name\t: Some CPU @ 2.0GHz\n")
    assert board(tmp_path) == "Some CPU @ 2.0GHz"
    lay(tmp_path, sys__class__dmi__id__sys_vendor="Some Corp\n", sys__class__dmi__id__product_name="Box 3\n")
    assert board(tmp_path) == "Some Corp Box 3"
    (tmp_path / "proc/device-tree").mkdir()
    (tmp_path / "proc/device-tree/model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    assert board(tmp_path) == "Raspberry Pi 5 Model B Rev 1.0"


def test_this_machine_says_what_it_is():
    machine = look_at_machine()
    assert machine.cores == len(os.sched_getaffinity(0))
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    assert machine.memory_mb == pytest.approx(int(total.split()[1]) / 1024, rel=0.01)
    assert {"python", "numpy", "edge-oneshot-device"} <= machine.versions.keys()
    assert machine.board


def test_what_a_machine_does_not_say_is_null(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look_at_health(tmp_path) == NOTHING


def test_governor_frequency_and_the_hottest_sensor_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    cpu = "sys__devices__system__cpu__cpu0__cpufreq__"
    lay(
        tmp_path,
        **{f"{cpu}scaling_governor": "ondemand\n", f"{cpu}scaling_cur_freq": "1500000\n"},
        proc__loadavg="0.52 0.58 0.59 1/389 12345\n",
        sys__class__thermal__thermal_zone0__temp="48312\n",
        sys__class__hwmon__hwmon1__temp1_input="51900\n",
        sys__class__hwmon__hwmon2__temp1_input="broken\n",
    )
    assert look_at_health(tmp_path) == Health("ondemand", 1500.0, 51.9, None, 0.52)


@pytest.mark.parametrize(
    ("told", "flags"),
    [
        ("throttled=0x0", []),
        ("throttled=0x50005", ["under-voltage", "throttled", "under-voltage since start", "throttled since start"]),
        ("throttled=0xe0008", ["soft temperature limit", "frequency capped since start", "throttled since start",
                               "soft temperature limit since start"]),
        ("VCHI initialization failed", None),
    ],
)  # fmt: skip
def test_the_firmware_of_a_raspberry_pi_is_asked(tmp_path, monkeypatch, told, flags):
    program = tmp_path / "vcgencmd"
    program.write_text(f'#!/bin/sh\n[ "$1" = get_throttled ] && echo "{told}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look_at_health(tmp_path).throttled == flags


@pytest.mark.parametrize(("alarm", "flags"), [("0", []), ("1", ["under-voltage"])])
def test_without_its_program_the_driver_tells_of_the_voltage(tmp_path, monkeypatch, alarm, flags):
    monkeypatch.setenv("PATH", str(tmp_path))
    lay(tmp_path, sys__class__hwmon__hwmon0__in0_lcrit_alarm="1\n", sys__class__hwmon__hwmon0__name="other\n")
    lay(tmp_path, sys__class__hwmon__hwmon3__in0_lcrit_alarm=alarm, sys__class__hwmon__hwmon3__name="rpi_volt\n")
    assert look_at_health(tmp_path).throttled == flags


def health(*flags: str) -> Health:
    return Health(None, None, None, list(flags), None)


def test_a_run_was_throttled_when_it_is_now_or_was_since_the_first_look():
    assert was_throttled(NOTHING, NOTHING) == []
    assert was_throttled(health(), health()) == []
    assert was_throttled(health("throttled since start"), health("throttled since start")) == []
    assert was_throttled(health(), health("throttled since start")) == ["throttled"]
    assert was_throttled(health(), health("under-voltage", "under-voltage since start")) == ["under-voltage"]
    assert was_throttled(health("frequency capped"), health()) == ["frequency capped"]


def test_a_folder_is_on_the_disk_mounted_deepest(tmp_path):
    inner = tmp_path / "mnt" / "card" / "state"
    inner.mkdir(parents=True)
    mounts = (
        f"/dev/root / ext4 rw 0 0\n/dev/sda1 {tmp_path / 'mnt'} vfat rw 0 0\n/dev/sdb1 {tmp_path / 'mnt/ca'} xfs 0\n"
    )
    lay(tmp_path, proc__mounts=mounts)
    assert disk_of(inner, tmp_path) == "vfat on /dev/sda1"
    assert disk_of(tmp_path, tmp_path) == "ext4 on /dev/root"
    assert disk_of(tmp_path, tmp_path / "nowhere") is None

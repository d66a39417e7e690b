"""Describe the machine and its health: from /proc, /sys and the firmware of the Raspberry Pi."""

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec

from edge_oneshot_device.bundle.runtime_kinds import RUNTIME_KINDS

_PACKAGES: Final = (
    "edge-oneshot-device",
    "numpy",
    "pillow",
    *(kind.distribution for kind in RUNTIME_KINDS.values()),
)
# vcgencmd get_throttled: bits 0 to 3 for now, bits 16 to 19 for any time since the start
_FLAGS: Final = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_BEFORE: Final = " since start"


class Machine(msgspec.Struct, frozen=True):
    """What does not change during a run.

    Attributes:
        board: Name of the machine, from the device tree, else from DMI, else the name of the processor.
        processor: Name of the processor; None where it has none, as on Arm.
        architecture, system: As `platform` names them.
        cores: Number of cores that this process may use.
        memory_mb: Memory in MiB.
        versions: Versions of Python and of the packages that are installed.
    """

    board: str
    processor: str | None
    architecture: str
    system: str
    cores: int
    memory_mb: int
    versions: dict[str, str]


class Health(msgspec.Struct, frozen=True):
    """What changes during a run; None where the machine does not tell.

    Attributes:
        governor: Frequency governor of the first core.
        mhz: Frequency of the first core now.
        temperature_c: Temperature of the hottest sensor in degrees Celsius.
        throttled: What the firmware throttles now or has throttled since the start; empty if nothing.
        load: Load average of the last minute.
    """

    governor: str | None
    mhz: float | None
    temperature_c: float | None
    throttled: list[str] | None
    load: float | None


def look_at_machine(root: Path = Path("/")) -> Machine:
    """This machine; `root` is the folder that holds proc and sys."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return Machine(
        board=board(root),
        processor=_processor(root),
        architecture=platform.machine(),
        system=platform.platform(),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        versions=versions,
    )


def board(root: Path = Path("/")) -> str:
    """The name of the machine: from the device tree (Raspberry Pi), from DMI (PC), else the name of the processor."""
    dmi = (_read(root / f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
    named = _read(root / "proc/device-tree/model") or " ".join(filter(None, dmi))
    return named or _processor(root) or platform.machine()


def look_at_health(root: Path = Path("/")) -> Health:
    """The health of the machine now; `root` is the folder that holds proc and sys."""
    frequency = root / "sys/devices/system/cpu/cpu0/cpufreq"
    mhz = _number(frequency / "scaling_cur_freq")
    sensors = [*root.glob("sys/class/thermal/thermal_zone*/temp"), *root.glob("sys/class/hwmon/hwmon*/temp*_input")]
    load = _read(root / "proc/loadavg").split()
    degrees = [found for found in map(_number, sensors) if found is not None]
    return Health(
        governor=_read(frequency / "scaling_governor") or None,
        mhz=None if mhz is None else mhz / 1000,
        temperature_c=max(degrees) / 1000 if degrees else None,
        throttled=_throttled(root),
        load=float(load[0]) if load else None,
    )


def was_throttled(before: Health, after: Health) -> list[str]:
    """What the firmware throttled between two readings.

    Args:
        before: The first reading.
        after: The second reading.

    Returns:
        Names of the limits; empty if nothing was throttled.
    """
    during = [*(before.throttled or []), *(after.throttled or [])]
    now = [flag for flag in during if not flag.endswith(_BEFORE)]
    new = [flag.removesuffix(_BEFORE) for flag in after.throttled or [] if flag not in (before.throttled or [])]
    return sorted({*now, *new})


def disk_of(folder: Path, root: Path = Path("/")) -> str | None:
    """The file system and device of a folder, such as ``ext4 on /dev/mmcblk0p2``.

    Args:
        folder: The folder.
        root: The folder that holds proc.

    Returns:
        The text; None where it is unknown.
    """
    mounts = [line.split() for line in _read(root / "proc/mounts").splitlines()]
    whole = folder.resolve()
    on = [mount for mount in mounts if whole.is_relative_to(mount[1])]
    return max(((len(mount[1]), f"{mount[2]} on {mount[0]}") for mount in on), default=(0, None))[1]


def _throttled(root: Path) -> list[str] | None:
    program = shutil.which("vcgencmd")
    if program is not None:
        try:
            command = [program, "get_throttled"]
            told = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout  # noqa: S603
        except (OSError, subprocess.TimeoutExpired):
            told = ""
        if found := re.search(r"throttled=0x([0-9a-fA-F]+)", told):
            bits = int(found[1], 16)
            flags = [(bit, text) for bit, text in _FLAGS.items()]
            flags += [(bit + 16, text + _BEFORE) for bit, text in _FLAGS.items()]
            return [text for bit, text in flags if bits >> bit & 1]
    # without the firmware's program, its driver still reports under-voltage
    for sensor in root.glob("sys/class/hwmon/hwmon*/in0_lcrit_alarm"):
        if _read(sensor.with_name("name")) == "rpi_volt":
            return ["under-voltage"] if _read(sensor) == "1" else []
    return None


def _processor(root: Path) -> str | None:
    found = re.search(r"^model name\s*: (.+)$", _read(root / "proc/cpuinfo"), re.MULTILINE)
    return found and found[1].strip()


def _number(path: Path) -> float | None:
    text = _read(path)
    return float(text) if re.fullmatch(r"-?\d+", text) else None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip("\0 \t\n")
    except OSError:
        return ""

"""Check what the machine provides for the door: runtimes, an Edge TPU, a clock. Say how to get what is missing."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

import msgspec

from edge_oneshot_device.bundle.runtime_kinds import RUNTIME_KINDS
from edge_oneshot_device.encoding.edgetpu import LIBRARY, host_runtime
from edge_oneshot_device.extras import INSTALL

_USB: Final = (("1a6e", "089a"), ("18d1", "9302"))  # before and after its firmware is loaded
_PCI: Final = ("0x1ac1", "0x089a")
_BUILDS: Final = "https://github.com/feranick/libedgetpu/releases"
_AUDIO: Final = {
    "soundfile": "FLAC and WAV that is not plain PCM",
    "soxr": "other sample rates",
    "sounddevice": "a microphone",
}
_IMPORT: Final = "import importlib, sys; importlib.import_module(sys.argv[1])"
_LOAD: Final = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.edgetpu_version.restype = ctypes.c_char_p
name = sys.argv[1].partition(".")[0]
print(next(line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if name in line))
print(library.edgetpu_version().decode())
"""


class Finding(msgspec.Struct, frozen=True):
    """The result of one check.

    Attributes:
        what: What was checked: ``bundle``, ``settings``, ``key``, ``gallery``, ``audit``, ``threshold``, ``state``,
            ``clock``, ``zone``, ``disk``, ``runtime``, ``edgetpu``, ``temperature`` or ``supply``; ``audio`` with a
            bundle of recordings; and of a door's configuration ``packages``, ``camera``, ``microphone``, ``gpio``,
            ``keypad``, ``secret`` or ``broker``.
        level: ``ok``, ``note`` (something optional is absent), ``warning`` (act soon) or ``fault`` (the door does not
            work).
        text: One line: what was found, and how to fix it.
        reason: The stable code of a fault.
    """

    what: str
    level: Literal["ok", "note", "warning", "fault"]
    text: str
    reason: str | None = None


def find_runtimes() -> Iterator[Finding]:
    """Each runtime: its version, whether it loads, and how to install it."""
    for name, kind in RUNTIME_KINDS.items():
        try:
            found = version(kind.distribution)
        except PackageNotFoundError:
            if name == "tflite-runtime" and sys.version_info >= (3, 12):
                text = f"{name} is not installed; it exists only for Python up to 3.11"
            else:
                text = f"{name} is not installed; to install it, run: {kind.install}"
            yield Finding("runtime", "note", text)
            continue
        numpy = version("numpy")
        if name == "tflite-runtime" and int(numpy.partition(".")[0]) >= 2:
            text = (
                f'{name} {found} was built for numpy 1 and does not run with numpy {numpy}; run: pip install "numpy<2"'
            )
            yield Finding("runtime", "warning", text)
            continue
        fault = _run(_IMPORT, kind.module)[1]
        if fault:
            yield Finding("runtime", "warning", f"{name} {found} does not load ({fault}); run: {kind.install}")
        else:
            yield Finding("runtime", "ok", f"{name} {found} loads, with numpy {numpy}")


def find_audio() -> Iterator[Finding]:
    """What recordings need beside plain WAV at the model's sample rate, and the microphone; each may be absent."""
    for name, purpose in _AUDIO.items():
        fault = _run(_IMPORT, name)[1]
        if fault:
            text = f"{name}, for {purpose}, does not load ({fault}); to install it, run: {INSTALL['audio']}"
            yield Finding("audio", "note", text)
        else:
            yield Finding("audio", "ok", f"{name} {version(name)} loads, for {purpose}")


def find_edgetpu(root: Path = Path("/")) -> Iterator[Finding]:
    """Edge TPUs on USB and PCIe, libedgetpu, and whether it was built for the runtime that is installed.

    Args:
        root: The folder that holds dev, sys and var.
    """
    devices = [*_usb(root), *_pci(root)]
    yield from devices
    told, fault = _run(_LOAD, LIBRARY)
    if fault:
        if devices:
            text = f"{LIBRARY} does not load ({fault}); install the build for {_host()} from {_BUILDS}"
            yield Finding("edgetpu", "warning", text)
        else:
            yield Finding(
                "edgetpu", "note", f"no Coral on USB or PCIe, and no {LIBRARY}, which is needed only with a Coral"
            )
        return
    path, build = told.splitlines()[:2]
    level, text = fits(_package(root), *_host().split())
    yield Finding("edgetpu", level, f"{path}, {build}: {text}")
    if not devices:
        yield Finding(
            "edgetpu", "note", "no Coral on USB or PCIe: plug it in, or check whether lsusb or lspci shows it"
        )


def fits(package: str | None, host: str, host_version: str) -> tuple[Literal["ok", "warning"], str]:
    """Whether a libedgetpu was built for a runtime, as far as the name of its package tells.

    The package from Google's repository was built for TensorFlow 2.5. It is reported to crash with tflite-runtime 2.12
    and later. Community builds name their version of TensorFlow; the build for 2.13 is reported to work with
    tflite-runtime 2.13 to 2.15 (google-coral/edgetpu #812). There are no reports about LiteRT 2.

    Args:
        package: Version of the Debian package; None where the library came from elsewhere.
        host: ``litert`` or ``tflite-runtime``.
        host_version: Version of that runtime.

    Returns:
        A level and a text.
    """
    here = f"{host} {host_version}"
    if package is None:
        return "ok", f"not from a Debian package; whether it works with {here} shows when it is used"
    built = re.search(r"tf(\d+)\.(\d+)", package)
    if built is None:
        if host == "tflite-runtime" and tuple(map(int, re.findall(r"\d+", host_version)[:2])) < (2, 12):
            return "ok", f"package {package}, built for TensorFlow 2.5, works with {here}"
        text = f"package {package}, built for TensorFlow 2.5, is reported to crash with {here}; install from {_BUILDS}"
        return "warning", text
    text = f"package {package}, built for TensorFlow {built[1]}.{built[2]}"
    return "ok", f"{text}; whether it works with {here} shows when it is used"


def find_clock(
    now: datetime,
    last: datetime | None,
    created: str,
    root: Path = Path("/"),
    *,
    synchronized: bool | None = None,
) -> Finding:
    """Whether the clock can be right, because hours of access and the audit trail depend on it.

    Args:
        now: The time of the clock.
        last: When the last row of the audit trail was written.
        created: When the bundle was made, as the manifest says.
        root: The folder that holds run and dev.
        synchronized: Whether the kernel says that another clock keeps this one right; None: it does not say.

    Returns:
        The finding.
    """
    said = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    before = f"{last:%Y-%m-%dT%H:%M:%SZ}" if last is not None and last > now else created
    if said < before:
        what = "the audit trail was last written" if before != created else "the bundle was made"
        text = f"{said} is before {what} ({before}): run timedatectl set-ntp true, or timedatectl set-time"
        return Finding("clock", "warning", text)
    daemon = root / "run/systemd/timesync"
    if synchronized is False or (daemon.is_dir() and not (daemon / "synchronized").exists()):
        return Finding("clock", "warning", f"{said}, not synchronized with the network: run timedatectl")
    keeps = "" if any(root.glob("dev/rtc*")) else "; there is no battery to keep it running while the power is off"
    return Finding("clock", "ok", f"{said}{keeps}")


def _usb(root: Path) -> Iterator[Finding]:
    for device in sorted(root.glob("sys/bus/usb/devices/*")):
        numbers = tuple(_read(device / name) for name in ("idVendor", "idProduct"))
        if numbers not in _USB:
            continue
        bus, number = (int(_read(device / name) or 0) for name in ("busnum", "devnum"))
        yield _accessible(root / f"dev/bus/usb/{bus:03}/{number:03}", f"a Coral on USB ({':'.join(numbers)})")


def _pci(root: Path) -> Iterator[Finding]:
    cards = [
        card for card in root.glob("sys/bus/pci/devices/*") if (_read(card / "vendor"), _read(card / "device")) == _PCI
    ]
    nodes = sorted(root.glob("dev/apex_*"))
    for node in nodes:
        yield _accessible(node, "a Coral on PCIe")
    if cards and not nodes:
        yield Finding("edgetpu", "warning", "a Coral on PCIe without /dev/apex_0: install its driver, gasket-dkms")


def _accessible(node: Path, what: str) -> Finding:
    if os.access(node, os.R_OK | os.W_OK):
        return Finding("edgetpu", "ok", f"{what}, {node}")
    text = f"{what}, but this user may not open {node}: add a udev rule (docs/guides/deploy.md), then plug it in again"
    return Finding("edgetpu", "warning", text)


def _host() -> str:
    host = host_runtime()
    try:
        return f"{host} {version(RUNTIME_KINDS[host].distribution)}"
    except PackageNotFoundError:
        return f"{host} 0"


def _package(root: Path) -> str | None:
    """The version of the installed package of libedgetpu."""
    status = _read(root / "var/lib/dpkg/status")
    for entry in status.split("\n\n"):
        if re.match(r"Package: libedgetpu1-(std|max)$", entry, re.MULTILINE) and " installed\n" in entry:
            found = re.search(r"^Version: (\S+)", entry, re.MULTILINE)
            return found and found[1]
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _run(code: str, argument: str) -> tuple[str, str]:
    """What Python code prints in a process of its own, because a library may crash it; and why it failed."""
    try:
        command = [sys.executable, "-P", "-c", code, argument]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", type(error).__name__
    if done.returncode < 0:
        return "", signal.Signals(-done.returncode).name
    last = done.stderr.strip().splitlines()[-1:] or ["unknown"]
    return done.stdout, "".join(last) if done.returncode else ""

"""Collect the wheels that a device needs: our own, packed from the package installed here, and its dependencies."""

import base64
import hashlib
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

import edge_oneshot_device
from edge_oneshot.errors import DeployError

PACKAGE: Final = "edge_oneshot_device"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_GLIBC: Final = range(17, 37)  # up to that of Debian 12, which is Raspberry Pi OS bookworm


def pack_device(folder: Path) -> Path:
    """Pack the installed device package as a wheel; the same package gives the same bytes.

    Args:
        folder: The folder to write the wheel to.

    Returns:
        The path of the wheel.
    """
    found = distribution("edge-oneshot-device")
    info = f"{PACKAGE}-{found.version}.dist-info"
    source = Path(edge_oneshot_device.__path__[0])
    files = {
        f"{PACKAGE}/{path.relative_to(source).as_posix()}": path.read_bytes()
        for path in sorted(source.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    # without the long description, which only a package index shows
    headers = (found.read_text("METADATA") or "").partition("\n\n")[0]
    files[f"{info}/METADATA"] = f"{headers}\n".encode()
    files[f"{info}/entry_points.txt"] = (found.read_text("entry_points.txt") or "").encode()
    files |= _licences(found, info)
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: edge-oneshot\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = folder / f"{PACKAGE}-{found.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", compresslevel=9) as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name, _EPOCH)
            member.external_attr = 0o644 << 16
            archive.writestr(member, content, zipfile.ZIP_DEFLATED, 9)
    return wheel


def download_dependencies(wheel: Path, folder: Path, machine: str, python: str, extras: tuple[str, ...] = ()) -> None:
    """Download the dependencies of a wheel for a device, with the configuration of pip on this machine.

    Args:
        wheel: The wheel of the device package.
        folder: The folder to download to; it holds all wheels afterwards.
        machine: What ``uname -m`` prints on the device: aarch64 or x86_64.
        python: The version of Python on the device, such as ``3.11``.
        extras: Extras of the device package, such as ``onnx``.

    Raises:
        DeployError: Reason ``no_wheels``: the package index cannot be reached, or has no wheel for such a device.
    """
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in reversed(_GLIBC)] + [f"manylinux2014_{machine}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--dest", str(folder), "--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    command += [*(f"--platform={platform}" for platform in platforms), str(wheel)]
    command += needed(distribution("edge-oneshot-device").requires or [], machine, python, extras)
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (pip itself)
    if done.returncode:
        told = pip_error(done.stderr) or f"pip ended with {done.returncode}"
        raise DeployError(f"no wheels for {machine} and Python {python}: {told}", reason="no_wheels")


def needed(requires: list[str], machine: str, python: str, extras: tuple[str, ...]) -> list[str]:
    """What a distribution requires on a device; pip itself reads markers as if they were of this machine.

    Args:
        requires: Its requirements, with markers.
        machine: As of `download_dependencies`.
        python: The same.
        extras: The same.
    """
    device = {"platform_machine": machine, "python_version": python, "sys_platform": "linux"}
    wanted = []
    for requirement in map(Requirement, requires):
        marker, requirement.marker = requirement.marker, None
        if marker is None or any(marker.evaluate({**device, "extra": extra}) for extra in ("", *extras)):
            wanted.append(str(requirement))
    return wanted


def pip_error(stderr: str) -> str:
    """The error of pip that names a package, else its last line; empty if it printed nothing."""
    lines = stderr.splitlines()
    errors = [line for line in lines if line.startswith("ERROR") and "ResolutionImpossible" not in line]
    return (errors or lines or [""])[-1].removeprefix("ERROR: ")


def requirements(folder: Path) -> str:
    """A requirements file that pins every wheel in a folder by its hash, so that nothing else can be installed."""
    lines = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version, *_ = parse_wheel_filename(wheel.name)
        lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    return "".join(lines)


def _licences(found: Distribution, info: str) -> dict[str, bytes]:
    """The licence files that the distribution names."""
    names = found.metadata.get_all("License-File") or []
    texts = {name: found.read_text(f"licenses/{name}") or found.read_text(name) for name in names}
    return {f"{info}/licenses/{name}": text.encode() for name, text in texts.items() if text is not None}


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()

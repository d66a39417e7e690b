"""Build the archive for a device: wheels, bundle, installer, service, and the digests of all of them."""

import gzip
import hashlib
import io
import re
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from edge_oneshot.completion import SHELLS, complete_device
from edge_oneshot.deploying.door import DoorNeeds, door_needs
from edge_oneshot.deploying.options import DeployOptions
from edge_oneshot.deploying.wheels import download_dependencies, pack_device, requirements
from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.signature import load_public_key
from edge_oneshot_device.encoding.options import choose_variant
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.installation.options import DoorOptions
from edge_oneshot_device.outputs import check_output

_EXECUTABLE: Final = ("as-door.sh", "install.sh")
_WORD: Final = re.compile(r"[A-Za-z0-9._+-]+")  # what install.sh accepts from release.env

_README = """Edge One-Shot, release {release}: {bundle}, for {machine} with Python {python}.

    tar xf ARCHIVE && cd {folder} && sudo ./install.sh

installs it without a network: the program in /opt/edge-oneshot/current, the bundle and the gallery in
/var/lib/edge-oneshot, the gallery's key in /etc/edge-oneshot.key (keep a copy of it elsewhere), and a service that
checks the door at boot; with door.toml also the service edge-oneshot-door, which runs the door. If the door does not
work afterwards, install.sh restores what was in use before.

    sudo edge-oneshot-device doctor
    sudo edge-oneshot-device enrol ada /tmp/ada.jpg

The command knows the state folder and the key, and runs as the user edge-oneshot. That user must be able to read the
files you name, and to write where you want a file. Always use this command: this program must never run as root in
/var/lib/edge-oneshot. ./install.sh --help prints the options.
"""


@dataclass(frozen=True, slots=True)
class DeviceArchive:
    """An archive for a device.

    Attributes:
        file: The path of the archive.
        release: The beginning of a digest of the content, which names it.
        bundle: Name of the bundle.
        machine, python: The device that it is for.
        wheels: File names of the wheels in it.
        bytes: Size of the archive.
        sha256: Digest of the archive, to be compared on the device.
    """

    file: str
    release: str
    bundle: str
    machine: str
    python: str
    wheels: list[str]
    bytes: int
    sha256: str


def build_archive(
    bundle: Path,
    out: Path,
    options: DeployOptions | None = None,
    *,
    say: Callable[[str], None] = lambda step: None,  # noqa: ARG005 (says nothing)
) -> DeviceArchive:
    """Build the archive that installs a bundle, and the program that opens it, on a device.

    Args:
        bundle: The bundle file.
        out: The archive, a .tar.gz.
        options: The device, and how it is to use the bundle; None takes the defaults.
        say: Called with each step before it begins.

    Returns:
        What was written.

    Raises:
        InputError: The bundle, the variant, the key, the door's configuration or `out` is refused.
        IntegrityError: The bundle is damaged, or not signed by the key that the device is to trust.
        DeployError: Reason ``no_wheels``.
        MachineError: The disk does not allow it.
    """
    options = DeployOptions() if options is None else options
    inputs = [bundle, options.trust, options.door]
    check_output(out, inputs=inputs)
    words = _init_options(options)
    key = None if options.trust is None else load_public_key(options.trust)
    opened = Bundle.open(bundle, trust=key)
    door = None if options.door is None else door_needs(options.door, opened.manifest)
    members = _wheels(opened, options, () if door is None else door.extras, say)
    members["bundle.oneshot"] = opened.content
    if options.trust is not None:
        members["trusted.pub"] = options.trust.read_bytes()
    if door is not None:
        members["door.toml"] = door.content
    for one in files("edge_oneshot.deploying").joinpath("files").iterdir():
        members[one.name] = one.read_bytes()
    for shell in SHELLS:
        members[f"completion.{shell}"] = complete_device(shell).encode()
    say("writing the archive")
    release = _release(members, words)
    name, machine, python = opened.manifest.name, options.machine, options.python
    facts = {"RELEASE": release, "MACHINE": machine, "PYTHON_VERSION": python, "INIT_OPTIONS": " ".join(words)}
    facts |= _door_facts(door)
    members["release.env"] = "".join(f"{name}={value}\n" for name, value in facts.items()).encode()
    top = f"edge-oneshot-{release}"
    text = _README.format(release=release, bundle=name, machine=machine, python=python, folder=top)
    members["README.txt"] = text.encode()
    sums = (f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(members.items()))
    members["SHA256SUMS"] = "".join(sums).encode()
    content = _tar(top, members)
    write_atomically(out, content, check=lambda: check_output(out, inputs=inputs))
    wheels = [Path(member).name for member in members if member.startswith("wheels/")]
    digest = hashlib.sha256(content).hexdigest()
    return DeviceArchive(str(out), release, name, machine, python, wheels, len(content), digest)


def _door_facts(door: DoorNeeds | None) -> dict[str, str]:
    """What install.sh has to know of the door's loop."""
    if door is None:
        return {}
    packages = {"SYSTEM_PACKAGES": "yes"} if door.system_packages else {}
    return {"DOOR_GROUPS": " ".join(door.groups)} | packages


def _wheels(
    bundle: Bundle, options: DeployOptions, extras: tuple[str, ...], say: Callable[[str], None]
) -> dict[str, bytes]:
    """The wheels of the device's program and of what it needs, and the requirements file that pins them."""
    variant = choose_variant(bundle.manifest, options.variant)
    onnx = any(one.name == variant and one.format == "onnx" for one in bundle.manifest.variants)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        say("packing the device's program")
        wheel = pack_device(folder)
        say(f"downloading what it needs on {options.machine} with Python {options.python}")
        wanted = (*extras, *(("onnx",) if onnx else ()))
        download_dependencies(wheel, folder, options.machine, options.python, wanted)
        members = {f"wheels/{one.name}": one.read_bytes() for one in sorted(folder.glob("*.whl"))}
        members["requirements.txt"] = requirements(folder).encode()
    return members


def _init_options(options: DeployOptions) -> list[str]:
    """The options of `init` on the device, as install.sh gives them to it."""
    words: list[str] = []
    for name in DoorOptions.__struct_fields__:
        value, flag = getattr(options, name), f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif name == "trust" and value is not None:
            words += [flag, "trusted.pub"]
        elif value not in (None, False):
            words += [flag, f"{value:g}" if isinstance(value, float) else value]
    for word in words:
        if not _WORD.fullmatch(word):
            message = f"{word!r} cannot be a value of an option of init: use letters, digits, dots and dashes"
            raise InputError(message, reason="wrong_use")
    return words


def _release(members: dict[str, bytes], words: list[str]) -> str:
    whole = hashlib.sha256("\0".join(words).encode())
    for name, content in sorted(members.items()):
        whole.update(f"\0{name}\0".encode() + hashlib.sha256(content).digest())
    return whole.hexdigest()[:12]


def _tar(top: str, members: dict[str, bytes]) -> bytes:
    """A gzipped tar file; the same members give the same bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in sorted(members.items()):
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(content)
            member.mode = 0o755 if name in _EXECUTABLE else 0o644
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)

"""The archive for a device: wheels, bundle, installer, service, and the digests of all of them."""

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
from edge_oneshot.deploying.wheels import download_dependencies, pack_device, requirements
from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.signature import load_public_key
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.installation.installer import choose_variant
from edge_oneshot_device.outputs import check_output

MACHINES: Final = ("aarch64", "x86_64")
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
TODAY: Final = "3.13"
"""The Python of today's Raspberry Pi OS, which is Debian 13 (trixie)."""
_EXECUTABLE: Final = ("as-door.sh", "install.sh")
_WORD: Final = re.compile(r"[A-Za-z0-9._+-]+")  # what install.sh takes from release.env

_README = """Edge One-Shot, release {release}: {bundle}, for {machine} with Python {python}.

    tar xf ARCHIVE && cd {folder} && sudo ./install.sh

installs it without a network: the program in /opt/edge-oneshot/current, the bundle and the gallery in
/var/lib/edge-oneshot, the gallery's key in /etc/edge-oneshot.key (keep a copy of it elsewhere), and a service that
looks at boot whether all is well. When the door is not fit after it, install.sh puts back what was in use before.

    sudo edge-oneshot-device doctor
    sudo edge-oneshot-device enrol ada /tmp/ada.jpg

The command knows state and key, and acts as the user edge-oneshot: that user has to be able to read the files you
name, and to write where you want a file. Keep to this command: nothing of this program is to run as root in
/var/lib/edge-oneshot. ./install.sh --help prints the options.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """How a device is to use a bundle; None leaves it to `edge-oneshot-device init`.

    Attributes:
        variant, runtime, allow_cpu, target_far: See `init`.
        trust: The file of the public key that the device is to trust.
        re_enrol, empty: What becomes of people enrolled with another encoder, see `init`.
    """

    variant: str | None = None
    runtime: str | None = None
    allow_cpu: bool = False
    target_far: float | None = None
    trust: Path | None = None
    re_enrol: bool = False
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive for a device.

    Attributes:
        file: Where it is.
        release: Names its content: the beginning of a digest.
        bundle: Name of the bundle.
        machine, python: What it is for.
        wheels: File names of the wheels in it.
        bytes: Its size.
        sha256: Of the file, to be compared on the device.
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
    *,
    machine: str = "aarch64",
    python: str = TODAY,
    options: Options | None = None,
    say: Callable[[str], None] = lambda step: None,  # noqa: ARG005 (nothing is said)
) -> Archive:
    """Build the archive that installs a bundle, and the program that opens it, on a device.

    Args:
        bundle: The bundle file.
        out: The archive, a .tar.gz.
        machine: As ``uname -m`` says on the device: one of `MACHINES`.
        python: The device's Python: one of `PYTHONS`.
        options: How the device is to use the bundle.
        say: Is told what is being done.

    Raises:
        InputError: The bundle, the variant, the key or `out` is refused.
        IntegrityError: The bundle is not intact, or not signed by the key that the device is to trust.
        DeployError: Reason ``no_wheels``.
        MachineError: The disk does not allow it.
    """
    options = options or Options()
    check_output(out, inputs=[bundle, options.trust])
    words = _init_options(options)
    key = None if options.trust is None else load_public_key(options.trust)
    opened = Bundle.open(bundle, trust=key)
    variant = choose_variant(opened.manifest, options.variant)
    onnx = next(one.format for one in opened.manifest.variants if one.name == variant) == "onnx"
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        say("packing the device's program")
        wheel = pack_device(folder)
        say(f"downloading what it needs on {machine} with Python {python}")
        download_dependencies(wheel, folder, machine, python, ("onnx",) if onnx else ())
        members = {f"wheels/{one.name}": one.read_bytes() for one in sorted(folder.glob("*.whl"))}
        members["requirements.txt"] = requirements(folder).encode()
    members["bundle.oneshot"] = opened.content
    if options.trust is not None:
        members["trusted.pub"] = options.trust.read_bytes()
    for one in files("edge_oneshot.deploying").joinpath("files").iterdir():
        members[one.name] = one.read_bytes()
    for shell in SHELLS:
        members[f"completion.{shell}"] = complete_device(shell).encode()
    say("writing the archive")
    release = _release(members, words)
    top = f"edge-oneshot-{release}"
    facts = {"RELEASE": release, "MACHINE": machine, "PYTHON_VERSION": python, "INIT_OPTIONS": " ".join(words)}
    members["release.env"] = "".join(f"{name}={value}\n" for name, value in facts.items()).encode()
    text = _README.format(release=release, bundle=opened.manifest.name, machine=machine, python=python, folder=top)
    members["README.txt"] = text.encode()
    sums = (f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(members.items()))
    members["SHA256SUMS"] = "".join(sums).encode()
    content = _tar(top, members)
    write_atomically(out, content, check=lambda: check_output(out, inputs=[bundle, options.trust]))
    return Archive(
        file=str(out),
        release=release,
        bundle=opened.manifest.name,
        machine=machine,
        python=python,
        wheels=[Path(name).name for name in members if name.startswith("wheels/")],
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _init_options(options: Options) -> list[str]:
    words: list[str] = []
    if options.variant is not None:
        words += ["--variant", options.variant]
    if options.runtime is not None:
        words += ["--runtime", options.runtime]
    if options.allow_cpu:
        words.append("--allow-cpu")
    if options.target_far is not None:
        words += ["--target-far", f"{options.target_far:g}"]
    if options.trust is not None:
        words += ["--trust", "trusted.pub"]
    words += ["--re-enrol"] if options.re_enrol else []
    words += ["--empty"] if options.empty else []
    for word in words:
        if not _WORD.fullmatch(word):
            message = f"{word!r} is no value of an option of init: letters, digits, dots and dashes are taken"
            raise InputError(message, reason="wrong_use")
    return words


def _release(members: dict[str, bytes], words: list[str]) -> str:
    whole = hashlib.sha256("\0".join(words).encode())
    for name, content in sorted(members.items()):
        whole.update(f"\0{name}\0".encode() + hashlib.sha256(content).digest())
    return whole.hexdigest()[:12]


def _tar(top: str, members: dict[str, bytes]) -> bytes:
    """The same members give the same bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in sorted(members.items()):
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(content)
            member.mode = 0o755 if name in _EXECUTABLE else 0o644
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)

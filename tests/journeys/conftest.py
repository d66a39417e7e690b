"""What the journeys share."""

import os
import platform
import subprocess
import sys
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from edge_oneshot.deploying.archive import DeviceArchive, build_archive
from edge_oneshot.deploying.options import DeployOptions
from edge_oneshot.errors import DeployError


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle, made by the workstation's program."""
    folder = tmp_path_factory.mktemp("workstation")
    program = str(Path(sys.executable).parent / "edge-oneshot")
    train = ["train", "glyphs", "--out", str(folder / "run"), "--images", "3200", "--size", "24", "--batch", "32"]
    for words in (train, ["export", str(folder / "run"), "--out", str(folder / "door.oneshot")]):
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder / "door.oneshot"


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> DeviceArchive:
    """The archive of that bundle for this machine and Python."""
    out = tmp_path_factory.mktemp("archive") / "door.tar.gz"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        return build_archive(bundle, out, DeployOptions(machine=platform.machine(), python=python, target_far=0.2))
    except DeployError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(f"the package registry is not to be reached: {error}")


@pytest.fixture(scope="session")
def unpack() -> Callable[[DeviceArchive, Path], Path]:
    """Unpacks an archive in a folder; returns where the installer is."""

    def unpack(archive: DeviceArchive, folder: Path) -> Path:
        with tarfile.open(archive.file) as packed:
            packed.extractall(folder, filter="data")
        return folder / f"edge-oneshot-{archive.release}"

    return unpack


@pytest.fixture(scope="session")
def alter() -> Callable[[Path, str, str, str], None]:
    """Alters a file of an unpacked archive, and the list of digests with it."""

    def alter(unpacked: Path, name: str, old: str, new: str) -> None:
        text = (unpacked / name).read_text()
        assert old in text
        (unpacked / name).write_text(text.replace(old, new))
        files = sorted(path for path in unpacked.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
        lines = [f"{sha256(path.read_bytes()).hexdigest()}  {path.relative_to(unpacked)}\n" for path in files]
        (unpacked / "SHA256SUMS").write_text("".join(lines))

    return alter

"""Folders on the disk: images of made-up people, photos of Olivetti's people, and what a folder holds."""

import stat
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.real_data import OLIVETTI


def draw_people_folders(folder: Path, people: Iterable[str], images: Sequence[str]) -> None:
    """Make a folder for each person, with a noisy image of their pattern under each of these file names."""
    rng = np.random.default_rng(7)
    for person in people:
        pattern = np.kron(rng.integers(0, 256, (8, 8)), np.ones((4, 4)))
        (folder / person).mkdir(parents=True)
        for name in images:
            pixels = np.clip(pattern + rng.normal(0, 20, pattern.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / person / name)


def unpack_olivetti(folder: Path, people: Iterable[int], takes: int) -> None:
    """Put the first photos of these people into folders person03 and so on; the test is skipped without the data."""
    if not OLIVETTI.exists():
        pytest.skip(f"no {OLIVETTI}; set EDGE_ONESHOT_TEST_DATA")
    with zipfile.ZipFile(OLIVETTI) as archive:
        for person in people:
            (folder / f"person{person:02}").mkdir()
            for take in range(1, takes + 1):
                content = archive.read(f"olivetti/person{person:02}/{take:02}.png")
                (folder / f"person{person:02}" / f"{take}.png").write_bytes(content)


def content_of(folder: Path) -> dict[str, object]:
    """What lies below a folder: mode, inode and, of a regular file, the content, by path."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        regular = stat.S_ISREG(status.st_mode)
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_ino, path.read_bytes() if regular else None)
    return found

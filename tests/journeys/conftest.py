"""What the journeys share."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle, made by the workstation's program."""
    folder = tmp_path_factory.mktemp("workstation")
    program = str(Path(sys.executable).parent / "edge-oneshot")
    train = ["train", "glyphs", "--out", str(folder / "run"), "--images", "3200", "--size", "24", "--batch", "32"]
    for words in (train, ["export", str(folder / "run"), "--out", str(folder / "door.oneshot")]):
        done = subprocess.run([program, *words], capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
    return folder / "door.oneshot"

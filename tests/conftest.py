"""What the tests of several floors share."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def omniglot_dir() -> Path:
    """The folder of the real Omniglot archives; the test is skipped where there is none."""
    folder = Path(os.environ.get("EDGE_ONESHOT_DATA") or SHARED / "omniglot")
    if not (folder / "images_background.zip").exists():
        pytest.skip(f"no Omniglot in {folder}; say EDGE_ONESHOT_DATA=DIR")
    return folder

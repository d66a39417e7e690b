"""What the tests of several floors share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_oneshot_device.gallery.keys import ENVIRONMENT, create_key

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def omniglot_dir() -> Path:
    """The folder of the real Omniglot archives; the test is skipped where there is none."""
    folder = Path(os.environ.get("EDGE_ONESHOT_DATA") or SHARED / "omniglot")
    if not (folder / "images_background.zip").exists():
        pytest.skip(f"no Omniglot in {folder}; say EDGE_ONESHOT_DATA=DIR")
    return folder


@pytest.fixture(scope="session", autouse=True)
def gallery_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the key of the galleries is, for this process and those that it starts: not the user's own."""
    path = tmp_path_factory.mktemp("key") / "key"
    former = os.environ.get(ENVIRONMENT)
    create_key(path)
    os.environ[ENVIRONMENT] = str(path)
    yield path
    if former is None:
        del os.environ[ENVIRONMENT]
    else:
        os.environ[ENVIRONMENT] = former

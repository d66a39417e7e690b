"""A small gallery and its key."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key
from tests.samples.galleries import MINE, SIZE, Machine


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A new key."""
    create_key(tmp_path / "key")
    return tmp_path / "key"


@pytest.fixture
def key(key_file: Path) -> KeySource:
    """Where the gallery finds it."""
    return KeySource(key_file)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the gallery is."""
    return tmp_path / "gallery.db"


@pytest.fixture
def gallery(path: Path, key: KeySource, machine: Machine) -> Iterator[Gallery]:
    """An empty gallery."""
    with Gallery.open(path, MINE, SIZE, key, machine.clock(), create=True) as opened:
        yield opened

"""A recognizer on a gallery whose clock the test turns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_oneshot_device import Bundle, Encoder, Recognizer
from edge_oneshot_device.gallery.gallery import Gallery
from tests.samples.galleries import Machine
from tests.samples.tiny import MakeBundle


@pytest.fixture
def opener(make_bundle: MakeBundle, tmp_path: Path, machine: Machine) -> Callable[..., Recognizer]:
    """Opens a recognizer on one gallery, at a FAR of 5 %, with the clock of `machine`."""
    bundle = Bundle.open(make_bundle())
    encoder = Encoder.open(bundle, "int8")

    def open_it(**keywords: Any) -> Recognizer:
        path = tmp_path / "gallery.db"
        gallery = Gallery.open(path, encoder.fingerprint, encoder.embedding.size, clock=machine.clock(), create=True)
        return Recognizer(encoder, bundle.manifest, gallery, 0.05, **keywords)

    return open_it

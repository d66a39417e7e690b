"""1:N, from the image file to the decision, with the gallery on the disk."""

from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_device.recognition.recognizer import Recognizer
from edge_oneshot_device.state_names import GALLERY


@pytest.mark.benchmark(group="identify")
@pytest.mark.parametrize("people", [10, 1_000, 10_000])
def test_identify(
    benchmark: BenchmarkFixture,
    bundle: Bundle,
    bundle_path: Path,
    variant: str,
    image: bytes,
    tmp_path: Path,
    people: int,
) -> None:
    install(bundle_path, tmp_path, InstallOptions(variant=variant))
    encoder = Encoder.open(bundle, variant)
    size = encoder.embedding.size
    templates = np.random.default_rng(0).standard_normal((people, 1, size)).astype(np.float32)
    templates /= np.linalg.norm(templates, axis=-1, keepdims=True)
    with Gallery.open(tmp_path / GALLERY, encoder.fingerprint, size, create=True) as gallery:
        for number, own in enumerate(templates):
            gallery.enrol(f"person {number}", own)
    with Recognizer.open(tmp_path, limits=None) as recognizer:
        decision = benchmark(recognizer.identify, image)
    benchmark.extra_info.update(variant=variant, runtime=decision.runtime, fingerprint=decision.fingerprint)
    assert decision.runner_up is not None

"""An embedding, from the pixels and from the file, in each variant and runtime."""

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.preprocessing import load_image

MODELS = [
    ("float32", "litert"),
    ("int8", "litert"),
    ("float32", "tflite-runtime"),
    ("int8", "tflite-runtime"),
    ("onnx-float32", "onnxruntime"),
    ("onnx-int8", "onnxruntime"),
]


@pytest.mark.benchmark(group="embed pixels")
@pytest.mark.parametrize(("variant", "runtime"), MODELS)
def test_embed_pixels(
    benchmark: BenchmarkFixture, open_encoder: Callable[[str, str], Encoder], image: bytes, variant: str, runtime: str
) -> None:
    encoder = open_encoder(variant, runtime)
    benchmark.extra_info.update(variant=variant, runtime=encoder.runtime, fingerprint=encoder.fingerprint)
    pixels = load_image(image, encoder.input)
    assert len(benchmark(encoder.embed, pixels)) == encoder.embedding.size


@pytest.mark.benchmark(group="embed an image file")
@pytest.mark.parametrize(("variant", "runtime"), MODELS)
def test_embed_image(
    benchmark: BenchmarkFixture, open_encoder: Callable[[str, str], Encoder], image: bytes, variant: str, runtime: str
) -> None:
    encoder = open_encoder(variant, runtime)
    benchmark.extra_info.update(variant=variant, runtime=encoder.runtime, fingerprint=encoder.fingerprint)
    assert len(benchmark(encoder.embed_image, image)) == encoder.embedding.size

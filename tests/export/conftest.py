"""A small encoder with random weights, and images of made-up identities."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.preprocessing import scale
from edge_oneshot_export.judging.protocols import LabelledImages
from edge_oneshot_export.keras_export import export
from edge_oneshot_export.options import ExportOptions
from edge_oneshot_export.packing.packer import BundleSpec, ExportReport

SIZE = 32

MakePeople = Callable[..., LabelledImages]
MakeEncoder = Callable[..., Any]


@pytest.fixture(scope="session")
def section() -> InputSection:
    return input_section("grey")


@pytest.fixture(scope="session")
def colour_section() -> InputSection:
    return input_section("rgb")


@pytest.fixture(scope="session")
def make_people() -> MakePeople:
    return made_up_people


@pytest.fixture(scope="session")
def make_encoder(images: NDArray[np.uint8], section: InputSection) -> MakeEncoder:
    """Builds an encoder; keywords as in `build_encoder`."""
    return lambda **options: build_encoder(images, section, **options)


@pytest.fixture(scope="session")
def images() -> NDArray[np.uint8]:
    return made_up_people(40, 6, seed=1).images


@pytest.fixture(scope="session")
def representative(images: NDArray[np.uint8], section: InputSection) -> NDArray[np.float32]:
    return scale(images, section)


@pytest.fixture(scope="session")
def people() -> LabelledImages:
    return made_up_people(24, 6, seed=2)


@pytest.fixture(scope="session")
def model(make_encoder: MakeEncoder) -> Any:
    return make_encoder()


@pytest.fixture(scope="session")
def exported(
    model: Any,
    images: NDArray[np.uint8],
    people: LabelledImages,
    section: InputSection,
    tmp_path_factory: pytest.TempPathFactory,
) -> ExportReport:
    """All variants of `model`."""
    path = tmp_path_factory.mktemp("exported") / "Front Door.oneshot"
    options = ExportOptions(variants="all")
    return export(model, path, BundleSpec(section), images=images, calibration=people, options=options)


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "door.oneshot"


def input_section(colour: str) -> InputSection:
    channels = 1 if colour == "grey" else 3
    return InputSection(
        height=SIZE,
        width=SIZE,
        colour=colour,
        resize="bilinear",
        mean=(127.5,) * channels,
        scale=(127.5,) * channels,
        value_range=(-1.0, 1.0),
        min_contrast=16,
    )


def made_up_people(identities: int, count: int, seed: int, channels: int = 1) -> LabelledImages:
    """Smooth random patterns, one an identity; its images are shifted and noisy."""
    rng = np.random.default_rng(seed)
    wide = (SIZE + 4, SIZE + 4)
    pixels = np.empty((identities, count, SIZE, SIZE, channels), dtype=np.uint8)
    for identity in range(identities):
        coarse = rng.integers(0, 256, (channels, 6, 6), dtype=np.uint8)
        smooth = [np.asarray(Image.fromarray(plane).resize(wide, Image.Resampling.BICUBIC)) for plane in coarse]
        for image in range(count):
            row, column = rng.integers(0, 5, 2)
            cut = np.stack(smooth, axis=-1)[row : row + SIZE, column : column + SIZE]
            pixels[identity, image] = np.clip(np.rint(cut + rng.normal(0, 8, cut.shape)), 0, 255)
    labels = np.repeat(np.arange(identities), count)
    names = tuple(f"person {identity}" for identity in range(identities))
    return LabelledImages(pixels.reshape(-1, SIZE, SIZE, channels), labels, names)


def build_encoder(
    images: NDArray[np.uint8], section: InputSection, *, normalised: bool = False, outlier: bool = False
) -> Any:
    """A convolutional encoder with random weights, its embeddings centred so that they differ.

    With `outlier`, a channel that is a thousand times larger than the others and that nothing
    reads takes the int8 range away from them.
    """
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    image = keras.Input(section.shape)
    convolved = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)
    depthwise = layers.SeparableConv2D(24, 3, strides=2, padding="same")
    dense = layers.Dense(32)
    x = layers.ReLU()(layers.BatchNormalization()(convolved(image)))
    x = layers.ReLU()(depthwise(x))
    x = layers.ReLU()(layers.Conv2D(32, 3, strides=2, padding="same")(x))
    x = dense(layers.Flatten()(x))
    model = keras.Model(image, x)
    if outlier:
        kernel, unread = convolved.kernel.numpy(), depthwise.pointwise_kernel.numpy()
        kernel[..., 0] = 1000.0
        unread[..., 0, :] = 0.0
        convolved.kernel.assign(kernel)
        depthwise.pointwise_kernel.assign(unread)
    dense.bias.assign(-np.asarray(model(scale(images, section))).mean(axis=0))
    return keras.Model(image, layers.UnitNormalization()(x)) if normalised else model

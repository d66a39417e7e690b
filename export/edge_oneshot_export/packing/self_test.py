"""The self-test of a bundle: golden images, and what each variant answers to them."""

import io
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.bundle.manifest import InputSection, SelfTest
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.preprocessing import has_content, load_golden
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.variants import VARIANTS

GOLDEN_IMAGES: Final = 3
TOLERANCE_LSB: Final = (2, 16)
"""The smallest and the largest tolerance of an integer output, in steps. Kernels with and without XNNPACK differ by
more in a deeper net (measured: 1 to 2 steps for four layers, 5 for seven), so the tolerance is measured for each model.
"""


def golden_images(images: NDArray[np.uint8], section: InputSection) -> dict[str, bytes]:
    """Up to three of the images as PNG members, enlarged to twice the size so that the device has to resize them.

    Images of faces and spectrograms are not enlarged.

    Args:
        images: uint8 (n, h, w, c), preprocessed.
        section: The encoder's input; images with less contrast than its `min_contrast` are not chosen.

    Returns:
        Path to content of each member.

    Raises:
        ModelError: No image has enough contrast.
    """
    full = np.flatnonzero(has_content(images, section))
    if not len(full):
        message = f"no calibration image has a contrast of at least {section.min_contrast}: give images with content"
        raise ModelError(message, reason="no_content")
    chosen = full[np.unique(np.linspace(0, len(full) - 1, GOLDEN_IMAGES).astype(int))]
    enlarged = 1 if section.face or section.audio else 2
    return {f"golden/{number}.png": _png(images[index], enlarged) for number, index in enumerate(chosen)}


def self_test(goldens: Mapping[str, bytes], encoders: Iterable[tuple[Encoder, Encoder | None]]) -> SelfTest:
    """What each variant answers to the golden images when it runs as on the device.

    Args:
        goldens: Path to content of the golden images.
        encoders: Every variant, and beside it the same file on other kernels that a device may have, or None. The
            tolerance of an integer output is one step more than the difference between both.

    Returns:
        The self-test, for the manifest.
    """
    outputs, tolerance = {}, {}
    for encoder, other in encoders:
        raw = _raw(encoder, goldens)
        # the shortest decimal of a float32 is exact; that of the same number as a float64 is twice as long
        outputs[encoder.variant] = tuple(tuple(float(str(value)) for value in vector) for vector in raw)
        if raw.dtype != np.float32:
            apart = 0 if other is None else int(np.abs(raw.astype(int) - _raw(other, goldens).astype(int)).max())
            tolerance[encoder.variant] = float(np.clip(1 + apart, *TOLERANCE_LSB))
        else:
            relative = VARIANTS[encoder.variant].tolerance * float(np.abs(raw).max())
            tolerance[encoder.variant] = float(f"{relative:.3g}")
    return SelfTest(images=tuple(goldens), outputs=outputs, tolerance=tolerance)


def _raw(encoder: Encoder, goldens: Mapping[str, bytes]) -> NDArray[Any]:
    return np.stack([encoder.raw(load_golden(content, encoder.input)) for content in goldens.values()])


def _png(pixels: NDArray[np.uint8], enlarged: int) -> bytes:
    pixels = pixels.repeat(enlarged, axis=0).repeat(enlarged, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()

"""Any image as an upright one of 8 bits, and the largest size that is read."""

import struct
import zlib
from typing import Final

import numpy as np
from PIL import Image

from edge_oneshot_device.errors import InputError

MAX_PIXELS: Final = 50_000_000
MAX_SIDE: Final = 16_384

# What Pillow's decoders raise on malformed content.
DECODER_FAULTS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, struct.error, zlib.error,
)  # fmt: skip

_EXIF_ORIENTATION: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def to_eight_bit(image: Image.Image, mode: str, name: str) -> Image.Image:
    """Convert an image to 8 bits and turn it upright.

    Args:
        image: Image of any mode.
        mode: L or RGB.
        name: What an error calls the image.

    Raises:
        InputError: ``not_an_image``: its pixel type has no defined 8-bit meaning.
    """
    upright = _UPRIGHT.get(_orientation(image))
    eight_bit = _to_eight_bit(image, mode, name)
    return eight_bit if upright is None else eight_bit.transpose(upright)


def check_size(name: str, size: tuple[int, int], max_pixels: int = MAX_PIXELS) -> None:
    """Refuse an image of too many pixels, or with a side longer than `MAX_SIDE`.

    Args:
        name: What the error calls the image.
        size: Width and height.
        max_pixels: Most pixels that it may have.

    Raises:
        InputError: ``image_too_large``.
    """
    width, height = size
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise too_large_error(name, f"{width} x {height}", max_pixels)


def too_large_error(name: str, size: str, max_pixels: int) -> InputError:
    """The error for an image that is too large.

    Args:
        name: What the error calls the image.
        size: Its size, in words.
        max_pixels: Most pixels that are read.
    """
    limit = f"at most {MAX_SIDE} a side and {max_pixels:,} in all are read"
    return InputError(f"{name} is too large: {size} pixels; {limit}", reason="image_too_large")


def _to_eight_bit(image: Image.Image, mode: str, name: str) -> Image.Image:
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        image = _from_sixteen_bit(image, name)
    elif image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    elif image.mode in ("P", "CMYK", "YCbCr", "HSV", "RGBX"):
        image = image.convert("RGB")
    elif image.mode not in ("1", "L", "RGB"):
        raise _unsupported(name, f"type {image.mode}")
    return image.convert(mode)


def _from_sixteen_bit(image: Image.Image, name: str) -> Image.Image:
    # Pillow's own conversion to L clips everything above 255 to white.
    values = np.asarray(image).astype(np.int32)
    if values.min() < 0 or values.max() > 65_535:
        raise _unsupported(name, "32 bits")
    return Image.fromarray(((values * 255 + 32_767) // 65_535).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except DECODER_FAULTS:
        return 1  # damaged metadata is no reason to refuse an image


def _unsupported(name: str, pixels: str) -> InputError:
    message = f"{name} has pixels of {pixels}; save it with 8 or 16 bits, grey or RGB"
    return InputError(message, reason="not_an_image")

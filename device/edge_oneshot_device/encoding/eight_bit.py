"""Any image as an upright one of 8 bits, whole or in strips, and the largest size that is read."""

import struct
import zlib
from typing import Final

import numpy as np
from PIL import Image

from edge_oneshot_device.errors import InputError

MAX_PIXELS: Final = 50_000_000
MAX_SIDE: Final = 16_384

_STRIP_PIXELS: Final = 1 << 20

# What Pillow's decoders and that of HEIC raise on malformed content.
DECODER_FAULTS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, RuntimeError, struct.error,
    zlib.error,
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
_SIDEWAYS: Final = (5, 6, 7, 8)  # rows become columns
_FROM_THE_END: Final = (3, 4, 6, 7)  # the first row becomes the last row or column


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


def upright_photo(image: Image.Image, min_side: int, name: str) -> tuple[tuple[int, int], bytearray]:
    """`to_eight_bit` in RGB, averaged down as `edge_oneshot_device.encoding.preprocessing.reduced` does, in strips.

    A large photo fits into the memory of the worker process once as Pillow has it and once as bytes, and not twice.

    Args:
        image: Decoded image of any mode.
        min_side: Pixels that the shorter side keeps when the image is averaged down.
        name: What an error calls the image.

    Returns:
        Height and width, and the pixels, three bytes each, row by row.

    Raises:
        InputError: As `to_eight_bit`.
    """
    orientation, factor = _orientation(image), max(1, min(image.size) // min_side)
    width, height = (-(-side // factor) for side in image.size)
    shape = (width, height) if orientation in _SIDEWAYS else (height, width)
    pixels = bytearray(3 * width * height)
    upright = np.frombuffer(pixels, np.uint8).reshape(*shape, 3)
    step = max(1, _STRIP_PIXELS // (factor * image.width))
    for top in range(0, height, step):
        bottom = min(top + step, height)
        strip = image.crop((0, factor * top, image.width, min(factor * bottom, image.height)))
        strip = _to_eight_bit(strip, "RGB", name)
        strip = strip.reduce(factor) if factor > 1 else strip
        strip = strip.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else strip
        span = slice(height - bottom, height - top) if orientation in _FROM_THE_END else slice(top, bottom)
        upright[(slice(None), span) if orientation in _SIDEWAYS else span] = np.asarray(strip)
    return shape, pixels


def check_size(name: str, size: tuple[int, int], max_pixels: int = MAX_PIXELS, of: str = "") -> None:
    """Refuse an image of too many pixels, or with a side longer than `MAX_SIDE`.

    Args:
        name: What the error calls the image.
        size: Width and height.
        max_pixels: Most pixels that it may have.
        of: What has this limit, as `` of WebP``; empty for any image.

    Raises:
        InputError: ``image_too_large``.
    """
    width, height = size
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise too_large_error(name, f"{width} x {height}", max_pixels, of)


def too_large_error(name: str, size: str, max_pixels: int, of: str = "") -> InputError:
    """The error for an image that is too large.

    Args:
        name: What the error calls the image.
        size: Its size, in words.
        max_pixels: Most pixels that are read.
        of: What has this limit, see `check_size`.
    """
    limit = f"at most {MAX_SIDE} a side and {max_pixels:,} in all are read{of}"
    advice = "save it smaller, or as a JPEG" if of else "save it smaller"
    return InputError(f"{name} is too large: {size} pixels; {limit}; {advice}", reason="image_too_large")


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

"""From the content of an image file to a picture of 8 bits, upright.

What it costs is bounded by the process that it runs in, see `edge_oneshot_device.encoding.bounded`: the checks here are
for what a header says, so that an error names it.
"""

import contextlib
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Final

import numpy as np

# TIFF's is for EXIF: the process that decodes imports nothing, since a lock of an import is none of its own.
from PIL import (
    BmpImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,
)

from edge_oneshot_device.errors import InputError

FORMATS: Final = "PNG, JPEG, WebP or BMP"
MAX_PIXELS: Final = 50_000_000
MAX_SIDE: Final = 16_384

# What cameras write. Every other decoder is attack surface. No plugin is searched for, and of a JPEG with several
# pictures the first is read.
_OPENERS: Final[dict[bytes, type[ImageFile.ImageFile]]] = {
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
}
_MAX_WEBP_PIXELS: Final = 20_000_000  # libwebp and Pillow hold each four to five times, 17 bytes of it
_MAX_SEGMENTS: Final = 2000  # of a JPEG before its pixels; metadata of 64 MiB need 1,000
_MAX_SCANS: Final = 100  # of a JPEG; progressive ones have about ten
# What Pillow's decoders raise on malformed content.
_DECODER_FAULTS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, struct.error, zlib.error,
)  # fmt: skip
_EXIF_ORIENTATION: Final = 0x0112
_SCAN_OR_END: Final = re.compile(rb"\xff[\xda\xd9]")
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@contextlib.contextmanager
def decoded(content: bytes, name: str, mode: str, least: int, most: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """A picture, decoded; a JPEG at a part of its size, as long as its shorter side keeps `least` pixels.

    Args:
        content: Of the image file. Of an animation, and of a JPEG with several pictures, the first counts.
        name: What an error calls it.
        mode: L or RGB, in which a JPEG is decoded at once, where it can be.
        least: Pixels.
        most: Pixels in all.

    Raises:
        InputError: ``not_an_image``, ``image_too_large`` (seen before anything is decoded), ``image_too_costly`` or
            ``image_truncated``.
        MemoryError: There is not enough of it.
    """
    with warnings.catch_warnings():
        # Pillow warns of odd metadata and of sizes; the size limits here are stricter.
        warnings.simplefilter("ignore")
        try:
            image = _open(content, name)
            with image:
                _check_size(name, image.size, most)
                _decode(image, name, mode, least)
                yield image
        except Image.DecompressionBombError as error:
            raise _too_large(name, "far too many", most) from error


def coloured(image: Image.Image, mode: str, name: str) -> Image.Image:
    """As 8-bit `mode` (L or RGB), upright.

    Raises:
        InputError: ``not_an_image``: its pixel type has no defined 8-bit meaning.
    """
    upright = _UPRIGHT.get(_orientation(image))
    eight_bit = _to_eight_bit(image, mode, name)
    return eight_bit if upright is None else eight_bit.transpose(upright)


def _open(content: bytes, name: str) -> ImageFile.ImageFile:
    opener = next((opener for start, opener in _OPENERS.items() if content.startswith(start)), None)
    if opener is JpegImagePlugin.JpegImageFile:
        _check_jpeg(content, name)
    elif opener is WebPImagePlugin.WebPImageFile:
        _check_size(name, _webp_size(content), _MAX_WEBP_PIXELS)  # opening makes its canvas
    try:
        if opener is None:
            raise ValueError("an unknown format")
        return opener(io.BytesIO(content))
    except _DECODER_FAULTS as error:
        message = f"{name} is no {FORMATS} file, or a damaged one; save it as one of them"
        raise InputError(message, reason="not_an_image") from error


def _check_jpeg(content: bytes, name: str) -> None:
    """Refuse what is built to cost: no camera writes that many parts."""
    place, segments, progressive = 2, 0, False
    while content[place : place + 1] == b"\xff" and (kind := content[place + 1 : place + 2]) != b"\xda":
        segments += 1
        progressive |= kind == b"\xc2"
        place += 1 if kind == b"\xff" else 2 + int.from_bytes(content[place + 2 : place + 4])
        if segments > _MAX_SEGMENTS:
            raise _too_costly(name, f"has more than {_MAX_SEGMENTS} segments before its pixels")
    if not progressive:
        return
    for scans, found in enumerate(_SCAN_OR_END.finditer(content, place)):
        if found[0] == b"\xff\xd9":
            return
        if scans == _MAX_SCANS:
            raise _too_costly(name, f"has more than {_MAX_SCANS} scans")


def _webp_size(content: bytes) -> tuple[int, int]:
    """Of the canvas, from the header (RFC 9649); (0, 0) where there is none."""
    kind, data = content[12:16], content[20:30]
    if len(data) == 10 and kind == b"VP8X":
        return int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1
    if len(data) == 10 and kind == b"VP8 ":
        return int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return 0, 0


def _decode(image: Image.Image, name: str, mode: str, least: int) -> None:
    try:
        image.draft(mode, (least, least))
        image.load()
    except _DECODER_FAULTS as error:
        if "memory" in str(error):
            raise MemoryError from error
        message = f"{name} is damaged or cut short ({error}); use an intact copy"
        raise InputError(message, reason="image_truncated") from error


def _to_eight_bit(image: Image.Image, mode: str, name: str) -> Image.Image:
    """Convert any pixel type to 8-bit `mode` (L or RGB)."""
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
    except _DECODER_FAULTS:
        return 1  # damaged metadata is no reason to refuse a picture


def _check_size(name: str, size: tuple[int, int], most: int) -> None:
    width, height = size
    if width * height > most or max(width, height) > MAX_SIDE:
        raise _too_large(name, f"{width} x {height}", most)


def _too_large(name: str, size: str, most: int) -> InputError:
    limit = f"at most {MAX_SIDE} a side and {most:,} in all are read"
    return InputError(f"{name} is too large: {size} pixels; {limit}", reason="image_too_large")


def _too_costly(name: str, what: str) -> InputError:
    return InputError(f"{name} {what}: save it smaller, as a plain JPEG or PNG", reason="image_too_costly")


def _unsupported(name: str, pixels: str) -> InputError:
    message = f"{name} has pixels of {pixels}; save it with 8 or 16 bits, grey or RGB"
    return InputError(message, reason="not_an_image")

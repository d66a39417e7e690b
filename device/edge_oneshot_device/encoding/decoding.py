"""From the content of an image file to its pixels: what the worker process does.

The limits of that process (`edge_oneshot_device.encoding.bounded`) hold for any file. The checks here refuse what
already a file's header shows, so that the error says what is wrong.
"""

import contextlib
import io
import os
import re
import time
import warnings
from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

# TIFF's plugin reads EXIF. All plugins are loaded with this module, before the first worker is forked.
from PIL import (
    BmpImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,
)

from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.eight_bit import DECODER_FAULTS, check_size, to_eight_bit, too_large_error
from edge_oneshot_device.encoding.preprocessing import DETAIL, DecodeRequest, DecodeResult, prepare, reduced
from edge_oneshot_device.errors import InputError

FORMATS: Final = "PNG, JPEG, WebP or BMP"

# The formats that cameras write: every other decoder is attack surface. Pillow searches for no plugin, and of a JPEG
# with several pictures the first is read.
_OPENERS: Final[dict[bytes, type[ImageFile.ImageFile]]] = {
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
}
_MAX_WEBP_PIXELS: Final = 20_000_000  # libwebp and Pillow together hold 17 bytes for each
_MAX_SEGMENTS: Final = 2000  # of a JPEG before its pixels; 64 MiB of metadata take 1,000
_MAX_SCANS: Final = 100  # of a JPEG; progressive ones have about ten
_SCAN_OR_END: Final = re.compile(rb"\xff[\xda\xd9]")


def work(message: bytes, content: bytes) -> tuple[bytes, bytes]:
    """Decode an image file, as `edge_oneshot_device.encoding.bounded` calls it.

    Args:
        message: A `DecodeRequest`.
        content: The image file.

    Returns:
        A `DecodeResult` and the pixels' bytes.
    """
    request = msgspec.msgpack.decode(message, type=DecodeRequest)
    try:
        if request.section is None:
            result, pixels = _decode_photo(request, content)
        else:
            result, pixels = _decode_input(request, request.section, content)
    except InputError as error:
        result, pixels = DecodeResult(reason=error.reason, error=os.fsencode(str(error))), b""
    return msgspec.msgpack.encode(result), pixels


def decode_image(content: bytes, section: InputSection) -> NDArray[np.uint8]:
    """`load_image` in this process, for a file that is known to be harmless: a quarter faster for small images.

    Args:
        content: The image file.
        section: The bundle's input section.

    Raises:
        InputError: As `load_image`.
        MemoryError: There is not enough of it.
    """
    _, pixels = _decode_input(DecodeRequest(b"the image"), section, content)
    return np.frombuffer(bytearray(pixels), np.uint8).reshape(section.shape)


def _decode_input(request: DecodeRequest, section: InputSection, content: bytes) -> tuple[DecodeResult, bytes]:
    name, mode = os.fsdecode(request.name), "L" if section.colour == "grey" else "RGB"
    min_side = DETAIL * max(section.height, section.width)
    with _decoded(content, name, mode, min_side, request.max_pixels) as image:
        decoded_at = time.perf_counter_ns()
        return DecodeResult(section.shape, decoded_at), prepare(image, section, name).tobytes()


def _decode_photo(request: DecodeRequest, content: bytes) -> tuple[DecodeResult, bytes]:
    name = os.fsdecode(request.name)
    with _decoded(content, name, "RGB", request.min_side, request.max_pixels) as image:
        decoded_at = time.perf_counter_ns()
        photo = reduced(to_eight_bit(image, "RGB", name), request.min_side)
        return DecodeResult((photo.height, photo.width), decoded_at), photo.tobytes()


@contextlib.contextmanager
def _decoded(content: bytes, name: str, mode: str, min_side: int, max_pixels: int) -> Iterator[Image.Image]:
    """A decoded image; a JPEG is decoded at a part of its size, as long as its shorter side keeps `min_side` pixels.

    Args:
        content: The image file. Of an animation, and of a JPEG with several pictures, the first one is decoded.
        name: What an error calls it.
        mode: L or RGB: a JPEG is decoded into this mode where possible.
        min_side: In pixels.
        max_pixels: Most pixels that the file may have.

    Raises:
        InputError: ``not_an_image``, ``image_too_large`` (seen before anything is decoded), ``image_too_costly`` or
            ``image_truncated``.
        MemoryError: There is not enough of it.
    """
    with warnings.catch_warnings():
        # Pillow warns of odd metadata and of large sizes; the limits here are stricter.
        warnings.simplefilter("ignore")
        try:
            image = _open(content, name)
            with image:
                check_size(name, image.size, max_pixels)
                _decode(image, name, mode, min_side)
                yield image
        except Image.DecompressionBombError as error:
            raise too_large_error(name, "far too many", max_pixels) from error


def _open(content: bytes, name: str) -> ImageFile.ImageFile:
    opener = next((opener for start, opener in _OPENERS.items() if content.startswith(start)), None)
    if opener is JpegImagePlugin.JpegImageFile:
        _check_jpeg(content, name)
    elif opener is WebPImagePlugin.WebPImageFile:
        check_size(name, _webp_size(content), _MAX_WEBP_PIXELS)  # opening it allocates its canvas
    try:
        if opener is None:
            raise ValueError("an unknown format")
        return opener(io.BytesIO(content))
    except DECODER_FAULTS as error:
        message = f"{name} is no {FORMATS} file, or a damaged one; save it as one of them"
        raise InputError(message, reason="not_an_image") from error


def _check_jpeg(content: bytes, name: str) -> None:
    """Refuse a JPEG that is built to be slow: no camera writes that many segments or scans."""
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
    """Width and height of the canvas, from the header (RFC 9649); (0, 0) when there is none."""
    kind, data = content[12:16], content[20:30]
    if len(data) == 10 and kind == b"VP8X":
        return int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1
    if len(data) == 10 and kind == b"VP8 ":
        return int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return 0, 0


def _decode(image: Image.Image, name: str, mode: str, min_side: int) -> None:
    try:
        image.draft(mode, (min_side, min_side))
        image.load()
    except DECODER_FAULTS as error:
        if "memory" in str(error):
            raise MemoryError from error
        message = f"{name} is damaged or cut short ({error}); use an intact copy"
        raise InputError(message, reason="image_truncated") from error


def _too_costly(name: str, what: str) -> InputError:
    return InputError(f"{name} {what}: save it smaller, as a plain JPEG or PNG", reason="image_too_costly")

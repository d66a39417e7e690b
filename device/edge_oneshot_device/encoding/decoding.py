"""From the content of an image file to its pixels: what the process that may die does.

Its bounds (`edge_oneshot_device.encoding.bounded`) hold for any file. The checks here are for what a header says, so
that an error names it.
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

# TIFF's is for EXIF. All are loaded with this module, which is before the first worker.
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
_SCAN_OR_END: Final = re.compile(rb"\xff[\xda\xd9]")


def work(message: bytes, content: bytes) -> tuple[bytes, bytes]:
    """An answer for an order, and its pixels; see `edge_oneshot_device.encoding.bounded`."""
    order = msgspec.msgpack.decode(message, type=DecodeRequest)
    try:
        answer, pixels = _photo(order, content) if order.section is None else _input(order, order.section, content)
    except InputError as error:
        answer, pixels = DecodeResult(reason=error.reason, error=os.fsencode(str(error))), b""
    return msgspec.msgpack.encode(answer), pixels


def decode_image(content: bytes, section: InputSection) -> NDArray[np.uint8]:
    """`load_image` of what is known to be harmless, in this process: a quarter faster where images are small.

    Raises:
        InputError: As `load_image`.
        MemoryError: There is not enough of it.
    """
    _, pixels = _input(DecodeRequest(b"the image"), section, content)
    return np.frombuffer(bytearray(pixels), np.uint8).reshape(section.shape)


def _input(order: DecodeRequest, section: InputSection, content: bytes) -> tuple[DecodeResult, bytes]:
    name, mode = os.fsdecode(order.name), "L" if section.colour == "grey" else "RGB"
    with _decoded(content, name, mode, DETAIL * max(section.height, section.width), order.most) as image:
        at = time.perf_counter_ns()
        return DecodeResult(section.shape, at), prepare(image, section, name).tobytes()


def _photo(order: DecodeRequest, content: bytes) -> tuple[DecodeResult, bytes]:
    name = os.fsdecode(order.name)
    with _decoded(content, name, "RGB", order.least, order.most) as image:
        at = time.perf_counter_ns()
        photo = to_eight_bit(image, "RGB", name)
        photo = reduced(photo, order.least)
        return DecodeResult((photo.height, photo.width), at), photo.tobytes()


@contextlib.contextmanager
def _decoded(content: bytes, name: str, mode: str, least: int, most: int) -> Iterator[Image.Image]:
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
                check_size(name, image.size, most)
                _decode(image, name, mode, least)
                yield image
        except Image.DecompressionBombError as error:
            raise too_large_error(name, "far too many", most) from error


def _open(content: bytes, name: str) -> ImageFile.ImageFile:
    opener = next((opener for start, opener in _OPENERS.items() if content.startswith(start)), None)
    if opener is JpegImagePlugin.JpegImageFile:
        _check_jpeg(content, name)
    elif opener is WebPImagePlugin.WebPImageFile:
        check_size(name, _webp_size(content), _MAX_WEBP_PIXELS)  # opening makes its canvas
    try:
        if opener is None:
            raise ValueError("an unknown format")
        return opener(io.BytesIO(content))
    except DECODER_FAULTS as error:
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
    except DECODER_FAULTS as error:
        if "memory" in str(error):
            raise MemoryError from error
        message = f"{name} is damaged or cut short ({error}); use an intact copy"
        raise InputError(message, reason="image_truncated") from error


def _too_costly(name: str, what: str) -> InputError:
    return InputError(f"{name} {what}: save it smaller, as a plain JPEG or PNG", reason="image_too_costly")

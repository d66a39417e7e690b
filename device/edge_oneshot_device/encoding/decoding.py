"""From the content of an image file or a recording to the model's input: what the worker process does.

The limits of that process (`edge_oneshot_device.encoding.bounded`) hold for any file. The checks here refuse what
already a file's header shows, so that the error says what is wrong.
"""

import contextlib
import io
import math
import os
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

from edge_oneshot_device.audio.sound_file import read_sound
from edge_oneshot_device.audio.spectrogram import speech_pixels
from edge_oneshot_device.audio.speech import require_speech
from edge_oneshot_device.bundle.audio_section import AudioSection
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.eight_bit import DECODER_FAULTS, check_size, too_large_error, upright_photo
from edge_oneshot_device.encoding.heif import MAX_HEIF_PIXELS, Kind, heif_kind, open_heif
from edge_oneshot_device.encoding.jpeg_check import check_jpeg, check_memory
from edge_oneshot_device.encoding.preprocessing import DETAIL, DecodeRequest, DecodeResult, nameless, prepare
from edge_oneshot_device.errors import InputError

FORMATS: Final = "PNG, JPEG, HEIC, AVIF, WebP or BMP"

_JPEG: Final = b"\xff\xd8\xff"

# The formats that cameras write: every other decoder is attack surface. Pillow searches for no plugin, and of a JPEG
# with several pictures the first is read. `edge_oneshot_device.encoding.heif` opens the others.
_OPENERS: Final[dict[bytes, type[ImageFile.ImageFile]]] = {
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    _JPEG: JpegImagePlugin.JpegImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
}
_MAX_WEBP_PIXELS: Final = 20_000_000  # libwebp and Pillow together hold 17 bytes for each
_JPEG_TIMES: Final = 4  # as many pixels as of another file: it is decoded at half its size
_JPEG_FACTORS: Final = (1, 2, 4, 8)


def work(message: bytes, content: bytes) -> tuple[bytes, bytes | bytearray]:
    """Decode an image file or a recording, as `edge_oneshot_device.encoding.bounded` calls it.

    Args:
        message: A `DecodeRequest`.
        content: The file.

    Returns:
        A `DecodeResult` and the pixels' bytes.
    """
    request = msgspec.msgpack.decode(message, type=DecodeRequest)
    pixels: bytes | bytearray
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
        content: The image file or recording.
        section: The bundle's input section.

    Raises:
        InputError: As `load_image`.
        MemoryError: There is not enough of it.
    """
    _, pixels = _decode_input(DecodeRequest(os.fsencode(nameless(section))), section, content)
    return np.frombuffer(bytearray(pixels), np.uint8).reshape(section.shape)


def _decode_input(request: DecodeRequest, section: InputSection, content: bytes) -> tuple[DecodeResult, bytes]:
    name, mode = os.fsdecode(request.name), "L" if section.colour == "grey" else "RGB"
    if section.audio is not None:
        return _decode_recording(content, section, section.audio, name)
    min_side = DETAIL * max(section.height, section.width)
    with _decoded(content, name, mode, min_side, request.max_pixels) as image:
        decoded_at = time.perf_counter_ns()
        return DecodeResult(section.shape, decoded_at), prepare(image, section, name).tobytes()


def _decode_recording(
    content: bytes, section: InputSection, audio: AudioSection, name: str
) -> tuple[DecodeResult, bytes]:
    samples = read_sound(content, audio.sample_rate, name)
    decoded_at = time.perf_counter_ns()
    require_speech(samples, audio, name)
    return DecodeResult(section.shape, decoded_at), speech_pixels(samples, section).tobytes()


def _decode_photo(request: DecodeRequest, content: bytes) -> tuple[DecodeResult, bytearray]:
    name = os.fsdecode(request.name)
    with _decoded(content, name, "RGB", request.min_side, request.max_pixels) as image:
        decoded_at = time.perf_counter_ns()
        shape, pixels = upright_photo(image, request.min_side, name)
        return DecodeResult(shape, decoded_at), pixels


@contextlib.contextmanager
def _decoded(content: bytes, name: str, mode: str, min_side: int, max_pixels: int) -> Iterator[Image.Image]:
    """A decoded image; a JPEG is decoded at a part of its size, as long as its shorter side keeps `min_side` pixels.

    Args:
        content: The image file. Of an animation, and of a JPEG with several pictures, the first one is decoded.
        name: What an error calls it.
        mode: L or RGB: a JPEG is decoded into this mode where possible.
        min_side: In pixels. A JPEG with more than `max_pixels` may keep fewer.
        max_pixels: Most pixels that are decoded. A JPEG may have four times as many.

    Raises:
        InputError: ``not_an_image``, ``decoder_missing``, ``image_too_large`` (seen before anything is decoded),
            ``image_too_costly`` or ``image_truncated``.
        MemoryError: There is not enough of it.
    """
    with warnings.catch_warnings():
        # Pillow warns of odd metadata and of large sizes; the limits here are stricter.
        warnings.simplefilter("ignore")
        kept, kind = 0, heif_kind(content)
        if content.startswith(_JPEG):
            kept, most, read = check_jpeg(content, name), _JPEG_TIMES * max_pixels, ""
        elif kind is not None:
            most, read = min(max_pixels, MAX_HEIF_PIXELS), f" of {kind}"
        else:
            most, read = max_pixels, ""
        try:
            image = _open(content, kind, name)
            with image:
                check_size(name, image.size, most, read)
                if content.startswith(_JPEG):
                    _reduce(image, mode, min_side, max_pixels)
                    check_memory(name, kept, math.prod(image.size), len(content))
                _decode(image, name)
                check_size(name, image.size, most, read)  # of a HEIC, the header may have said another
                yield image
        except Image.DecompressionBombError as error:
            raise too_large_error(name, "far too many", most, read) from error


def _open(content: bytes, kind: Kind | None, name: str) -> ImageFile.ImageFile:
    opener = next((opener for start, opener in _OPENERS.items() if content.startswith(start)), None)
    if opener is WebPImagePlugin.WebPImageFile:
        # opening it allocates its canvas
        check_size(name, _webp_size(content), _MAX_WEBP_PIXELS, " of WebP")
    try:
        if kind is not None:
            return open_heif(kind, content, name)
        if opener is None:
            raise ValueError("an unknown format")
        return opener(io.BytesIO(content))
    except InputError:
        raise
    except DECODER_FAULTS as error:
        message = f"{name} is no {FORMATS} file, or a damaged one; save it as one of them"
        raise InputError(message, reason="not_an_image") from error


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


def _reduce(image: Image.Image, mode: str, min_side: int, max_pixels: int) -> None:
    """Have a JPEG decoded at the smallest part that leaves its shorter side so long, and within so many pixels."""
    width, height = image.size
    fitting = (one for one in _JPEG_FACTORS if -(-width // one) * -(-height // one) <= max_pixels)
    side = min(min_side, min(image.size) // next(fitting, _JPEG_FACTORS[-1]))
    image.draft(mode, (side, side))


def _decode(image: Image.Image, name: str) -> None:
    try:
        image.load()
    except DECODER_FAULTS as error:
        if "memory" in str(error):
            raise MemoryError from error
        told = " ".join(str(error).split())
        message = f"{name} is damaged or cut short ({told}); use an intact copy"
        raise InputError(message, reason="image_truncated") from error

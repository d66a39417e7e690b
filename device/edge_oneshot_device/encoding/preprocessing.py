"""The one preprocessing, from an image file or a recording to the model's input: the same in training and at the door.

Files are decoded and brought to the model's size in a worker process with limits
(`edge_oneshot_device.encoding.bounded`), because what a file costs cannot be seen before it is decoded. Pixels that the
caller already has are prepared in this process.
"""

import math
import os
import signal
import time
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.audio.sound_file import MAX_SECONDS, SOUND_FORMATS
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.bounded import (
    MEMORY_BYTES,
    NO_MEMORY,
    PROCESSOR_SECONDS,
    BoundedProcess,
    EndedError,
    Work,
)
from edge_oneshot_device.encoding.eight_bit import MAX_PIXELS, to_eight_bit
from edge_oneshot_device.encoding.framing import frame_ink
from edge_oneshot_device.encoding.sources import NAMELESS, ImageSource, Picture, take_picture
from edge_oneshot_device.errors import InputError

DETAIL: Final = 8
"""A JPEG is decoded at a reduced size, as long as its shorter side keeps this many times the model's longer side."""


class DecodeRequest(msgspec.Struct, frozen=True):
    """What to make of an image file or a recording.

    Attributes:
        name: What an error calls the file, encoded as a path.
        section: Prepare it for this input; None: return it as a photo.
        min_side: Pixels that the shorter side of a photo keeps when it is reduced.
        max_pixels: Most pixels that are decoded; a JPEG may have four times as many.
    """

    name: bytes
    section: InputSection | None = None
    min_side: int = 0
    max_pixels: int = MAX_PIXELS


class DecodeResult(msgspec.Struct, frozen=True):
    """What comes back with the pixels, or why there are none.

    Attributes:
        shape: Of the pixels.
        decoded_at: When decoding ended, by `time.perf_counter_ns`.
        reason: Code of the error; empty when there is none.
        error: Message of the error, encoded as a path.
    """

    shape: tuple[int, ...] = ()
    decoded_at: int = 0
    reason: str = ""
    error: bytes = b""


def load_image(source: ImageSource | Picture, section: InputSection, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode an image, or a recording where the section has an audio part, and bring it to the model's input.

    Args:
        source: A recording: a file (WAV or FLAC, see `edge_oneshot_device.audio.sound_file`), whose spectrogram is
            taken. An image: a file (PNG, JPEG, WebP, BMP; HEIC and AVIF where their decoders are installed) or pixels,
            see `edge_oneshot_device.encoding.sources`. The first frame of an animation is used, and the primary picture
            of a HEIC.
        section: The bundle's input section.
        max_pixels: Most pixels that are decoded. A JPEG may have four times as many, because it is decoded at a part of
            its size.

    Returns:
        uint8 array (height, width, channels), see `prepare` and `speech_pixels`.

    Raises:
        InputError: A reason of `take_picture`, ``decoder_missing`` or ``decoder_crashed``. Of an image also
            ``not_an_image``, ``image_too_large`` (seen before anything is decoded), ``image_truncated`` or
            ``image_too_costly``. Of a recording also ``not_a_recording``, ``recording_truncated``,
            ``recording_too_long``, ``recording_too_costly``, ``no_speech``, or ``wrong_type`` (pixels were given).
        MachineError: The file cannot be read, or ``no_decoder``.
    """
    return load_timed(source, section, max_pixels)[0]


def load_timed(
    source: ImageSource | Picture, section: InputSection, max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[np.uint8], int]:
    """`load_image` with the time at which decoding ended and preparing began, by `time.perf_counter_ns`.

    Args:
        source: As of `load_image`.
        section: As of `load_image`.
        max_pixels: As of `load_image`.

    Raises:
        InputError: As `load_image`.
        MachineError: As `load_image`.
    """
    picture = take_picture(source)
    if section.audio is not None and picture.pixels is not None:
        message = f"{picture.name} has pixels, but this bundle takes recordings; give a {SOUND_FORMATS} file"
        raise InputError(message, reason="wrong_type")
    if picture.pixels is not None:
        decoded_at = time.perf_counter_ns()
        return prepare(picture.pixels, section, picture.name), decoded_at
    if picture.name == NAMELESS:
        picture = picture._replace(name=nameless(section))
    request = DecodeRequest(os.fsencode(picture.name), section, max_pixels=max_pixels)
    result, pixels = _decode(picture, request, math.prod(section.shape))
    return np.frombuffer(pixels, np.uint8).reshape(section.shape), result.decoded_at


def load_golden(content: bytes, section: InputSection, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """`load_image` of an image of a bundle's self-test, which for recordings is the picture of a spectrogram.

    Args:
        content: The image file.
        section: The bundle's input section.
        max_pixels: As of `load_image`.

    Raises:
        InputError: As `load_image`.
        MachineError: As `load_image`.
    """
    return load_image(content, msgspec.structs.replace(section, audio=None), max_pixels)


def nameless(section: InputSection) -> str:
    """What an error calls a file that has no name.

    Args:
        section: Says whether the bundle takes images or recordings.
    """
    return f"the {section.kind}"


def load_photo(source: ImageSource | Picture, min_side: int) -> Image.Image:
    """Decode an image as a photo: RGB, turned upright by its EXIF tag, reduced where it is large.

    A photo whose shorter side is at least twice `min_side` is reduced: a JPEG is decoded at a half, a quarter or an
    eighth of its size, which saves most of the time; any other file is averaged down. A JPEG of more than `MAX_PIXELS`
    is always reduced.

    Args:
        source: As of `load_image`.
        min_side: Pixels that the shorter side keeps when the photo is reduced.

    Raises:
        InputError: As `load_image`.
        MachineError: As `load_image`.
    """
    picture = take_picture(source)
    if picture.pixels is not None:
        return reduced(picture.pixels.convert("RGB"), min_side)
    request = DecodeRequest(os.fsencode(picture.name), min_side=min_side)
    result, pixels = _decode(picture, request, 3 * MAX_PIXELS)
    height, width = result.shape
    return Image.frombytes("RGB", (width, height), pixels)


def reduced(photo: Image.Image, min_side: int) -> Image.Image:
    """A photo averaged down by the largest whole factor that leaves its shorter side `min_side` pixels.

    Args:
        photo: Image of mode RGB or L.
        min_side: In pixels.
    """
    factor = min(photo.size) // min_side
    return photo.reduce(factor) if factor > 1 else photo


def start_decoder() -> None:
    """Start the process that decodes; call it before this process reads secrets, which the other must not hold.

    Raises:
        MachineError: ``no_decoder``: the machine allows no further process.
    """
    _decoder.start()


def prepare(image: Image.Image, section: InputSection, name: str = "the image") -> NDArray[np.uint8]:
    """Bring a decoded image to the model's size and colour.

    The image is turned upright by its EXIF tag, laid over white where it is transparent, converted to `section.colour`
    (grey is the luma of ITU-R 601), framed as `section.framing` says, then stretched to height x width with the filter
    `section.resize`, whose support grows with the reduction, so that nothing aliases.

    Args:
        image: Image of any mode.
        section: The bundle's input section.
        name: What an error calls the image.

    Returns:
        uint8 array (height, width, channels), contiguous, owned by the caller.

    Raises:
        InputError: ``not_an_image``: its pixel type has no defined 8-bit meaning.
    """
    picture, box = to_eight_bit(image, "L" if section.colour == "grey" else "RGB", name), None
    if section.framing == "ink":
        picture, box = frame_ink(picture)
    # reducing_gap averages far larger images down first: four times as fast, with the same look
    filter_ = Image.Resampling[section.resize.upper()]
    resized = picture.resize((section.width, section.height), filter_, box, reducing_gap=DETAIL / 2)
    return np.array(resized, dtype=np.uint8).reshape(section.shape)


def has_content(images: NDArray[np.uint8], section: InputSection) -> NDArray[np.bool_]:
    """Which images show something: those with a channel of at least the required contrast.

    Args:
        images: uint8 (n, height, width, channels).
        section: Has the required contrast, `min_contrast`.

    Returns:
        bool (n,).
    """
    return np.asarray(np.ptp(images, axis=(1, 2)).max(axis=1, initial=0) >= section.min_contrast)


def require_content(pixels: NDArray[np.uint8], section: InputSection, name: str = "the image") -> None:
    """Refuse an image that shows nothing.

    Args:
        pixels: uint8 (height, width, channels).
        section: Has the contrast that at least one channel needs, `min_contrast`.
        name: What the error calls the image.

    Raises:
        InputError: ``no_content``.
    """
    contrast = int(np.ptp(pixels, axis=(0, 1)).max())
    if contrast < section.min_contrast:
        raise InputError(
            f"{name} shows nothing: its contrast is {contrast} of 255 levels, {section.min_contrast} are needed;"
            " take another picture",
            reason="no_content",
        )


def scale(pixels: NDArray[np.uint8], section: InputSection) -> NDArray[np.float32]:
    """The model's real-valued input: ``(pixels - mean) / scale`` per channel, in float32.

    Args:
        pixels: uint8 (..., channels).
        section: Has mean and scale.

    Returns:
        float32 array of the same shape, within `section.value_range`.
    """
    mean = np.array(section.mean, dtype=np.float32)
    divisor = np.array(section.scale, dtype=np.float32)
    return (pixels.astype(np.float32) - mean) / divisor


def _decode(picture: Picture, request: DecodeRequest, max_bytes: int) -> tuple[DecodeResult, bytearray]:
    """The worker's result, and its pixels of at most so many bytes."""
    try:
        header, pixels = _decoder.run(msgspec.msgpack.encode(request), picture.content, max_bytes)
    except EndedError as error:
        heard = request.section is not None and request.section.audio is not None
        raise _refusal(picture.name, error.code, heard) from error
    result = msgspec.msgpack.decode(header, type=DecodeResult)
    if result.reason:
        raise InputError(os.fsdecode(result.error), reason=result.reason)
    return result, pixels


def _refusal(name: str, code: int, heard: bool) -> InputError:
    """The error for a file that ended its worker; `heard`: it was taken for a recording."""
    another = "recording" if heard else "picture"
    if code == -signal.SIGPROF:
        limit = f"{PROCESSOR_SECONDS:g} s"
    elif code in (NO_MEMORY, -signal.SIGKILL):  # the worker's own limit, or the machine's
        limit = f"{MEMORY_BYTES >> 20} MiB"
    else:
        cause = signal.Signals(-code).name if code < 0 else f"code {code}"
        message = f"{name} crashes its decoder ({cause}): it is damaged, or made to do so; use another {another}"
        return InputError(message, reason="decoder_crashed")
    if heard:
        message = f"{name} takes more than {limit} to decode: save it as a WAV of 16 bits, {MAX_SECONDS} s at most"
        return InputError(message, reason="recording_too_costly")
    message = f"{name} takes more than {limit} to decode: save it smaller, as a plain JPEG or PNG"
    return InputError(message, reason="image_too_costly")


def _load() -> Work:
    """The function that decodes; imported in the supervisor process alone, so that this one loads no Pillow plugins."""
    from edge_oneshot_device.encoding.decoding import work

    return work


_decoder: Final = BoundedProcess(_load)

"""The one preprocessing, from an image file to pixels to the model's input: the same in training and at the door.

Image files are decoded and resized in a worker process with limits (`edge_oneshot_device.encoding.bounded`), because
what a file costs cannot be seen before it is decoded. Pixels that the caller already has are prepared in this process.
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
from edge_oneshot_device.encoding.sources import ImageSource, Picture, take_picture
from edge_oneshot_device.errors import InputError

DETAIL: Final = 8
"""A JPEG is decoded at a reduced size, as long as its shorter side keeps this many times the model's longer side."""

Box = tuple[float, float, float, float]


class DecodeRequest(msgspec.Struct, frozen=True):
    """What to make of an image file.

    Attributes:
        name: What an error calls the image, encoded as a path.
        section: Prepare the image for this input; None: return it as a photo.
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
    """Decode an image and bring it to the model's size and colour.

    Args:
        source: An image file (PNG, JPEG, WebP, BMP; HEIC and AVIF where their decoders are installed) or pixels, see
            `edge_oneshot_device.encoding.sources`. The first frame of an animation is used, and the primary picture of
            a HEIC.
        section: The bundle's input section.
        max_pixels: Most pixels that are decoded. A JPEG may have four times as many, because it is decoded at a part of
            its size.

    Returns:
        uint8 array (height, width, channels), see `prepare`.

    Raises:
        InputError: A reason of `take_picture`, ``not_an_image``, ``decoder_missing``, ``image_too_large`` (seen before
            anything is decoded), ``image_truncated``, ``image_too_costly`` or ``decoder_crashed``.
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
    if picture.pixels is not None:
        decoded_at = time.perf_counter_ns()
        return prepare(picture.pixels, section, picture.name), decoded_at
    request = DecodeRequest(os.fsencode(picture.name), section, max_pixels=max_pixels)
    result, pixels = _decode(picture, request, math.prod(section.shape))
    return np.frombuffer(pixels, np.uint8).reshape(section.shape), result.decoded_at


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


def frame_ink(image: Image.Image) -> tuple[Image.Image, Box]:
    """Find the square around a drawing, so that its place and size on the paper do not matter.

    Ink is what is darker than the middle between the darkest and the lightest pixel. With the bounding box alone one
    stray stroke would move all of the rest, so the mass of the ink counts as much (moment normalisation, Casey 1970).
    The square's centre lies half-way between the centres of the box and of the mass. Its side is 5/8 of the sum of the
    box's longer side and three times the spread of the mass (root mean square distance from its centre), but at least
    5/8 of the image's longer side, so that a dot stays small, and large enough to hold all ink. Pixels outside the
    image are as light as its lightest pixel. Centre and side are integers in 1/16 of a pixel, the same on every
    machine. When the square would have more than `MAX_PIXELS`, as for a long thin strip, the image is halved first.

    Args:
        image: Image of mode L or RGB.

    Returns:
        The image, padded where the square reaches beyond it, and the square in it (left, top, right, bottom), whose
        edges lie between pixels. An image of a single level comes back as it is, with its own borders.
    """
    grey = np.asarray(image.convert("L"))
    darkest, lightest = int(grey.min()), int(grey.max())
    ink = grey < (darkest + lightest + 1) // 2
    # the narrowest dtype that holds the counts makes this four times as fast as count_nonzero
    counts = np.min_scalar_type(max(ink.shape))
    across, down = (np.add.reduce(ink, axis=axis, dtype=counts) for axis in (0, 1))
    if not across.any():
        return image, (0.0, 0.0, float(image.width), float(image.height))
    left, right, x, square_x = _profile(across)
    top, bottom, y, square_y = _profile(down)
    mass = int(across.sum())
    spread = math.isqrt(mass * (square_x + square_y) - x * x - y * y)  # times the mass
    middles = [4 * (left + right) + 8 * x // mass + 4, 4 * (top + bottom) + 8 * y // mass + 4]
    reach = max(max(middle - 16 * low, 16 * high - middle) for middle, low, high in
                zip(middles, (left, top), (right, bottom), strict=True))  # fmt: skip
    side = max(10 * (max(right - left, bottom - top) * mass + 3 * spread) // mass, 10 * max(image.size), 2 * reach)
    if side * side > MAX_PIXELS << 8:
        return frame_ink(image.reduce(2))
    starts = [middle - side // 2 for middle in middles]
    margins = [-(start >> 4) for start in starts]
    width, height = (((start + side + 15) >> 4) + margin for start, margin in zip(starts, margins, strict=True))
    paper = Image.new(image.mode, (width, height), (lightest,) * len(image.getbands()))
    paper.paste(image, (margins[0], margins[1]))
    near, upper = (start / 16 + margin for start, margin in zip(starts, margins, strict=True))
    return paper, (near, upper, near + side / 16, upper + side / 16)


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


def _profile(counts: NDArray[np.unsignedinteger]) -> tuple[int, int, int, int]:
    """First index with ink, the index behind the last, and sums of the indices and of their squares over all ink."""
    indices = np.arange(len(counts))
    inked = np.flatnonzero(counts)
    return int(inked[0]), int(inked[-1]) + 1, int(counts @ indices), int(counts @ (indices * indices))


def _decode(picture: Picture, request: DecodeRequest, max_bytes: int) -> tuple[DecodeResult, bytearray]:
    """The worker's result, and its pixels of at most so many bytes."""
    try:
        header, pixels = _decoder.run(msgspec.msgpack.encode(request), picture.content, max_bytes)
    except EndedError as error:
        raise _refusal(picture.name, error.code) from error
    result = msgspec.msgpack.decode(header, type=DecodeResult)
    if result.reason:
        raise InputError(os.fsdecode(result.error), reason=result.reason)
    return result, pixels


def _refusal(name: str, code: int) -> InputError:
    if code == -signal.SIGPROF:
        limit = f"{PROCESSOR_SECONDS:g} s"
    elif code in (NO_MEMORY, -signal.SIGKILL):  # the worker's own limit, or the machine's
        limit = f"{MEMORY_BYTES >> 20} MiB"
    else:
        cause = signal.Signals(-code).name if code < 0 else f"code {code}"
        message = f"{name} crashes its decoder ({cause}): it is damaged, or made to do so; use another picture"
        return InputError(message, reason="decoder_crashed")
    message = f"{name} takes more than {limit} to decode: save it smaller, as a plain JPEG or PNG"
    return InputError(message, reason="image_too_costly")


def _load() -> Work:
    """The function that decodes; imported in the supervisor process alone, so that this one loads no Pillow plugins."""
    from edge_oneshot_device.encoding.decoding import work

    return work


_decoder: Final = BoundedProcess(_load)

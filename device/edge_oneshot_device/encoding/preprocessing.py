"""The one preprocessing: image file to pixels to model input, the same in training and at the door.

Files are decoded, and made small, in a process of their own that may die (`edge_oneshot_device.encoding.bounded`): what
a picture costs cannot be seen from outside it. Pixels that the program has already are prepared in its own process.
"""

import math
import os
import signal
import time
from collections.abc import Callable
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
"""Times the model's side that a JPEG keeps."""

Box = tuple[float, float, float, float]


class DecodeRequest(msgspec.Struct, frozen=True):
    """What the content becomes: an input of `section`, or a photo of `least` pixels and more."""

    name: bytes
    section: InputSection | None = None
    least: int = 0
    most: int = MAX_PIXELS


class DecodeResult(msgspec.Struct, frozen=True):
    """Shape of the pixels, and when they were decoded; or why there are none."""

    shape: tuple[int, ...] = ()
    at: int = 0
    reason: str = ""
    error: bytes = b""


def load_image(source: ImageSource | Picture, section: InputSection, most: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode an image and bring it to the model's size and colour.

    Args:
        source: An image file (PNG, JPEG, WebP, BMP) or pixels, see `edge_oneshot_device.encoding.sources`.
            Of an animation the first frame counts.
        section: The bundle's input section.
        most: Pixels that an image file may have.

    Returns:
        uint8 array (height, width, channels), see `prepare`.

    Raises:
        InputError: A reason of `take_picture`, ``not_an_image``, ``image_too_large`` (seen before anything is
            decoded), ``image_truncated``, ``image_too_costly`` or ``decoder_crashed``.
        MachineError: The file cannot be read, or ``no_decoder``.
    """
    return load_timed(source, section, most)[0]


def load_timed(
    source: ImageSource | Picture, section: InputSection, most: int = MAX_PIXELS
) -> tuple[NDArray[np.uint8], int]:
    """`load_image`, and when it was decoded but not yet prepared, by `time.perf_counter_ns`."""
    picture = take_picture(source)
    if picture.pixels is not None:
        at = time.perf_counter_ns()
        return prepare(picture.pixels, section, picture.name), at
    answer, pixels = _ask(picture, lambda name: DecodeRequest(name, section, most=most), math.prod(section.shape))
    return np.frombuffer(pixels, np.uint8).reshape(section.shape), answer.at


def load_photo(source: ImageSource | Picture, least: int) -> Image.Image:
    """Decode an image as a picture of its own size, of mode RGB, turned upright by its EXIF tag.

    A picture whose shorter side is twice `least` or more is made smaller: a JPEG is decoded at a half, a
    quarter or an eighth of its size, which spares most of the time; another is averaged down.

    Args:
        source: As for `load_image`.
        least: Pixels that its shorter side keeps, where it has them.

    Raises:
        InputError: As `load_image`.
        MachineError: As `load_image`.
    """
    picture = take_picture(source)
    if picture.pixels is not None:
        return reduced(picture.pixels.convert("RGB"), least)
    answer, pixels = _ask(picture, lambda name: DecodeRequest(name, least=least), 3 * MAX_PIXELS)
    height, width = answer.shape
    return Image.frombytes("RGB", (width, height), pixels)


def reduced(photo: Image.Image, least: int) -> Image.Image:
    """A picture averaged down by a whole number, as long as its shorter side keeps `least` pixels."""
    factor = min(photo.size) // least
    return photo.reduce(factor) if factor > 1 else photo


def start_decoder() -> None:
    """Start the process that decodes, before this one learns what it should not know.

    Raises:
        MachineError: ``no_decoder``: the machine allows no further process.
    """
    _decoder.start()


def prepare(image: Image.Image, section: InputSection, name: str = "the image") -> NDArray[np.uint8]:
    """Bring a decoded image to the model's size and colour.

    Turned upright by its EXIF tag, laid over white where it is transparent, converted to
    `section.colour` (grey is the luma of ITU-R 601), framed as `section.framing` says,
    then stretched to height x width with the filter `section.resize`, whose support grows with
    the reduction, so that nothing aliases.

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
    # averaged down first where it is far larger, which is four times as fast and looks the same
    filter_ = Image.Resampling[section.resize.upper()]
    resized = picture.resize((section.width, section.height), filter_, box, reducing_gap=DETAIL / 2)
    return np.array(resized, dtype=np.uint8).reshape(section.shape)


def frame_ink(image: Image.Image) -> tuple[Image.Image, Box]:
    """The square about what is drawn: people draw the same character here and there, large and small.

    Ink is what is darker than the middle between the darkest and the lightest pixel. Its bounding box
    alone would let one stray stroke move all of the rest, so its mass counts as much (normalisation by
    moments, Casey 1970). The square's middle lies half-way between those of the box and of the mass;
    its side is 5/8 of the sum of the box's longer side and three times the mass's spread (root mean
    square distance from its middle), but at least 5/8 of the image's longer side, so that a dot stays
    small, and no less than holds all ink. What lies outside the image is as light as its lightest
    pixel. Middle and side are integers of 1/16 of a pixel, the same everywhere. Where the square would be
    of more than `MAX_PIXELS`, as of a long thin strip, the image is halved before.

    Args:
        image: Of mode L or RGB.

    Returns:
        Image with enough paper about it, and in it the square (left, top, right, bottom), whose edges lie
        between pixels; all of the image itself where it is of one level.
    """
    grey = np.asarray(image.convert("L"))
    darkest, lightest = int(grey.min()), int(grey.max())
    ink = grey < (darkest + lightest + 1) // 2
    # in the narrowest type that holds them: four times as fast as count_nonzero
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
    """Which images show something: whether a channel has the contrast `section` asks for.

    Args:
        images: uint8 (n, height, width, channels).
        section: Holds `min_contrast`.

    Returns:
        bool (n,).
    """
    return np.asarray(np.ptp(images, axis=(1, 2)).max(axis=1, initial=0) >= section.min_contrast)


def require_content(pixels: NDArray[np.uint8], section: InputSection, name: str = "the image") -> None:
    """Refuse an image that shows nothing.

    Args:
        pixels: uint8 (height, width, channels).
        section: Its `min_contrast` is asked of at least one channel.
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
        section: Holds mean and scale.

    Returns:
        float32 array of the same shape, within `section.value_range`.
    """
    mean = np.array(section.mean, dtype=np.float32)
    divisor = np.array(section.scale, dtype=np.float32)
    return (pixels.astype(np.float32) - mean) / divisor


def _profile(counts: NDArray[np.unsignedinteger]) -> tuple[int, int, int, int]:
    """First place of ink, the one behind the last, and the sums of places and of their squares over all ink."""
    places = np.arange(len(counts))
    inked = np.flatnonzero(counts)
    return int(inked[0]), int(inked[-1]) + 1, int(counts @ places), int(counts @ (places * places))


def _ask(picture: Picture, order: Callable[[bytes], DecodeRequest], size: int) -> tuple[DecodeResult, bytearray]:
    """The answer of the process that decodes, and its pixels, of at most so many bytes."""
    name, content = picture.name, picture.content
    try:
        told, pixels = _decoder.run(msgspec.msgpack.encode(order(os.fsencode(name))), content, size)
    except EndedError as error:
        raise _refusal(name, error.code) from error
    answer = msgspec.msgpack.decode(told, type=DecodeResult)
    if answer.reason:
        raise InputError(os.fsdecode(answer.error), reason=answer.reason)
    return answer, pixels


def _refusal(name: str, code: int) -> InputError:
    if code == -signal.SIGPROF:
        much = f"{PROCESSOR_SECONDS:g} s"
    elif code in (NO_MEMORY, -signal.SIGKILL):  # its own bound, or the machine's
        much = f"{MEMORY_BYTES >> 20} MiB"
    else:
        how = signal.Signals(-code).name if code < 0 else f"code {code}"
        message = f"{name} ends its decoder by {how}: it is damaged, or made for that; use another picture"
        return InputError(message, reason="decoder_crashed")
    message = f"{name} takes more than {much} to decode: save it smaller, as a plain JPEG or PNG"
    return InputError(message, reason="image_too_costly")


def _load() -> Work:
    """What decodes, loaded in the other process alone: this one is spared Pillow's plugins."""
    from edge_oneshot_device.encoding.decoding import work

    return work


_decoder: Final = BoundedProcess(_load)

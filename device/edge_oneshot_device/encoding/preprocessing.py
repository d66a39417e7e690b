"""The one preprocessing: image file to pixels to model input, the same in training and at the door."""

import contextlib
import io
import math
import os
import struct
import warnings
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.files import read_file

MAX_FILE_BYTES = 256 << 20
MAX_PIXELS = 50_000_000
MAX_SIDE = 16_384

# What cameras and data sets write. Every other decoder is attack surface, and libtiff writes to stderr.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM")
# What Pillow's decoders raise on malformed content.
_DECODER_FAULTS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, struct.error, zlib.error,
)  # fmt: skip
_EXIF_ORIENTATION = 0x0112
_DETAIL = 8  # times the model's side that a JPEG keeps
Box = tuple[float, float, float, float]
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(source: str | os.PathLike[str] | bytes, section: InputSection) -> NDArray[np.uint8]:
    """Decode an image file and bring it to the model's size and colour.

    Args:
        source: Path, or the encoded content itself (PNG, JPEG, WebP, BMP, GIF, PNM).
            Of an animation the first frame counts.
        section: The bundle's input section.

    Returns:
        uint8 array (height, width, channels), see `prepare`.

    Raises:
        InputError: ``not_found``, ``not_a_file``, ``file_too_large``, ``not_an_image``,
            ``image_too_large`` (seen before anything is decoded) or ``image_truncated``.
        MachineError: The file cannot be read.
    """
    with decoded(source, section) as (image, name):
        return prepare(image, section, name)


@contextlib.contextmanager
def decoded(source: str | os.PathLike[str] | bytes, section: InputSection) -> Iterator[tuple[Image.Image, str]]:
    """The image as `load_image` hands it to `prepare`, and what an error calls it; raises the same."""
    with _opened(source) as (image, name):
        _decode(image, name, _mode(section), _DETAIL * max(section.height, section.width))
        yield image, name


def load_photo(source: str | os.PathLike[str] | bytes, least: int) -> Image.Image:
    """Decode an image file as a picture of its own size, of mode RGB, turned upright by its EXIF tag.

    A picture whose shorter side is twice `least` or more is made smaller: a JPEG is decoded at a half, a
    quarter or an eighth of its size, which spares most of the time; another is averaged down.

    Args:
        source: As for `load_image`.
        least: Pixels that its shorter side keeps, where it has them.

    Raises:
        InputError: As `load_image`.
        MachineError: The file cannot be read.
    """
    with _opened(source) as (image, name):
        _decode(image, name, "RGB", least)
        photo = _coloured(image, "RGB", name)
        factor = min(photo.size) // least
        return photo.reduce(factor) if factor > 1 else photo


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
    coloured = _coloured(image, _mode(section), name)
    box = None
    if section.framing == "ink":
        coloured, box = frame_ink(coloured)
    # averaged down first where it is far larger, which is four times as fast and looks the same
    filter_ = Image.Resampling[section.resize.upper()]
    resized = coloured.resize((section.width, section.height), filter_, box, reducing_gap=_DETAIL / 2)
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


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str] | bytes) -> Iterator[tuple[Image.Image, str]]:
    """The image, not yet decoded, and what an error calls it."""
    content = source if isinstance(source, bytes) else read_file(source, MAX_FILE_BYTES)
    name = "the image" if isinstance(source, bytes) else str(source)
    with warnings.catch_warnings():
        # Pillow warns of odd metadata and of sizes; the size limits here are stricter.
        warnings.simplefilter("ignore")
        try:
            with _open(content, name) as image:
                yield image, name
        except Image.DecompressionBombError as error:
            raise _too_large(name, "far too many") from error


def _open(content: bytes, name: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=_FORMATS)
    except _DECODER_FAULTS as error:
        message = f"{name} is no image, or a damaged one; use PNG, JPEG, WebP, BMP, GIF or PNM"
        raise InputError(message, reason="not_an_image") from error


def _decode(image: Image.Image, name: str, mode: str, least: int) -> None:
    """Decode it; a JPEG at once as `mode`, and at a part of its size, as long as its shorter side keeps `least`."""
    width, height = image.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise _too_large(name, f"{width} x {height}")
    try:
        image.draft(mode, (least, least))
        image.load()
    except _DECODER_FAULTS as error:
        message = f"{name} is damaged or cut short ({error}); use an intact copy"
        raise InputError(message, reason="image_truncated") from error


def _coloured(image: Image.Image, mode: str, name: str) -> Image.Image:
    """As 8-bit `mode` (L or RGB), upright."""
    upright = _UPRIGHT.get(_orientation(image))
    coloured = _to_eight_bit(image, mode, name)
    return coloured if upright is None else coloured.transpose(upright)


def _mode(section: InputSection) -> str:
    return "L" if section.colour == "grey" else "RGB"


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


def _too_large(name: str, size: str) -> InputError:
    limit = f"at most {MAX_SIDE} a side and {MAX_PIXELS:,} in all are read"
    return InputError(f"{name} is too large: {size} pixels; {limit}", reason="image_too_large")


def _unsupported(name: str, pixels: str) -> InputError:
    message = f"{name} has pixels of {pixels}; save it with 8 or 16 bits, grey or RGB"
    return InputError(message, reason="not_an_image")

"""The forms in which a caller gives an image: a path, content, an open file, a Pillow image, or pixels.

A file is not decoded here, nor is the file behind a Pillow image that Pillow has only opened: the worker process of
`edge_oneshot_device.encoding.bounded` decodes both. Pixels are the caller's own and need no decoder.
"""

import io
import os
from typing import IO, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.encoding.eight_bit import check_size, to_eight_bit
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.files import read_file

MAX_FILE_BYTES: Final = 64 << 20

ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | NDArray[np.uint8]
"""An image file or a recording (its path, its content, or a file open for reading bytes), a Pillow image, or uint8
pixels (height, width, 3) in RGB or (height, width) grey."""

NAMELESS: Final = "the image"
"""What an error calls a source without a name."""

_TAKEN: Final = (
    "give a path, bytes, a file open for reading bytes, a Pillow image, or a uint8 array (height, width, 3) in RGB or"
    " (height, width) grey"
)


class Picture(NamedTuple):
    """An image or a recording as the caller gave it: a file's content, or pixels.

    Attributes:
        name: What an error calls it.
        content: Content of the file; empty for pixels.
        pixels: Upright image of mode L or RGB; None for a file.
    """

    name: str
    content: bytes
    pixels: Image.Image | None = None


def take_picture(source: ImageSource | Picture) -> Picture:
    """Read an image source once; an open file is read from its beginning where it can seek.

    Args:
        source: The image; a `Picture` is returned as it is.

    Raises:
        InputError: ``not_found``, ``not_a_file``, ``file_too_large``, ``wrong_type`` (of another type, dtype or
            shape), ``not_decoded`` (a Pillow image with neither pixels nor a file), ``image_too_large`` or
            ``not_an_image`` (its pixel type has no defined 8-bit meaning).
        MachineError: ``cannot_read``.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, bytes | bytearray | memoryview):
        return Picture(NAMELESS, _bounded(bytes(source), NAMELESS))
    if isinstance(source, str | os.PathLike):
        return Picture(str(source), read_file(source, MAX_FILE_BYTES))
    if isinstance(source, Image.Image):
        return _from_pillow(source)
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if callable(getattr(source, "read", None)):
        name = getattr(source, "name", None)
        name = name if isinstance(name, str) and name.isprintable() else NAMELESS
        return Picture(name, _read(source, name))
    raise _refusal(source)


def take_file(source: ImageSource | Picture) -> Picture:
    """`take_picture` as an image file that can be stored: pixels are encoded as PNG.

    Raises:
        InputError: As `take_picture`; ``file_too_large`` also where the PNG is.
        MachineError: ``cannot_read``.
    """
    picture = take_picture(source)
    if picture.pixels is None:
        return picture
    encoded = io.BytesIO()
    picture.pixels.save(encoded, "PNG", compress_level=1)  # a third of the time, for a tenth more bytes
    return Picture(picture.name, _bounded(encoded.getvalue(), f"{picture.name}, as a PNG to be kept,"))


def _from_pillow(image: Image.Image) -> Picture:
    from PIL import ImageFile

    name = getattr(image, "filename", None)
    name = name if isinstance(name, str) and name else NAMELESS
    if isinstance(image, ImageFile.ImageFile):
        if image.tell():
            message = f"{name} is at frame {image.tell()} of its file, not the first; give image.copy()"
            raise InputError(message, reason="not_decoded")
        file = image.fp
        if file is not None and not getattr(file, "closed", False) and not _is_decoded(image):
            place = file.tell()
            content = _read(file, name)
            file.seek(place)
            return Picture(name, content)
    if not _is_decoded(image):
        message = f"{name} is a Pillow image that was closed before its pixels were read; give its path"
        raise InputError(message, reason="not_decoded")
    return _pixels(image, name)


def _is_decoded(image: Image.Image) -> bool:
    """Whether Pillow has decoded it already, so that using it decodes no file."""
    try:
        return image.im is not None and not getattr(image, "tile", None)
    except (AssertionError, ValueError):  # not loaded yet, or closed
        return False


def _from_array(array: NDArray[Any]) -> Picture:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)) or not array.size:
        raise _refusal(array)
    check_size(NAMELESS, (array.shape[1], array.shape[0]))
    return _pixels(Image.fromarray(np.asarray(array)), NAMELESS)


def _pixels(image: Image.Image, name: str) -> Picture:
    if not all(image.size):
        raise InputError(f"{name} has no pixels: it is {image.width} x {image.height}", reason="wrong_type")
    check_size(name, image.size)
    grey = image.mode in ("1", "L") or image.mode.startswith("I")
    upright = to_eight_bit(image, "L" if grey else "RGB", name)
    if upright is not image:
        upright.info = {}  # otherwise its EXIF tag would turn it again
    return Picture(name, b"", upright)


def _read(file: IO[bytes], name: str) -> bytes:
    if isinstance(file, io.TextIOBase):
        raise _no_bytes(name, "text")
    parts, size = [], 0
    try:
        if getattr(file, "seekable", bool)():
            file.seek(0)  # a caller who has just written to it is at its end
        # a raw file may return less than it is asked for
        while size <= MAX_FILE_BYTES and (part := file.read(MAX_FILE_BYTES + 1 - size)):
            parts.append(bytes(memoryview(part)))
            size += len(part)
    except TypeError as error:
        raise _no_bytes(name, type(part).__name__) from error
    except ValueError as error:  # closed, or open for writing only
        raise InputError(f"{name} cannot be read: {error}; open it for reading bytes", reason="wrong_type") from error
    except OSError as error:
        raise MachineError(f"cannot read {name}: {error.strerror or error}", reason="cannot_read") from error
    return _bounded(b"".join(parts), name)


def _no_bytes(name: str, of: str) -> InputError:
    return InputError(f"{name} is a file of {of}, not of bytes; open it with mode 'rb'", reason="wrong_type")


def _bounded(content: bytes, name: str) -> bytes:
    if len(content) > MAX_FILE_BYTES:
        message = f"{name} is larger than {MAX_FILE_BYTES >> 20} MiB, the most that is read"
        raise InputError(message, reason="file_too_large")
    return content


def _refusal(source: object) -> InputError:
    given = type(source).__name__
    if isinstance(source, np.ndarray):
        given = f"array of {source.dtype}"
    shape = getattr(source, "shape", None)
    size = f" and shape {tuple(shape)}" if isinstance(shape, tuple) else ""
    return InputError(f"an image cannot be of type {given}{size}; {_TAKEN}", reason="wrong_type")

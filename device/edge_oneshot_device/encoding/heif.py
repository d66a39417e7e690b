"""HEIC and AVIF, which phones write: their decoders are loaded with the first such file, and may not be installed.

Both are pictures in boxes (ISO/IEC 23008-12), told apart by the brands of the first box, whatever the file is called.
"""

import contextlib
import ctypes
import importlib
import io
from typing import Any, Final, Literal

from PIL import ImageFile

from edge_oneshot_device.errors import InputError

MAX_HEIF_PIXELS: Final = 30_000_000
"""Neither is decoded at a fraction; what is larger takes more time and memory than a worker process has."""

INSTALL: Final = {
    "HEIC": 'pip install "pillow-heif>=1.1,<2"',
    "AVIF": 'pip install "pillow>=11.3,<14"',
}
"""What to run to install each decoder."""

Kind = Literal["HEIC", "AVIF"]

_BRANDS: Final[dict[bytes, Kind]] = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"),
}
_MAX_BRANDS: Final = 64
_M_ARENA_MAX: Final = -8  # of glibc's malloc.h


def heif_kind(content: bytes) -> Kind | None:
    """Whether a file is a HEIC or an AVIF, by its brands.

    Args:
        content: The file.
    """
    if content[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(content[:4]), 4 * _MAX_BRANDS, len(content))
    # the major brand, its version, then the compatible brands
    brands = (content[place : place + 4] for place in (8, *range(16, end - 3, 4)))
    return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)


def open_heif(kind: Kind, content: bytes, name: str) -> ImageFile.ImageFile:
    """Open a file without decoding its pixels; its primary picture is the one that is decoded.

    Args:
        kind: What `heif_kind` said.
        content: The file.
        name: What an error calls it.

    Raises:
        InputError: ``decoder_missing``.
        OSError, SyntaxError, ...: It is damaged, see `edge_oneshot_device.encoding.eight_bit.DECODER_FAULTS`.
    """
    image: ImageFile.ImageFile = _opener(kind, name)(io.BytesIO(content))
    if kind == "HEIC":
        image.info.pop("exif", None)  # the decoder turns by the box `irot`, which is what counts
    image.info.pop("xmp", None)  # Pillow would turn by it
    return image


def _opener(kind: Kind, name: str) -> Any:
    with contextlib.suppress(AttributeError, OSError):  # there is another C library
        # each thread of a decoder would keep address space of its own, 64 MiB of what a worker may have
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    with contextlib.suppress(ImportError):
        if kind == "HEIC":
            options: Any = importlib.import_module("pillow_heif.options")
            # nothing but the picture is looked at
            options.DECODE_THREADS = 1
            options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
            importlib.import_module("_pillow_heif")  # the part in C, whose absence the other part hides
            return importlib.import_module("pillow_heif.as_plugin").HeifImageFile
        avif: Any = importlib.import_module("PIL.AvifImagePlugin")
        if avif.SUPPORTED:
            avif.DEFAULT_MAX_THREADS = 1
            return avif.AvifImageFile
    message = f"{name} is a picture in {kind}, whose decoder is not installed: run {INSTALL[kind]}, or send a JPEG"
    raise InputError(message, reason="decoder_missing")

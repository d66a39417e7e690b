"""A check of a JPEG's header, before a decoder opens it: what it is built to cost in time, and in memory.

Segments are those of ITU-T T.81, annex B.
"""

import re
from typing import Final

from edge_oneshot_device.encoding.bounded import MEMORY_BYTES
from edge_oneshot_device.errors import InputError

_MAX_SEGMENTS: Final = 2000  # before the pixels; 64 MiB of metadata take 1,000
_MAX_SCANS: Final = 100  # progressive files have about ten
_SCAN_OR_END: Final = re.compile(rb"\xff[\xda\xd9]")
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS: Final = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_BYTES_A_SAMPLE: Final = 2  # of a coefficient
_BYTES_A_PIXEL: Final = 4  # of Pillow's


def check_jpeg(content: bytes, name: str) -> int:
    """Refuse a JPEG that is built to be slow: no camera writes that many segments or scans.

    Args:
        content: The file.
        name: What an error calls it.

    Returns:
        Bytes that a decoder keeps from the first scan to the last: all coefficients of a progressive JPEG, or of
        another one that is stored in several scans; however much it is reduced. 0 for any other, and for a damaged one.

    Raises:
        InputError: ``image_too_costly``, or ``not_an_image``: it is a lossless JPEG, which no camera writes.
    """
    place, segments, frame, kind = 2, 0, b"", 0
    while content[place : place + 1] == b"\xff" and content[place + 1 : place + 2] not in (b"", b"\xda"):
        marker = content[place + 1]
        segments += 1
        if marker in _FRAMES:
            frame, kind = content[place + 4 : place + 4 + 6 + 3 * 4], marker
        place += 1 if marker == 0xFF else 2 + int.from_bytes(content[place + 2 : place + 4])
        if segments > _MAX_SEGMENTS:
            raise too_costly(name, f"has more than {_MAX_SEGMENTS} segments before its pixels")
    if kind in _LOSSLESS:
        raise InputError(f"{name} is a lossless JPEG, which is not read; save it as PNG", reason="not_an_image")
    if kind in _PROGRESSIVE:
        _check_scans(content, place, name)
    if len(frame) < 6 + 3 or not (kind in _PROGRESSIVE or content[place + 4 : place + 5] != frame[5:6]):
        return 0
    return _coefficients(frame)


def check_memory(name: str, kept: int, pixels: int, file: int) -> None:
    """Refuse a JPEG whose decoder would need more memory than there is.

    Args:
        name: What the error calls it.
        kept: Bytes that its decoder keeps, see `check_jpeg`.
        pixels: Pixels that it is decoded to.
        file: Bytes of the file.

    Raises:
        InputError: ``image_too_costly``.
    """
    needed = kept + _BYTES_A_PIXEL * pixels + file
    if kept and needed > MEMORY_BYTES:
        limit = f"more than the {MEMORY_BYTES >> 20} MiB that are allowed"
        raise too_costly(name, f"is a progressive JPEG, which takes {needed >> 20} MiB to decode, {limit}")


def too_costly(name: str, what: str) -> InputError:
    """The error for a picture that costs too much to decode.

    Args:
        name: What the error calls it.
        what: What it is or has, as a predicate.
    """
    return InputError(f"{name} {what}: save it smaller, as a plain JPEG or PNG", reason="image_too_costly")


def _check_scans(content: bytes, place: int, name: str) -> None:
    for scans, found in enumerate(_SCAN_OR_END.finditer(content, place)):
        if found[0] == b"\xff\xd9":
            return
        if scans == _MAX_SCANS:
            raise too_costly(name, f"has more than {_MAX_SCANS} scans")


def _coefficients(frame: bytes) -> int:
    """Bytes of all coefficients of a frame, whose header begins with its precision; T.81, B.2.2."""
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    factors = [(one >> 4, one & 15) for one in frame[7 : 6 + 3 * frame[5] : 3]]
    across, down = (max(1, *(pair[axis] for pair in factors), 1) for axis in (0, 1))
    # whole units of the largest factors, each of which is 8 samples
    wide, high = -(-width // (8 * across)), -(-height // (8 * down))
    return sum(64 * _BYTES_A_SAMPLE * wide * x * high * y for x, y in factors)

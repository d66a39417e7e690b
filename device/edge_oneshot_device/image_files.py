"""Tell which files of a folder are images or recordings, and which are litter: one list for both programs.

Files are judged by name, not by content. A damaged one, or one in a format that is not read, is not litter: the
decoder refuses it by name, and commands that take a whole folder list it with the decoder's reason.
"""

import re
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from edge_oneshot_device.text import printable

IMAGE_SUFFIXES: Final = (
    ".avif", ".bmp", ".heic", ".heif", ".hif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp",
)  # fmt: skip
"""Suffixes of the formats that are read; HEIC and AVIF where their decoders are installed."""

SOUND_SUFFIXES: Final = (".flac", ".wav")
"""Suffixes of the formats of recordings that are read."""

SourceKind = Literal["image", "recording"]
"""What an encoder takes."""

LITTER: Final = "litter"
NO_IMAGE: Final = "no_image"
NO_RECORDING: Final = "no_recording"
TOO_DEEP: Final = "too_deep"
NO_PERSON: Final = "no_person"

# formats that are not read: better refused by name than left out
_FOREIGN_SUFFIXES: Final = (
    ".cr2", ".cr3", ".dng", ".gif", ".jp2", ".jxl", ".nef", ".arw", ".pgm", ".ppm", ".tif", ".tiff",
)  # fmt: skip
_FOREIGN_SOUNDS: Final = (".aac", ".aif", ".aiff", ".amr", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wma")

# what operating systems, file servers, cameras and archivers leave behind, in lower case
_LITTER: Final = frozenset(
    {
        "$recycle.bin", "desktop.ini", "ehthumbs.db", "ehthumbs_vista.db", "recycled", "recycler",
        "system volume information", "thumbs.db", "thumbs.db:encryptable", "found.000",  # Windows
        "__macosx", "desktop db", "desktop df", "icon\r", "network trash folder", "temporary items",
        "thevolumesettingsfolder",  # macOS
        "lost+found",  # ext4
        "lost.dir", "zbthumbnail.info",  # Android, cameras
        "@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@syno",  # network storage
    }
)  # fmt: skip
_UNFINISHED: Final = re.compile(r".*(~|\.tmp|\.part|\.crdownload)", re.IGNORECASE | re.DOTALL)
_SHOWN: Final = 8


class PassedOver(msgspec.Struct, frozen=True):
    """A file or folder that a command left out.

    Attributes:
        name: The path within the folder; that of a folder ends in a slash.
        reason: ``litter``; ``no_image`` (not an image by name, or a folder without images); ``no_recording`` (the same
            where the encoder takes recordings); ``too_deep`` (a folder inside a person's folder); ``no_person`` (an
            image beside the folders of people); ``not_among_best`` (see `edge_oneshot_device.recognition.choosing`); or
            the reason for which an image or recording cannot be used.
    """

    name: str
    reason: str


def is_image(name: str) -> bool:
    """Whether a file is an image by its name, including formats that are not read."""
    return name.lower().endswith(IMAGE_SUFFIXES + _FOREIGN_SUFFIXES)


def is_recording(name: str) -> bool:
    """Whether a file is a recording by its name, including formats that are not read."""
    return name.lower().endswith(SOUND_SUFFIXES + _FOREIGN_SOUNDS)


def is_source(name: str, kind: SourceKind) -> bool:
    """Whether a file is what an encoder takes, by its name, see `is_image` and `is_recording`."""
    return is_image(name) if kind == "image" else is_recording(name)


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden, unfinished or left behind by a system, by its name."""
    return name.startswith(".") or name.lower() in _LITTER or _UNFINISHED.fullmatch(name) is not None


def passed_over_text(passed: Sequence[PassedOver]) -> str:
    """The number of files left out and the first of them, in one line; empty where there are none."""
    if not passed:
        return ""
    some = ", ".join(f"{printable(one.name)} ({one.reason})" for one in passed[:_SHOWN])
    return f"left out {len(passed)}: {some}{', ...; all of them with --json' if len(passed) > _SHOWN else ''}"

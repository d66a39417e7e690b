"""Folders and zip files of images, read in the same way; zip files are never unpacked."""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from edge_oneshot.errors import DataError
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.preprocessing import load_image
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.faces.finding import FACE_FAULTS
from edge_oneshot_device.files import read_file
from edge_oneshot_device.image_files import is_litter

Progress = Callable[[int, int], None]
"""Called with the count of images done and of all images."""

Skipped = Callable[[str, str], None]
"""Called with the name of a photo that has no face to use, and the reason, one of `FACE_FAULTS`."""

Unreadable = Callable[[str, str], None]
"""Called with the name of an image that cannot be read, and the reason code of its error."""

MAX_FILE_BYTES = 64 * 2**20
_PROGRESS_STEP = 100

# what zipfile raises where an archive or a member is damaged, encrypted or compressed by an unknown method
_ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, ValueError)


@dataclass(frozen=True, slots=True)
class ImageArchive:
    """An open folder or zip file.

    Attributes:
        path: The folder or zip file.
        files: Names of its files, with slashes, sorted, without litter.
        folders: Names of its folders, likewise.
        read: From a file's name to its bytes.
        litter: Hidden files and those that systems leave, see `edge_oneshot_device.image_files`; the name of a folder
            ends in a slash.
    """

    path: Path
    files: tuple[str, ...]
    folders: tuple[str, ...]
    read: Callable[[str], bytes]
    litter: tuple[str, ...] = ()


@contextmanager
def open_archive(path: Path, *, depth: int = 3) -> Iterator[ImageArchive]:
    """Open a folder or a zip file.

    Links to folders are followed unless they lead to the folder itself or above it. Names in a zip file cannot write
    anywhere, because nothing is unpacked.

    Args:
        path: The folder or zip file.
        depth: Levels of folders that are read.

    Raises:
        DataError: Reason ``not_found``, ``unreadable``, or ``bad_archive``: it is no complete zip file.
    """
    try:
        if path.is_dir():
            yield _open_folder(path, depth)
            return
        if not path.is_file():
            raise DataError(f"{path}: no such folder or zip file", reason="not_found")
        try:
            unpacker = zipfile.ZipFile(path)
        except _ZIP_FAULTS as error:
            raise DataError(
                f"{path}: is no complete zip file ({error}); use an intact copy", reason="bad_archive"
            ) from error
        with unpacker:
            yield _open_zip(path, unpacker)
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({error.strerror})", reason="unreadable") from error


def decode(
    archive: ImageArchive,
    names: Sequence[str],
    section: InputSection,
    progress: Progress | None = None,
    *,
    load: Callable[[bytes, InputSection], NDArray[np.uint8]] = load_image,
    skipped: Skipped | None = None,
    unreadable: Unreadable | None = None,
) -> NDArray[np.uint8]:
    """Read images and prepare them for an encoder.

    Args:
        archive: Holds the images.
        names: Of their files.
        section: The encoder's input.
        progress: Called with the images done and the images in all.
        load: Prepares an image. Where it cuts a face out of a photo and refuses it for one of `FACE_FAULTS`, the image
            is black and counts as a failure to acquire.
        skipped: Called with each such photo and the reason.
        unreadable: Called with each image that cannot be read and the reason; it is black then. Without it the first
            such image is an error.

    Returns:
        uint8 (n, h, w, c).

    Raises:
        DataError: An image cannot be read; the message names it.
    """
    images = np.zeros((len(names), *section.shape), np.uint8)
    for number, name in enumerate(names):
        try:
            content = archive.read(name)
            images[number] = load(content, section)
        except (InputError, DataError, MachineError) as error:
            if isinstance(error, MachineError) and error.reason != "cannot_read":
                raise  # of the machine, and not of this file
            if error.reason in FACE_FAULTS:
                if skipped is not None:
                    skipped(name, error.reason)
            elif unreadable is not None:
                unreadable(name, error.reason)
            elif isinstance(error, InputError):
                raise DataError(f"{archive.path / name}: {error}", reason=error.reason) from error
            else:
                raise
        if progress is not None and (number + 1) % _PROGRESS_STEP == 0:
            progress(number + 1, len(names))
    if progress is not None:
        progress(len(names), len(names))
    return images


def _open_folder(root: Path, depth: int) -> ImageArchive:
    real_root = root.resolve()
    files: list[str] = []
    folders: list[str] = []
    litter: list[str] = []

    def walk(folder: Path, left: int) -> None:
        for entry in folder.iterdir():
            name = entry.relative_to(root).as_posix()
            if is_litter(entry.name):
                litter.append(f"{name}/" if entry.is_dir() else name)
            elif not entry.is_dir():
                files.append(name)
            elif left > 1 and not real_root.is_relative_to(entry.resolve()):
                folders.append(name)
                walk(entry, left - 1)

    def read(name: str) -> bytes:
        return read_file(root / name, MAX_FILE_BYTES)

    walk(root, depth)
    return ImageArchive(root, tuple(sorted(files)), tuple(sorted(folders)), read, tuple(sorted(litter)))


def _open_zip(path: Path, unpacker: zipfile.ZipFile) -> ImageArchive:
    litter = {info.filename: _litter_in(info.filename) for info in unpacker.infolist()}
    members = {info.filename: info for info in unpacker.infolist() if litter[info.filename] is None}

    def read(name: str) -> bytes:
        if members[name].file_size > MAX_FILE_BYTES:
            raise InputError(f"larger than {MAX_FILE_BYTES >> 20} MiB, the most that is read", reason="file_too_large")
        try:
            return unpacker.read(members[name])
        except _ZIP_FAULTS as error:
            raise DataError(f"{path / name}: is damaged ({error}); use an intact copy", reason="bad_archive") from error

    files = sorted(name for name, info in members.items() if not info.is_dir())
    folders = {name.rstrip("/") for name, info in members.items() if info.is_dir()}
    # many archives have no entries for folders
    folders.update(str(parent) for name in files for parent in list(PurePosixPath(name).parents)[:-1])
    left = sorted({top for top in litter.values() if top is not None})
    return ImageArchive(path, tuple(files), tuple(sorted(folders)), read, tuple(left))


def _litter_in(name: str) -> str | None:
    """The topmost part of a member's name that is litter or empty; None where there is none."""
    parts = name.rstrip("/").split("/")
    for place, part in enumerate(parts):
        if not part or is_litter(part):
            top = "/".join(parts[: place + 1])
            return top if top == name else f"{top}/"
    return None

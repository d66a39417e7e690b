"""The faces of photos with and without the quality gate, to judge both from one look at each photo."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_oneshot.data.archives import ImageArchive, Progress, Unreadable, decode
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.faces.finding import PHOTO_SIDE, FaceFinder


@dataclass(frozen=True, slots=True, eq=False)
class MiddleFaces:
    """The face nearest to the middle of each photo, whatever the quality gate says of it.

    Attributes:
        images: uint8 (n, h, w, c), black where no face was found.
        missing: From a photo without a face to the reason, one of `FACE_FAULTS`.
        refused: From a photo whose face is there, but which the device would refuse, to the reason.
    """

    images: NDArray[np.uint8]
    missing: dict[str, str]
    refused: dict[str, str]


def cut_middle_faces(
    archive: ImageArchive,
    photos: list[str],
    section: InputSection,
    faces: FaceFinder,
    progress: Progress | None = None,
    unreadable: Unreadable | None = None,
) -> MiddleFaces:
    """Cut the middle face out of each photo, and note what the device would refuse.

    Args:
        archive: Holds the photos.
        photos: Of their files.
        section: The encoder's input.
        faces: Finds the faces.
        progress: Called with the photos done and the photos in all.
        unreadable: As `decode` takes it.

    Raises:
        DataError: A photo cannot be read; the message names it.
    """
    missing: dict[str, str] = {}
    broken: dict[str, str] = {}
    faults: list[str | None] = []

    def load(content: bytes, _: InputSection) -> NDArray[np.uint8]:
        chip, fault = _middle(faces, content)
        faults.append(fault)
        return chip

    def note(name: str, reason: str) -> None:
        assert unreadable is not None
        broken[name] = reason
        unreadable(name, reason)

    images = decode(
        archive,
        photos,
        section,
        progress,
        load=load,
        skipped=missing.__setitem__,
        unreadable=None if unreadable is None else note,
    )
    cut = [name for name in photos if name not in missing and name not in broken]
    refused = {name: fault for name, fault in zip(cut, faults, strict=True) if fault is not None}
    return MiddleFaces(images, missing, refused)


def _middle(faces: FaceFinder, content: bytes) -> tuple[NDArray[np.uint8], str | None]:
    """The chip of the middle face of a photo, and why the device would refuse the photo."""
    photo = load_photo(content, PHOTO_SIDE)
    found = faces.find(photo)
    if not found:
        return faces.chip(photo), None  # says why there is none
    middle = np.array(photo.size) / 2
    nearest = min(found, key=lambda face: float(np.hypot(*(face.detection.points.mean(axis=0) - middle))))
    try:
        faces.chip(photo)
    except InputError as error:
        return faces.cut(photo, nearest), error.reason
    return faces.cut(photo, nearest), None

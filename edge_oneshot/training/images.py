"""The images of a training: oversampled to train on, at the encoder's own resolution to validate with."""

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot.data.archives import Skipped
from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.loading import load_data
from edge_oneshot.errors import DataError
from edge_oneshot.faces.inputs import open_finder
from edge_oneshot.training.augmentation import OVERSAMPLING
from edge_oneshot.training.runs import RunRecord
from edge_oneshot.training.speech_augmentation import SURROUNDINGS, middle
from edge_oneshot_device.bundle.manifest import InputSection

TOO_FEW = "too_few_photos"
"""Reason for which a person is left out: fewer than two of the photos have a face to use."""


def oversampled(section: InputSection) -> InputSection:
    """What augmentation starts from: `OVERSAMPLING` times the resolution of images, `SURROUNDINGS` of recordings."""
    if section.audio is not None:
        return msgspec.structs.replace(section, width=round(section.width * SURROUNDINGS))
    return msgspec.structs.replace(section, height=section.height * OVERSAMPLING, width=section.width * OVERSAMPLING)


def unvaried(images: NDArray[np.uint8], section: InputSection) -> NDArray[np.uint8]:
    """What the encoder would see of oversampled images.

    Args:
        images: uint8 (n, ...), as `oversampled` says of the section.
        section: The encoder's input.

    Returns:
        uint8 (n, h, w, c).
    """
    if section.audio is not None:
        return middle(images, section)
    count, height, width, channels = images.shape
    blocks = (count, height // OVERSAMPLING, OVERSAMPLING, width // OVERSAMPLING, OVERSAMPLING, channels)
    return np.asarray(images.reshape(blocks).mean(axis=(2, 4)).round(), np.uint8)


def load_oversampled(
    data: str, section: InputSection, data_dir: Path | None = None, skipped: Skipped | None = None
) -> Dataset:
    """All images of a training, at the resolution that augmentation starts from.

    Args:
        data: As `load_data` takes it.
        section: The encoder's input. With a face part the images are photos, see `load_faces`.
        data_dir: Folder of Omniglot's archives.
        skipped: Called with each photo that is left out and why.

    Raises:
        DataError: The data is missing, broken or too little, or the extra ``faces`` is not installed.
    """
    if section.face is not None:
        return load_faces(data, section, oversampled(section), skipped)
    return load_data(data, oversampled(section), data_dir=data_dir)


def load_held_out(record: RunRecord, data_dir: Path | None = None) -> Dataset:
    """The groups that a run holds out, at the encoder's own resolution.

    Args:
        record: Of the run.
        data_dir: Folder of Omniglot's archives.

    Raises:
        DataError: As for `load_oversampled`, or a group is missing.
    """
    data, section = record.settings.data, record.input
    loaded = load_data(data, section, data_dir=data_dir) if section.face is None else load_faces(data, section)
    return loaded.only(record.held_out)


def load_faces(
    data: str, section: InputSection, enlarged: InputSection | None = None, skipped: Skipped | None = None
) -> Dataset:
    """The faces of a folder of people, without the photos that the device would refuse.

    Args:
        data: The folder, as `load_data` takes it.
        section: How the device makes the encoder's input; it decides which photos are used.
        enlarged: The section at the resolution that the faces are wanted in, if that is another.
        skipped: Called with each photo that is left out and why, and with each person of whom fewer
            than two photos are left, and `TOO_FEW`.

    Raises:
        DataError: It is no folder of people, none of them has two photos to use, or the extra
            ``faces`` is not installed.
    """
    people = load_data(data, section, faces=open_finder(section), skipped=skipped)
    assert people.faults is not None
    shown = np.array([fault is None for fault in people.faults])
    enough = np.bincount(people.labels[shown], minlength=len(people.identities)) >= 2
    if skipped is not None:
        for person in np.flatnonzero(~enough):
            skipped(people.identities[person], TOO_FEW)
    used = shown & enough[people.labels]
    if not used.any():
        raise DataError(f"{data}: no person has two photos with a face to use; add photos", reason="no_faces")
    if enlarged is not None:
        assert enlarged.face is not None
        # the quality gate decided at the encoder's own resolution and is not asked again
        lenient = msgspec.structs.replace(enlarged, face=msgspec.structs.replace(enlarged.face, limits=None))
        people = load_data(data, lenient, faces=open_finder(lenient))
    return people.kept(used)

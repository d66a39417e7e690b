"""Photos of people as training takes them: the faces that the device would take, and no others."""

import msgspec
import numpy as np

from edge_oneshot.data.archives import Skipped
from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.loading import load_data
from edge_oneshot.errors import DataError
from edge_oneshot.faces.inputs import open_finder
from edge_oneshot_device.bundle.manifest import InputSection

TOO_FEW = "too_few_photos"
"""Reason for which a person is left out: fewer than two of the photos have a face to use."""


def load_faces(
    data: str, section: InputSection, enlarged: InputSection | None = None, skipped: Skipped | None = None
) -> Dataset:
    """The faces of a folder of people, without the photos that the device would refuse.

    Args:
        data: The folder, see `load_data`.
        section: How the device makes the encoder's input; says which photos are used.
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
    left = np.bincount(people.labels[shown], minlength=len(people.identities)) >= 2
    if skipped is not None:
        for person in np.flatnonzero(~left):
            skipped(people.identities[person], TOO_FEW)
    used = shown & left[people.labels]
    if not used.any():
        raise DataError(f"{data}: no person has two photos with a face to use; add photos", reason="no_faces")
    if enlarged is not None:
        assert enlarged.face is not None
        # what is refused was decided at the encoder's own resolution
        lenient = msgspec.structs.replace(enlarged, face=msgspec.structs.replace(enlarged.face, limits=None))
        people = load_data(data, lenient, faces=open_finder(lenient))
    return people.kept(used)

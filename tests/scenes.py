"""Scenes before a door with people of Labeled Faces in the Wild, composed as `edge_oneshot.demo.door_scenes` says.

A photo of LFW's half has 150 pixels, and about 26 between the eyes: who stands near is enlarged and looks soft.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from edge_oneshot.data.archives import ImageArchive, open_archive
from edge_oneshot.demo.door_scenes import Portrait
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.faces.finding import PHOTO_SIDE, FaceFinder

ROOM = (700, 525)
"""Width and height of a room that moves a little behind frames of 640 x 480 pixels."""


def photos_by_person(archive: ImageArchive) -> dict[str, list[str]]:
    """The photos of each person, of people in alphabetical order."""
    found = defaultdict(list)
    for name in archive.files:
        if match := re.fullmatch(r"(?:.*/)?([^/]+)/\1_\d{4}\.jpg", name):
            found[match[1]].append(name)
    return dict(sorted(found.items()))


def portrait_of(photo: Image.Image, finder: FaceFinder) -> Portrait | None:
    """The only face of a photo; None where there is not one, or one that the gate would not let enrol."""
    try:
        finder.chip(photo)
    except InputError:
        return None
    best = max(finder.find(photo), key=lambda face: face.detection.size)
    return Portrait(np.asarray(photo), best.detection.points[:2])


def people(
    path: Path, finder: FaceFinder, photos: int = 1, *, most: int | None = None, seed: int = 0
) -> Iterator[tuple[str, list[Portrait]]]:
    """People of LFW with so many photos that the gate takes, in an order drawn by the seed, with the first of these.

    Args:
        path: The zip or folder.
        finder: Finds and judges the faces.
        photos: How many of each person.
        most: Leave out who has more photos than that in the zip.
        seed: Draws the order.
    """
    with open_archive(path) as archive:
        by_person = list(photos_by_person(archive).items())
        random.Random(seed).shuffle(by_person)
        for name, files in by_person:
            if most is not None and len(files) > most:
                continue
            taken: list[Portrait] = []
            for place, file in enumerate(files):
                if len(taken) + len(files) - place < photos or len(taken) == photos:
                    break
                portrait = portrait_of(load_photo(archive.read(file), PHOTO_SIDE), finder)
                taken += [] if portrait is None else [portrait]
            if len(taken) == photos:
                yield name, taken

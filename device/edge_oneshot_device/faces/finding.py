"""From a photo to the encoder's chip: find the only face and align its points to the template."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.bundle.face_section import FaceSection
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.encoding.sources import ImageSource, Picture, take_picture
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.faces.alignment import Crop, cut_chip, similarity_transform
from edge_oneshot_device.faces.detection import STEP, Detection, Detector, suppress
from edge_oneshot_device.faces.mesh import Mesh, MeshNet
from edge_oneshot_device.faces.quality import QUALITY_FAULTS, Quality, find_fault, measure, worst_share

FACE_FAULTS: Final = ("no_face", "several_faces", "photo_turned", "face_too_small", *QUALITY_FAULTS)
"""Reason codes of a photo without a face that can be embedded."""

PHOTO_SIDE: Final = 3000
"""Pixels that a photo's shorter side keeps when it is reduced: 12 megapixels stay whole."""

# the search of the whole photo
_PERHAPS: Final = 0.4  # lowest score of what is looked at closer
_FOUND: Final = 8.0  # pixels of the finder's input between the eyes of the smallest face
_SMALL: Final = 320  # pixels of a photo's longer side up to which it is searched in full size
_MAX_PIXELS: Final = 3_200_000  # of the finest level: a quarter of 12 megapixels and more
_COARSER: Final = 4  # from level to level; the finder sees faces from 8 to more than 100 pixels between the eyes
_COARSEST: Final = 160  # pixels of the longer side of the last level, in which a face may fill the photo
_TILE: Final = 1024  # pixels of the longest side of an input; a larger level is searched in tiles
_OVERLAP: Final = 128  # pixels that tiles share: the next level finds what does not fit in there

# the closer look at each face
_MOST: Final = 20
_SIDE: Final = 320
_APART: Final = 80.0  # pixels between the eyes of a head that looks straight ahead
_WITHIN: Final = 0.5  # share of the smaller of two boxes in the other, from which they are the same face
_LEVEL: Final = 0.1  # slope of the line through the eyes, from which a tilted head is looked at once more
_MIN_EYE_DISTANCE: Final = 1.0  # in pixels; below, no crop can be turned level by it
_SURE: Final = 0.925  # score from which a face is upright; below, it is looked at from all four sides
_BEHIND: Final = 0.5  # of the largest face's size, below which a face is of somebody far behind
_TURNS: Final = (Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)


class Face(msgspec.Struct, frozen=True, eq=False):
    """A face in a photo.

    Attributes:
        detection: Its box and points, from the closer look.
        turned: Whether it is tilted by more than 45 degrees, or the closer look sees it more clearly when the photo is
            turned by 90, 180 or 270 degrees.
    """

    detection: Detection
    turned: bool


class FaceFinder:
    """Finds faces in photos and aligns them for the encoder; for one thread at a time.

    The finder searches the whole photo, and then looks closer at each face that it found; both must agree.

    Args:
        files: The bundle's members by path.
        section: How an image becomes the model's input.
        face: The section's face part.
        runtime: ``litert`` or ``tflite-runtime``.
        threads: Threads of one inference.

    Raises:
        InputError: ``former_faces``: the bundle is of an earlier release, with other nets.
        IntegrityError: ``model_refused`` or ``model_mismatch``.
        MachineError: ``runtime_missing`` or ``out_of_memory``.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        section: InputSection,
        face: FaceSection,
        *,
        runtime: str = "litert",
        threads: int = 1,
    ) -> None:
        if face.finder.kind != "yunet":
            message = "the bundle finds faces with nets of an earlier release; export it again, then upgrade to it"
            raise InputError(message, reason="former_faces")
        content = files[face.finder.file]
        self._detector = Detector(content, face.finder, face.max_overlap, runtime=runtime, threads=threads)
        self._section, self._face = section, face
        self._files, self._runtime, self._threads = files, runtime, threads
        self._chosen = [place.point for place in face.template]
        places = np.array([(place.x, place.y) for place in face.template])
        self._places = places * (section.width, section.height)

    def find(self, photo: Image.Image) -> list[Face]:
        """Every upright face of a photo, in descending order of the score.

        Of a crowd the 20 faces that are seen best in the whole photo are looked at, and no more are returned.

        Args:
            photo: RGB image, upright.

        Raises:
            MachineError: ``runtime_failed`` or ``out_of_memory``.
        """
        return [face for face in self.search(photo) if not face.turned]

    def search(self, photo: Image.Image) -> list[Face]:
        """Every face of a photo, upright or turned, in descending order of the score; otherwise as `find`."""
        seen = [face for pixels, corner, scale in self._inputs(photo) for face in self._seen(pixels, corner, scale)]
        best = suppress(seen, self._face.max_overlap)[:_MOST]
        closely = [face for one in best if (face := self._look(photo, one)) is not None]
        kept = suppress([face.detection for face in closely], _WITHIN, within=True)
        return [face for one in kept for face in closely if face.detection is one]

    def chip(self, photo: Image.Image, name: str = "the image") -> NDArray[np.uint8]:
        """The chip of the only face of a photo: aligned, of the size of the encoder's input.

        Args:
            photo: RGB image, upright.
            name: What an error calls the photo.

        Returns:
            uint8 (height, width, 3).

        Raises:
            InputError: One of `FACE_FAULTS`.
            MachineError: ``runtime_failed`` or ``out_of_memory``.
        """
        return self.take(photo, self._only(photo, name), name)

    def _only(self, photo: Image.Image, name: str) -> Face:
        """The largest face; the others have to be far behind it, or too small to be embedded."""
        found = self.search(photo)
        near = self.near(found)
        face = near[0] if near else None
        if len(near) > 1:
            message = f"{name} shows {len(near)} faces, one is needed; take a picture of one person, or cut it out"
            raise InputError(message, reason="several_faces")
        if (face is None and found) or self.is_turned(photo, face):
            message = f"{name} shows a face on its side or upside down; turn the picture upright"
            raise InputError(message, reason="photo_turned")
        if face is None:
            message = f"{name} shows no face; take another picture, from the front, with light on the face"
            raise InputError(message, reason="no_face")
        return face

    def near(self, faces: Sequence[Face]) -> list[Face]:
        """The largest upright face of a photo's, and those that are neither far behind it nor too small to embed."""
        upright = sorted((face for face in faces if not face.turned), key=lambda face: -face.detection.size)
        least = max(self._face.min_eye_distance, _BEHIND * upright[0].detection.size) if upright else 0.0
        return upright[:1] + [face for face in upright[1:] if face.detection.size >= least]

    def is_turned(self, photo: Image.Image, face: Face | None) -> bool:
        """Whether a photo without a face that is surely upright shows one, or a clearer one, when it is turned.

        That takes up to three searches of the photo, unless `face`, which is one of the photo's, is surely upright.
        """
        score = 0.0 if face is None else face.detection.score
        return score < _SURE and any(
            one.detection.score > score for turn in _TURNS for one in self.find(photo.transpose(turn))
        )

    def take(self, photo: Image.Image, face: Face, name: str = "the image") -> NDArray[np.uint8]:
        """The chip of a face that passes the quality gate.

        Args:
            photo: RGB image, upright.
            face: A face of the photo.
            name: What an error calls the photo.

        Returns:
            uint8 (height, width, 3).

        Raises:
            InputError: ``face_too_small`` or one of `QUALITY_FAULTS`.
        """
        distance, least = face.detection.eye_distance, self._face.min_eye_distance
        if distance < least:
            message = f"the face in {name} is too small: {distance:.0f} pixels between the eyes, {least:.0f} are needed"
            raise InputError(f"{message}; come closer, or take a larger picture", reason="face_too_small")
        chip = self.cut(photo, face)
        if self._face.limits is not None:
            quality = measure(face.detection, chip, self._matrix(face), photo.size)
            if fault := find_fault(quality, self._face.limits):
                raise InputError(f"the face in {name} {fault[1]}", reason=fault[0])
        return chip

    def cut(self, photo: Image.Image, face: Face) -> NDArray[np.uint8]:
        """The chip of a face, without the quality gate.

        Args:
            photo: RGB image, upright.
            face: A face of the photo.

        Returns:
            uint8 (height, width, 3).
        """
        return cut_chip(photo, self._matrix(face), self._section.width, self._section.height)

    def quality(self, photo: Image.Image, face: Face) -> Quality:
        """The quality measures of a face.

        Args:
            photo: RGB image, upright.
            face: A face of the photo.
        """
        return measure(face.detection, self.cut(photo, face), self._matrix(face), photo.size)

    def mesh(self, photo: Image.Image, face: Face) -> Mesh | None:
        """The 468 points of a face; None when the mesh net sees no face there. The net is opened on first use.

        Args:
            photo: RGB image, upright.
            face: A face of the photo.

        Raises:
            IntegrityError: ``model_refused`` or ``model_mismatch``.
            MachineError: ``runtime_failed`` or ``out_of_memory``.
        """
        mesh = self._mesh.find(photo, face.detection)
        return mesh if mesh.presence >= self._face.mesh.min_score else None

    @cached_property
    def _mesh(self) -> MeshNet:
        model = self._face.mesh
        return MeshNet(self._files[model.file], model, runtime=self._runtime, threads=self._threads)

    def load(self, source: ImageSource | Picture) -> NDArray[np.uint8]:
        """`chip` of an image source, see `edge_oneshot_device.encoding.sources`.

        Raises:
            InputError: It cannot be read as an image (see `load_image`), or an error of `chip`.
            MachineError: The file cannot be read, or the runtime failed.
        """
        picture = take_picture(source)
        return self.chip(load_photo(picture, PHOTO_SIDE), picture.name)

    @property
    def has_quality_limits(self) -> bool:
        """Whether the bundle has a quality gate."""
        return self._face.limits is not None

    def rate(self, source: ImageSource | Picture) -> float:
        """How near the face in a photo comes to a quality limit, where there are any: 0 is the best, see `worst_share`.

        Raises:
            InputError: As `load`.
            MachineError: As `load`.
        """
        assert self._face.limits is not None
        picture = take_picture(source)
        photo = load_photo(picture, PHOTO_SIDE)
        face = self._only(photo, picture.name)
        self.take(photo, face, picture.name)
        return worst_share(self.quality(photo, face), self._face.limits)

    def _matrix(self, face: Face) -> NDArray[np.float64]:
        """Transform from pixels of the photo to pixels of the chip."""
        return similarity_transform(face.detection.points[self._chosen], self._places)

    def _seen(self, pixels: NDArray[np.uint8], corner: NDArray[np.int64], scale: int) -> list[Detection]:
        """What the detector finds in a part of the photo, reduced by a whole number, in pixels of the photo."""
        return [
            Detection(one.score, (one.box + corner) * scale, (one.points + corner) * scale)
            for one in self._detector.detect(pixels, _PERHAPS)
        ]

    def _inputs(self, photo: Image.Image) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64], int]]:
        """Inputs of the detector that show the whole photo level by level, each finer one in tiles where it is large.

        Yields:
            uint8 (height, width, 3), black beyond the photo; its upper left corner in pixels of the level, int (2,); by
            how much the level is reduced.
        """
        factor = max(min(int(self._face.min_eye_distance / _FOUND), math.ceil(max(photo.size) / _SMALL)), 1)
        factor = max(factor, math.ceil(math.sqrt(photo.width * photo.height / _MAX_PIXELS)))
        level = photo.reduce(factor) if factor > 1 else photo
        while True:
            pixels = np.asarray(level)
            rows, columns = (_tiles(side) for side in pixels.shape[:2])
            for top, height in rows:
                for left, width in columns:
                    tile = pixels[top : top + height, left : left + width]
                    shown = np.zeros((height, width, 3), np.uint8)
                    shown[: tile.shape[0], : tile.shape[1]] = tile
                    yield shown, np.array((left, top)), factor
            if max(level.size) <= _COARSEST:
                return
            level, factor = level.reduce(_COARSER), factor * _COARSER

    def _look(self, photo: Image.Image, seen: Detection) -> Face | None:
        """The face that a closer look finds in the same place, and whether it is clearer from another side."""
        closer = self._closer(photo, seen)
        if closer is not None and _is_tilted(closer[1]):
            closer = self._closer(photo, _placed(*closer))
        if closer is None:
            return None
        crop, upright = closer
        face = _placed(crop, upright)
        across, down = face.points[1] - face.points[0]
        turned = abs(down) > across or (
            upright.score < _SURE
            and any(self._clearest(np.rot90(crop.pixels, turns), upright.score) for turns in (2, 1, 3))
        )
        return Face(face, bool(turned))

    def _closer(self, photo: Image.Image, seen: Detection) -> tuple[Crop, Detection] | None:
        """A crop that is turned level by the points of a face, and the face in it."""
        if seen.eye_distance < _MIN_EYE_DISTANCE:
            return None
        crop = Crop(photo, seen.points[:2], seen.points.mean(axis=0), _APART / seen.size, _SIDE)
        face = self._clearest(crop.pixels, self._face.finder.min_score)
        return None if face is None else (crop, face)

    def _clearest(self, crop: NDArray[np.uint8], least: float) -> Detection | None:
        """The face in the middle of a crop that is seen best, with at least this score."""
        for one in self._detector.detect(crop, least):
            if np.hypot(*(one.points.mean(axis=0) - _SIDE / 2)) <= _APART:
                return one
        return None


def _is_tilted(face: Detection) -> bool:
    across, down = face.points[1] - face.points[0]
    return bool(abs(down) > _LEVEL * across)


def _placed(crop: Crop, one: Detection) -> Detection:
    """A detection in a crop as one in the image; its box stays level there."""
    half = (one.box[1] - one.box[0]) / 2 / crop.scale
    centre = crop.places(one.box.mean(axis=0, keepdims=True))
    return Detection(one.score, np.concatenate([centre - half, centre + half]), crop.places(one.points))


def _tiles(side: int) -> list[tuple[int, int]]:
    """Start and length of the tiles along a side of a level; they overlap, and the lengths are multiples of `STEP`."""
    count = max(math.ceil((side - _OVERLAP) / (_TILE - _OVERLAP)), 1)
    length = math.ceil((side + (count - 1) * _OVERLAP) / count / STEP) * STEP
    return [(round(place), length) for place in np.linspace(0, max(side - length, 0), count).tolist()]

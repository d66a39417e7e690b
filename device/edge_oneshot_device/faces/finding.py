"""From a photo to the encoder's chip: find the only face and align its points to the template."""

from collections.abc import Mapping
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
from edge_oneshot_device.faces.alignment import cut_chip, cut_square, similarity_transform
from edge_oneshot_device.faces.detection import Detection, Detector, overlaps
from edge_oneshot_device.faces.mesh import MeshNet
from edge_oneshot_device.faces.quality import QUALITY_FAULTS, Quality, find_fault, measure, worst_share

FACE_FAULTS: Final = ("no_face", "several_faces", "face_too_small", *QUALITY_FAULTS)
"""Reason codes of a photo without a face that can be embedded."""

_SHARES: Final = (1.0, 0.35)  # a face that fills the photo is too large for the finder until it is shown smaller
# the finder's own points are good enough for a face that reaches all of these
_MIN_SCORE: Final = 0.8
_EYE_DISTANCES: Final = (12.0, 36.0)  # in pixels of the finder's input, from and to
_MAX_TILT: Final = 0.1  # sine of the angle of the line through the eyes
_REACH: Final = 2.0  # half a side of the crop for the second detector, in distances between the eyes
_MIN_EYE_DISTANCE: Final = 1.0  # in pixels; below, no crop can be scaled to it
PHOTO_SIDE: Final = 1000  # pixels that a photo's shorter side keeps when it is reduced


class Face(msgspec.Struct, frozen=True, eq=False):
    """A face in a photo.

    Attributes:
        detection: Its box and six points, from the second detector where that ran.
        points: float64 (468, 2), its mesh in pixels of the photo.
        depths: float64 (468,), approximate depth of each point behind the middle of the head, in the same unit.
    """

    detection: Detection
    points: NDArray[np.float64]
    depths: NDArray[np.float64]


class FaceFinder:
    """Finds faces in photos and aligns them for the encoder; for one thread at a time.

    A face counts when three nets agree: the finder searches the whole photo, a second detector (`closer` in the
    manifest) searches a crop around each face, and the mesh net finds the face's points.

    Args:
        files: The bundle's members by path.
        section: How an image becomes the model's input.
        face: The section's face part.
        runtime: ``litert`` or ``tflite-runtime``.
        threads: Threads of one inference.

    Raises:
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
        finder, second, mesh = face.models
        self._finder = Detector(files[finder.file], finder, face.max_overlap, runtime=runtime, threads=threads)
        self._second = Detector(files[second.file], second, face.max_overlap, runtime=runtime, threads=threads)
        self._mesh = MeshNet(files[mesh.file], mesh, runtime=runtime, threads=threads)
        self._section, self._face = section, face
        self._chosen = [place.point for place in face.template]
        places = np.array([(place.x, place.y) for place in face.template])
        self._places = places * (section.width, section.height)

    def find(self, photo: Image.Image, *, refine: bool = True) -> list[Face]:
        """Every face of a photo, in descending order of the score.

        When no face is found, the photo is searched once more at 0.35 times the size, for a face that fills it.

        Args:
            photo: RGB image, upright.
            refine: Run the second detector even on a face that the finder sees well. Its points move less from frame
                to frame; without it, as in `chip`, they are a third less steady.

        Raises:
            MachineError: ``runtime_failed``.
        """
        for share in _SHARES:
            faces: list[Face] = []
            scale = share * self._finder.shown / max(photo.size)
            for candidate in self._finder.detect(photo, share):
                enough = not refine and _is_seen_well(candidate, scale)
                refined = candidate if enough else self._refine(photo, candidate)
                if refined is None or self._is_known(refined, faces):
                    continue
                mesh = self._mesh.find(photo, refined)
                if mesh.presence >= self._face.mesh.min_score:
                    faces.append(Face(refined, mesh.points, mesh.depths))
            if faces:
                return faces
        return []

    def chip(self, photo: Image.Image, name: str = "the image") -> NDArray[np.uint8]:
        """The chip of the only face of a photo: aligned, of the size of the encoder's input.

        Args:
            photo: RGB image, upright.
            name: What an error calls the photo.

        Returns:
            uint8 (height, width, 3).

        Raises:
            InputError: One of `FACE_FAULTS`.
            MachineError: ``runtime_failed``.
        """
        return self.take(photo, self._only(photo, name), name)

    def _only(self, photo: Image.Image, name: str) -> Face:
        faces = self.find(photo, refine=False)
        if not faces:
            message = f"{name} shows no face; take another picture, from the front, with light on the face"
            raise InputError(message, reason="no_face")
        if len(faces) > 1:
            message = f"{name} shows {len(faces)} faces, one is needed; take a picture of one person, or cut it out"
            raise InputError(message, reason="several_faces")
        return faces[0]

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
        matrix = self._matrix(face)
        chip = cut_chip(photo, matrix, self._section.width, self._section.height)
        if self._face.limits is not None:
            quality = measure(face.points, face.depths, chip, matrix, photo.size)
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
        return measure(face.points, face.depths, self.cut(photo, face), self._matrix(face), photo.size)

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
        return similarity_transform(face.points[self._chosen], self._places)

    def _refine(self, photo: Image.Image, face: Detection) -> Detection | None:
        """The face that the second detector finds in the same place, in a crop that is black outside the photo."""
        if face.eye_distance < _MIN_EYE_DISTANCE:
            return None
        side = self._second.side
        scale = self._second.shown / (2.0 * _REACH * face.eye_distance)
        corner = face.points[:4].mean(axis=0) - side / 2 / scale
        square = cut_square(photo, corner, scale, side)
        found = [
            Detection(one.score, one.box / scale + corner, one.points / scale + corner)
            for one in self._second.detect_within(square)
            if one.eye_distance >= _MIN_EYE_DISTANCE
        ]
        middle = face.points[:2].mean(axis=0)
        distances = [float(np.hypot(*(one.points[:2].mean(axis=0) - middle))) for one in found]
        return found[int(np.argmin(distances))] if distances and min(distances) <= face.eye_distance else None

    def _is_known(self, face: Detection, others: list[Face]) -> bool:
        boxes = [other.detection.box for other in others]
        return bool(boxes) and bool((overlaps(face.box, np.stack(boxes)) > self._face.max_overlap).any())


def _is_seen_well(face: Detection, scale: float) -> bool:
    """Whether the finder, at this scale of the photo, is confident of an upright face of middling size."""
    across, down = face.points[1] - face.points[0]
    least, most = _EYE_DISTANCES
    clear = face.score >= _MIN_SCORE and least <= scale * face.eye_distance <= most
    return clear and across > 0.0 and abs(down) < _MAX_TILT * face.eye_distance

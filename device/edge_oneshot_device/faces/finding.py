"""From a photo to the encoder's chip: find the one face, lay its points on the template."""

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
"""Reasons for which a photo has no face to embed."""

_SHARES: Final = (1.0, 0.5)  # a face that fills the photo is too large for the finder, and found at half the size
# of what the finder sees, from which its own points will do
_SURE: Final = 0.8  # its score
_CLEAR: Final = (12.0, 36.0)  # its pixels between the eyes, from and to
_UPRIGHT: Final = 0.1  # sine of the tilt of the eyes, to
_REACH: Final = 2.0  # half a side of the closer look, in distances between the eyes
_LEAST_EYES: Final = 1.0  # pixels between the eyes, below which nothing can be scaled to them
LEAST_SIDE: Final = 1000  # of a photo: a larger JPEG is decoded at a half, a quarter or an eighth of its size


class Face(msgspec.Struct, frozen=True, eq=False):
    """A face in a photo.

    Attributes:
        detection: Its box and six points, from the closer look where one was taken.
        points: float64 (468, 2), its mesh, in pixels of the photo.
        depths: float64 (468,), how far behind the middle of the head each lies, about, in the same unit.
    """

    detection: Detection
    points: NDArray[np.float64]
    depths: NDArray[np.float64]


class FaceFinder:
    """Finds faces and cuts them for the encoder; for one thread at a time.

    Args:
        files: Path to content of the members of a bundle.
        section: How an image becomes the model's input.
        face: Its face part.
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
        finder, closer, mesh = face.models
        self._finder = Detector(files[finder.file], finder, face.max_overlap, runtime=runtime, threads=threads)
        self._closer = Detector(files[closer.file], closer, face.max_overlap, runtime=runtime, threads=threads)
        self._mesh = MeshNet(files[mesh.file], mesh, runtime=runtime, threads=threads)
        self._section, self._face = section, face
        self._chosen = [place.point for place in face.template]
        places = np.array([(place.x, place.y) for place in face.template])
        self._places = places * (section.width, section.height)

    def find(self, photo: Image.Image, *, refine: bool = True) -> list[Face]:
        """Every face of a photo, the surest first.

        What the finder takes for a face counts when the closer look and the mesh agree. Where none is
        left the photo is looked at once more, smaller.

        Args:
            photo: Of mode RGB, upright.
            refine: Whether the closer look is taken even where the finder sees a face well: for points that stay in
                their places from frame to frame. `chip` spares it, for points that are a third less steady.

        Raises:
            MachineError: ``runtime_failed``.
        """
        for share in _SHARES:
            faces: list[Face] = []
            scale = share * self._finder.shown / max(photo.size)
            for candidate in self._finder.detect(photo, share):
                enough = not refine and _is_seen_well(candidate, scale)
                closer = candidate if enough else self._look_closer(photo, candidate)
                if closer is None or self._is_known(closer, faces):
                    continue
                mesh = self._mesh.find(photo, closer)
                if mesh.presence >= self._face.mesh.min_score:
                    faces.append(Face(closer, mesh.points, mesh.depths))
            if faces:
                return faces
        return []

    def chip(self, photo: Image.Image, name: str = "the image") -> NDArray[np.uint8]:
        """The only face of a photo, as the encoder takes it.

        Args:
            photo: Of mode RGB, upright.
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
        """A face of a photo as the encoder takes it, uint8 (height, width, 3), when it is worth embedding.

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
        """A face of a photo as the encoder takes it, uint8 (height, width, 3), whatever it is worth."""
        return cut_chip(photo, self._matrix(face), self._section.width, self._section.height)

    def quality(self, photo: Image.Image, face: Face) -> Quality:
        """What a face of a photo looks like to the encoder."""
        return measure(face.points, face.depths, self.cut(photo, face), self._matrix(face), photo.size)

    def load(self, source: ImageSource | Picture) -> NDArray[np.uint8]:
        """`chip` of an image file, or of pixels; see `edge_oneshot_device.encoding.sources`.

        Raises:
            InputError: It cannot be read as an image (see `load_image`), or a reason of `chip`.
            MachineError: The file cannot be read, or the runtime failed.
        """
        picture = take_picture(source)
        return self.chip(load_photo(picture, LEAST_SIDE), picture.name)

    @property
    def has_quality_limits(self) -> bool:
        """Whether there are limits of quality."""
        return self._face.limits is not None

    def rate(self, source: ImageSource | Picture) -> float:
        """How good the face in a photo is, where `has_quality_limits`: 0 is the best, see `worst_share`.

        Raises:
            InputError: As `load`.
            MachineError: As `load`.
        """
        assert self._face.limits is not None
        picture = take_picture(source)
        photo = load_photo(picture, LEAST_SIDE)
        face = self._only(photo, picture.name)
        self.take(photo, face, picture.name)
        return worst_share(self.quality(photo, face), self._face.limits)

    def _matrix(self, face: Face) -> NDArray[np.float64]:
        """From pixels of the photo to pixels of the chip."""
        return similarity_transform(face.points[self._chosen], self._places)

    def _look_closer(self, photo: Image.Image, face: Detection) -> Detection | None:
        """The face that the second detector finds in the same place; what lies outside the photo is black."""
        if face.eye_distance < _LEAST_EYES:
            return None
        side = self._closer.side
        scale = self._closer.shown / (2.0 * _REACH * face.eye_distance)
        corner = face.points[:4].mean(axis=0) - side / 2 / scale
        square = cut_square(photo, corner, scale, side)
        found = [
            Detection(one.score, one.box / scale + corner, one.points / scale + corner)
            for one in self._closer.detect_within(square)
            if one.eye_distance >= _LEAST_EYES
        ]
        middle = face.points[:2].mean(axis=0)
        away = [float(np.hypot(*(one.points[:2].mean(axis=0) - middle))) for one in found]
        return found[int(np.argmin(away))] if away and min(away) <= face.eye_distance else None

    def _is_known(self, face: Detection, others: list[Face]) -> bool:
        boxes = [other.detection.box for other in others]
        return bool(boxes) and bool((overlaps(face.box, np.stack(boxes)) > self._face.max_overlap).any())


def _is_seen_well(face: Detection, scale: float) -> bool:
    """Whether the finder, which saw the photo at this scale, is sure of a face, upright, neither small nor large."""
    across, down = face.points[1] - face.points[0]
    well = face.score >= _SURE and _CLEAR[0] <= scale * face.eye_distance <= _CLEAR[1]
    return well and across > 0.0 and abs(down) < _UPRIGHT * face.eye_distance

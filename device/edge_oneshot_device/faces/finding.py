"""From a photo to the encoder's chip: find the one face, lay its points on the template."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.errors import InputError
from edge_oneshot_device.faces.alignment import cut_chip, cut_square, similarity_transform
from edge_oneshot_device.faces.detection import Detection, Detector, overlaps
from edge_oneshot_device.faces.mesh import MeshNet
from edge_oneshot_device.manifest import FaceSection, InputSection
from edge_oneshot_device.preprocessing import load_photo

FACE_FAULTS: Final = ("no_face", "several_faces", "face_too_small")
"""Reasons for which a photo has no face to embed."""

_SHARES: Final = (1.0, 0.5)  # a face that fills the photo is too large for the finder, and found at half the size
_REACH: Final = 2.0  # half a side of the closer look, in distances between the eyes
_LEAST_EYES: Final = 1.0  # pixels between the eyes, below which nothing can be scaled to them
_LEAST_SIDE: Final = 1000  # of a photo: a larger JPEG is decoded at a half, a quarter or an eighth of its size


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face in a photo.

    Attributes:
        detection: Its box and six points, from the closer look.
        points: float64 (468, 2), its mesh, in pixels of the photo.
    """

    detection: Detection
    points: NDArray[np.float64]


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

    def find(self, photo: Image.Image) -> list[Face]:
        """Every face of a photo, the surest first.

        What the finder takes for a face counts when the closer look and the mesh agree. Where none is
        left the photo is looked at once more, smaller.

        Args:
            photo: Of mode RGB, upright.

        Raises:
            MachineError: ``runtime_failed``.
        """
        for share in _SHARES:
            faces: list[Face] = []
            for candidate in self._finder.detect(photo, share):
                closer = self._look_closer(photo, candidate)
                if closer is None or self._is_known(closer, faces):
                    continue
                mesh = self._mesh.find(photo, closer)
                if mesh.presence >= self._face.mesh.min_score:
                    faces.append(Face(closer, mesh.points))
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
            InputError: ``no_face``, ``several_faces`` or ``face_too_small``.
            MachineError: ``runtime_failed``.
        """
        faces = self.find(photo)
        if not faces:
            message = f"{name} shows no face; take another picture, from the front, with light on the face"
            raise InputError(message, reason="no_face")
        if len(faces) > 1:
            message = f"{name} shows {len(faces)} faces, one is needed; take a picture of one person, or cut it out"
            raise InputError(message, reason="several_faces")
        distance, least = faces[0].detection.eye_distance, self._face.min_eye_distance
        if distance < least:
            message = f"the face in {name} is too small: {distance:.0f} pixels between the eyes, {least:.0f} are needed"
            raise InputError(f"{message}; come closer, or take a larger picture", reason="face_too_small")
        return self.cut(photo, faces[0])

    def cut(self, photo: Image.Image, face: Face) -> NDArray[np.uint8]:
        """A face of a photo, uint8 (height, width, 3), as the encoder takes it."""
        matrix = similarity_transform(face.points[self._chosen], self._places)
        return cut_chip(photo, matrix, self._section.width, self._section.height)

    def load(self, source: str | os.PathLike[str] | bytes) -> NDArray[np.uint8]:
        """`chip` of an image file, given by its path or its content.

        Raises:
            InputError: It cannot be read as an image (see `load_image`), or a reason of `chip`.
            MachineError: The file cannot be read, or the runtime failed.
        """
        return self.chip(load_photo(source, _LEAST_SIDE), "the image" if isinstance(source, bytes) else str(source))

    def _look_closer(self, photo: Image.Image, face: Detection) -> Detection | None:
        """The face that the second detector finds in the same place; what lies outside the photo is black."""
        if face.eye_distance < _LEAST_EYES:
            return None
        side = self._face.closer.size
        scale = side / (2.0 * _REACH * face.eye_distance)
        corner = face.points[:4].mean(axis=0) - side / 2 / scale
        square = cut_square(photo, corner, scale, side)
        found = [
            Detection(one.score, one.box / scale + corner, one.points / scale + corner)
            for one in self._closer.detect(Image.fromarray(square))
            if one.eye_distance >= _LEAST_EYES
        ]
        middle = face.points[:2].mean(axis=0)
        away = [float(np.hypot(*(one.points[:2].mean(axis=0) - middle))) for one in found]
        return found[int(np.argmin(away))] if away and min(away) <= face.eye_distance else None

    def _is_known(self, face: Detection, others: list[Face]) -> bool:
        boxes = [other.detection.box for other in others]
        return bool(boxes) and bool((overlaps(face.box, np.stack(boxes)) > self._face.max_overlap).any())

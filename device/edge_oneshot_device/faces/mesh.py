"""The points of a face: MediaPipe's mesh of 468 points (Kartynnik et al. 2019)."""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.bundle.face_section import MESH_POINTS, FaceModel
from edge_oneshot_device.faces.alignment import Crop
from edge_oneshot_device.faces.detection import Detection
from edge_oneshot_device.faces.interpreter import FaceNet

_REACH: Final = 2.0  # half a side of the net's crop, in sizes of the face


class Mesh(msgspec.Struct, frozen=True, eq=False):
    """The points of a face.

    Attributes:
        presence: The net's confidence that a face is there, 0..1.
        points: float64 (468, 2), in pixels of the image, as in `Detection`.
        depths: float64 (468,), approximate depth of each point behind the middle of the head, in the same unit.
    """

    presence: float
    points: NDArray[np.float64]
    depths: NDArray[np.float64]


class MeshNet:
    """The mesh net in its runtime; for one thread at a time. Arguments and errors are those of `Detector`."""

    def __init__(self, content: bytes, model: FaceModel, *, runtime: str, threads: int) -> None:
        self._side = model.size
        shapes = (1, model.size, model.size, 3), (1, 1, 1, 1), (1, 1, 1, 3 * MESH_POINTS)
        self._net = FaceNet(content, model.file, shapes, white=1.0, runtime=runtime, threads=threads)

    def find(self, image: Image.Image, face: Detection) -> Mesh:
        """The points of a face that the finder found; a tilted face is rotated upright for the net.

        Args:
            image: RGB image.
            face: The face in it.

        Raises:
            MachineError: ``runtime_failed``.
        """
        eyes, mouth = face.points[:2], face.points[3:].mean(axis=0)
        scale = self._side / (2.0 * _REACH * face.size)
        crop = Crop(image, eyes, (eyes.sum(axis=0) + mouth) / 3, scale, self._side)
        presence, places = self._net.run(crop.pixels)
        solid = places.reshape(MESH_POINTS, 3).astype(np.float64)
        confidence = 0.5 + 0.5 * np.tanh(0.5 * float(presence.ravel()[0]))  # the logistic function
        return Mesh(float(confidence), crop.places(solid[:, :2]), solid[:, 2] / crop.scale)

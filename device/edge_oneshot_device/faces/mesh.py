"""The points of a face: MediaPipe's mesh of 468 points (Kartynnik et al. 2019)."""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.bundle.face_section import MESH_POINTS, FaceModel
from edge_oneshot_device.faces.alignment import cut_chip, cut_square
from edge_oneshot_device.faces.detection import Detection, logistic
from edge_oneshot_device.faces.interpreter import FaceNet

_REACH: Final = 2.0  # half a side of the net's crop, in distances between the eyes
_TILTED: Final = 0.1  # sine of the angle of the line through the eyes, from which a face is rotated upright
_CENTRE: Final = [0, 1, 3]  # the eyes and the mouth: the crop is centred on their mean


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
        self._net = FaceNet(content, model.file, shapes, low=0.0, runtime=runtime, threads=threads)

    def find(self, image: Image.Image, face: Detection) -> Mesh:
        """The points of a face that a detector found; a tilted face is rotated upright for the net.

        Args:
            image: RGB image.
            face: The face in it.

        Raises:
            MachineError: ``runtime_failed``.
        """
        across = (face.points[1] - face.points[0]) / face.eye_distance
        step = 2.0 * _REACH * face.eye_distance / self._side
        middle = face.points[_CENTRE].mean(axis=0)
        if abs(across[1]) < _TILTED and across[0] > 0.0:
            back = np.column_stack([np.eye(2) * step, middle - step * self._side / 2])
            square = cut_square(image, back[:, 2], 1.0 / step, self._side)
        else:
            # columns: the steps in the image for one pixel to the right and one down in the net's crop
            turn = step * np.array([[across[0], -across[1]], [across[1], across[0]]])
            back = np.column_stack([turn, middle - turn @ np.full(2, self._side / 2)])
            square = cut_chip(image, _inverse(back), self._side, self._side)
        presence, places = self._net.run(square)
        solid = places.reshape(MESH_POINTS, 3).astype(np.float64)
        points = solid[:, :2] @ back[:, :2].T + back[:, 2]
        return Mesh(float(logistic(presence.ravel())[0]), points, solid[:, 2] * step)


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.inv(np.vstack([matrix, (0.0, 0.0, 1.0)]))[:2])

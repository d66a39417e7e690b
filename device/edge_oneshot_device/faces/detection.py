"""Face detection: YuNet (Wu, Peng & Yu 2023), with its own weights; its outputs are decoded here."""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.face_section import FINDER_POINTS, FaceModel
from edge_oneshot_device.faces.interpreter import FaceNet

STEP: Final = 32
"""Pixels: both sides of the net's input are multiples of it."""

_STRIDES: Final = (8, 16, 32)  # pixels of a cell's side in each of the net's grids
_EYES_TO_MOUTH: Final = 0.87  # distance between the eyes of a face from the front by that from eyes to mouth
_MAX_LOG: Final = 8.0  # of a box's side in cells, so that no output overflows
_FAR: Final = 1000.0  # cells between a cell and what it sees, likewise
_CELLS: Final = 1000  # that are decoded; in LFW some ten see a face and 40 at most, so that a crowd of 20 has room
_FACES: Final = 100  # that are kept: five times as many as are looked at closer


class Detection(msgspec.Struct, frozen=True, eq=False):
    """A face in an image, in pixels: x grows to the right, y downwards, the first pixel's centre is (0.5, 0.5).

    Attributes:
        score: The net's confidence, 0..1.
        box: float64 (2, 2): the upper left and the lower right corner, from about the forehead to the chin.
        points: float64 (5, 2): the left and the right eye as seen in the image, the tip of the nose, the left and the
            right corner of the mouth.
    """

    score: float
    box: NDArray[np.float64]
    points: NDArray[np.float64]

    @property
    def eye_distance(self) -> float:
        """Distance between the eyes, in pixels."""
        return float(np.hypot(*(self.points[1] - self.points[0])))

    @property
    def size(self) -> float:
        """Distance between the eyes as it would be if the head looked straight ahead, about, in pixels.

        Turned to a side, a head keeps the distance from its eyes to its mouth.
        """
        down = self.points[3:].mean(axis=0) - self.points[:2].mean(axis=0)
        return max(self.eye_distance, _EYES_TO_MOUTH * float(np.hypot(*down)))


class Detector:
    """YuNet in its runtime; for one thread at a time.

    Args:
        content: The .tflite file.
        model: What the manifest says of it.
        max_overlap: See `suppress`.
        runtime: ``litert`` or ``tflite-runtime``.
        threads: Threads of one inference.

    Raises:
        IntegrityError: ``model_refused``, or ``model_mismatch``: the file's tensors are not those of its kind.
        MachineError: ``runtime_missing`` or ``out_of_memory``.
    """

    def __init__(self, content: bytes, model: FaceModel, max_overlap: float, *, runtime: str, threads: int) -> None:
        self._max_overlap = max_overlap
        side = model.size
        count = sum((side // stride) ** 2 for stride in _STRIDES)
        shapes = (1, side, side, 3), (1, count, 6 + 2 * FINDER_POINTS)
        self._net = FaceNet(content, model.file, shapes, white=255.0, runtime=runtime, threads=threads)

    def detect(self, pixels: NDArray[np.uint8], min_score: float) -> list[Detection]:
        """Every face in an image, in descending order of the score.

        Args:
            pixels: uint8 (height, width, 3), upright; both sides are multiples of `STEP`.
            min_score: Lowest score of a face.

        Returns:
            Detections in pixels of the image.

        Raises:
            MachineError: ``runtime_failed`` or ``out_of_memory``.
        """
        (raw,) = self._net.run(pixels)
        return suppress(decode(raw, pixels.shape[0], pixels.shape[1], min_score), self._max_overlap)


def decode(raw: NDArray[np.float32], height: int, width: int, min_score: float) -> list[Detection]:
    """The faces in YuNet's output, one for each cell that sees one; of the 1,000 best cells, whatever the net says.

    Args:
        raw: float32 (cells, 16), the grids of 8, 16 and 32 pixels one after the other, each row by row: probability
            that the cell shows a face and that it has an object in its middle, the centre's offset and the logarithm
            of width and height in cells, and the offsets of five points.
        height: Of the net's input in pixels.
        width: Of the net's input in pixels.
        min_score: Cells with a lower score are left out.
    """
    scores = np.sqrt(np.clip(raw[:, 0], 0.0, 1.0) * np.clip(raw[:, 1], 0.0, 1.0))
    chosen = np.flatnonzero(scores >= min_score)
    if len(chosen) > _CELLS:
        chosen = np.sort(chosen[np.argpartition(-scores[chosen], _CELLS)[:_CELLS]])
    counts = [(width // stride) * (height // stride) for stride in _STRIDES]
    grid = np.searchsorted(np.cumsum(counts), chosen, "right")
    stride = np.array(_STRIDES)[grid]
    place = chosen - np.array([0, *np.cumsum(counts)])[grid]
    corner = np.column_stack([place % (width // stride), place // (width // stride)])
    values = np.clip(raw[chosen, 2:].astype(np.float64), -_FAR, _FAR).reshape(-1, 2 + FINDER_POINTS, 2)
    half = np.exp(np.minimum(values[:, 1], _MAX_LOG)) / 2
    values += corner[:, np.newaxis]
    values[:, 0], values[:, 1] = values[:, 0] - half, values[:, 0] + half
    values *= stride[:, np.newaxis, np.newaxis]
    return [Detection(score, one[:2], one[2:]) for score, one in zip(scores[chosen].tolist(), values, strict=True)]


def suppress(faces: list[Detection], max_overlap: float, *, within: bool = False) -> list[Detection]:
    """Non-maximum suppression: of detections that overlap, the one with the highest score is kept.

    Args:
        faces: Detections in one image.
        max_overlap: Intersection over union above which two boxes belong to the same face.
        within: Take the share of the smaller box instead, so that a box that lies in a larger one is the same face.

    Returns:
        In descending order of the score, 100 at most.
    """
    ranked = sorted(faces, key=lambda one: -one.score)
    boxes = np.array([one.box for one in ranked]).reshape(-1, 2, 2)
    left = np.arange(len(ranked))
    kept: list[Detection] = []
    while len(left) and len(kept) < _FACES:
        kept.append(ranked[left[0]])
        best, left = boxes[left[0]], left[1:]
        left = left[overlaps(best, boxes[left], within=within) <= max_overlap]
    return kept


def overlaps(one: NDArray[np.float64], others: NDArray[np.float64], *, within: bool = False) -> NDArray[np.float64]:
    """Intersection over union of a box with others.

    Args:
        one: float64 (2, 2), the corners of the box.
        others: float64 (n, 2, 2), the corners of the other boxes.
        within: Divide by the smaller box of each two instead.

    Returns:
        float64 (n,), in 0..1; a box without area overlaps none.
    """
    shared = np.maximum(np.minimum(one[1], others[:, 1]) - np.maximum(one[0], others[:, 0]), 0.0)
    sides, own = others[:, 1] - others[:, 0], one[1] - one[0]
    both, areas, area = shared[:, 0] * shared[:, 1], sides[:, 0] * sides[:, 1], own[0] * own[1]
    whole = np.minimum(areas, area) if within else areas + area - both
    result: NDArray[np.float64] = np.divide(both, whole, where=whole > 0.0, out=np.zeros_like(both))
    return result

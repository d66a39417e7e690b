"""Finding faces: BlazeFace (Bazarevsky et al. 2019), run as it comes and decoded here."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.faces.interpreter import FaceNet
from edge_oneshot_device.manifest import FaceModel

# Per kind the cells a side of each grid, and the anchors of a cell; from MediaPipe's face_detection graphs.
_GRIDS: Final = {"blazeface-short": ((16, 2), (8, 6)), "blazeface-full": ((48, 1),)}
_KEYPOINTS: Final = 6


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """A face in an image, in its pixels: x grows to the right, y downwards, the first pixel's centre is (0.5, 0.5).

    Attributes:
        score: How sure the detector is, 0..1.
        box: float64 (2, 2): the upper left and the lower right corner, about forehead to chin.
        points: float64 (6, 2): the eye on the left of an upright face, that on the right, the tip of the nose, the
            middle of the mouth, the ear on the left and that on the right.
    """

    score: float
    box: NDArray[np.float64]
    points: NDArray[np.float64]

    @property
    def eye_distance(self) -> float:
        """Between the eyes, in pixels."""
        return float(np.hypot(*(self.points[1] - self.points[0])))


class Detector:
    """A detector in its runtime; for one thread at a time.

    Args:
        content: The .tflite file.
        model: What the manifest says of it.
        max_overlap: See `suppress`.
        runtime: ``litert`` or ``tflite-runtime``.
        threads: Threads of one inference.

    Raises:
        IntegrityError: ``model_refused``, or ``model_mismatch``: its tensors are not those of its kind.
        MachineError: ``runtime_missing`` or ``out_of_memory``.
    """

    def __init__(self, content: bytes, model: FaceModel, max_overlap: float, *, runtime: str, threads: int) -> None:
        self._side, self._min_score, self._max_overlap = model.size, model.min_score, max_overlap
        self._anchors = anchors(model.kind)
        count = len(self._anchors)
        outputs = (1, count, 1), (1, count, 2 * (2 + _KEYPOINTS))
        self._net = FaceNet(content, model, outputs, runtime=runtime, threads=threads)

    def detect(self, image: Image.Image, share: float = 1.0) -> list[Detection]:
        """Every face in an image, the surest first.

        Args:
            image: Of mode RGB, upright.
            share: Of the detector's side that the image's longer side takes; black is about it.

        Raises:
            MachineError: ``runtime_failed``.
        """
        ratio = share * self._side / max(image.size)
        width, height = (max(round(length * ratio), 1) for length in image.size)
        left, top = (self._side - width) // 2, (self._side - height) // 2
        square = np.zeros((self._side, self._side, 3), np.uint8)
        small = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1.5)
        square[top : top + height, left : left + width] = np.asarray(small)
        logits, raw = self._net.run(square.astype(np.float32) / np.float32(127.5) - np.float32(1.0))
        scores = logistic(logits[:, 0])
        shown = scores >= self._min_score
        scores, points = scores[shown], self._decoded(raw[shown], self._anchors[shown])
        corner, scale = np.array((left, top)), np.array(image.size) / (width, height)
        return [
            Detection(score, (own[:2] * self._side - corner) * scale, (own[2:] * self._side - corner) * scale)
            for score, own in suppress(scores, points, self._min_score, self._max_overlap)
        ]

    def _decoded(self, raw: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
        """Box and points (n, 8, 2), in units of the detector's side, of anchors with these centres (n, 2)."""
        points = raw.reshape(len(raw), 2 + _KEYPOINTS, 2) / self._side
        centre, half = points[:, 0] + centres, points[:, 1] / 2
        points[:, 2:] += centres[:, np.newaxis]
        points[:, 0], points[:, 1] = centre - half, centre + half
        return points


def logistic(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """``1 / (1 + exp(-logits))``, in 0..1."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits))


def anchors(kind: str) -> NDArray[np.float64]:
    """Centres (n, 2) of the anchors, in 0..1, in the order of the detector's output: 896 or 2,304 of them."""
    centres = []
    for cells, each in _GRIDS[kind]:
        places = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)
        centres.append(np.repeat(grid, each, axis=0))
    return np.concatenate(centres)


def suppress(
    scores: NDArray[np.float64], points: NDArray[np.float64], min_score: float, max_overlap: float
) -> list[tuple[float, NDArray[np.float64]]]:
    """Non-maximum suppression: of boxes that overlap their mean, weighted by the scores, with the highest score.

    Args:
        scores: (n,).
        points: (n, m, 2), the corners of the box first.
        min_score: Boxes below are passed over.
        max_overlap: Intersection over union above which two boxes are of the same face.

    Returns:
        Score and points (m, 2) of each face, the surest first.
    """
    shown = np.flatnonzero((scores >= min_score) & (points[:, 1] > points[:, 0]).all(axis=1))
    order = shown[np.argsort(-scores[shown], kind="stable")]
    scores, points = scores[order], points[order]
    faces = []
    while len(scores):
        alike = overlaps(points[0, :2], points[:, :2]) > max_overlap
        alike[0] = True
        weights = scores[alike] / scores[alike].sum()
        faces.append((float(scores[0]), np.tensordot(weights, points[alike], axes=1)))
        scores, points = scores[~alike], points[~alike]
    return faces


def overlaps(one: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union (n,) of a box (2, 2) and others (n, 2, 2), by their corners."""
    shared = np.clip(np.minimum(one[1], others[:, 1]) - np.maximum(one[0], others[:, 0]), 0.0, None).prod(axis=1)
    areas = (others[:, 1] - others[:, 0]).prod(axis=1) + (one[1] - one[0]).prod()
    return np.asarray(shared / (areas - shared))

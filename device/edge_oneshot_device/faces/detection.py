"""Face detection: BlazeFace (Bazarevsky et al. 2019), with its own weights; its outputs are decoded here."""

import math
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.bundle.face_section import FaceKind, FaceModel
from edge_oneshot_device.faces.interpreter import FaceNet

# Per kind: side of a cell of each grid in pixels, anchors per cell; from MediaPipe's face_detection graphs.
_GRIDS: Final = {"blazeface-short": ((8, 2), (16, 6)), "blazeface-full": ((4, 1),)}
_SIDES: Final = {"blazeface-short": 128, "blazeface-full": 192}  # pixels of the inputs, from their model cards
_KEYPOINTS: Final = 6


class Detection(msgspec.Struct, frozen=True, eq=False):
    """A face in an image, in pixels: x grows to the right, y downwards, the first pixel's centre is (0.5, 0.5).

    Attributes:
        score: The detector's confidence, 0..1.
        box: float64 (2, 2): the upper left and the lower right corner, from about the forehead to the chin.
        points: float64 (6, 2): the left and the right eye as seen in the image, the tip of the nose, the middle of the
            mouth, the left and the right ear.
    """

    score: float
    box: NDArray[np.float64]
    points: NDArray[np.float64]

    @property
    def eye_distance(self) -> float:
        """Distance between the eyes, in pixels."""
        return float(np.hypot(*(self.points[1] - self.points[0])))


class Detector:
    """A BlazeFace detector in its runtime; for one thread at a time.

    The net's input has the size that its file was made for. The manifest says how large an image is shown in it:
    as large as the input, or smaller in earlier bundles, with black around it.

    Args:
        content: The .tflite file.
        model: What the manifest says of it.
        max_overlap: See `suppress`.
        runtime: ``litert`` or ``tflite-runtime``.
        threads: Threads of one inference.

    Attributes:
        side: Width and height of the net's input, in pixels.
        shown: Longer side of the image in it, in pixels.

    Raises:
        IntegrityError: ``model_refused``, or ``model_mismatch``: the file's tensors are not those of its kind.
        MachineError: ``runtime_missing`` or ``out_of_memory``.
    """

    def __init__(self, content: bytes, model: FaceModel, max_overlap: float, *, runtime: str, threads: int) -> None:
        self.side = _SIDES[model.kind]
        self.shown = min(model.size, self.side)
        self._max_overlap = max_overlap
        self._min_logit = math.log(model.min_score / (1.0 - model.min_score))
        self._anchors = anchors(model.kind)
        shapes = (
            (1, self.side, self.side, 3),
            (1, len(self._anchors), 1),
            (1, len(self._anchors), 2 * (2 + _KEYPOINTS)),
        )
        self._net = FaceNet(content, model.file, shapes, low=-1.0, runtime=runtime, threads=threads)

    def detect(self, image: Image.Image, share: float = 1.0) -> list[Detection]:
        """Every face in an image, in descending order of the score.

        Args:
            image: RGB image, upright.
            share: The part of `shown` that the image's longer side takes, 0..1; the rest of the input is black.

        Returns:
            Detections in pixels of the image.

        Raises:
            MachineError: ``runtime_failed``.
        """
        ratio = share * self.shown / max(image.size)
        width, height = (max(round(length * ratio), 1) for length in image.size)
        left, top = (self.side - width) // 2, (self.side - height) // 2
        square = np.zeros((self.side, self.side, 3), np.uint8)
        square[top : top + height, left : left + width] = np.asarray(_subsampled(image, width, height))
        corner, scale = np.array((left, top)), np.array(image.size) / (width, height)
        return [
            Detection(one.score, (one.box - corner) * scale, (one.points - corner) * scale)
            for one in self.detect_within(square)
        ]

    def detect_within(self, square: NDArray[np.uint8]) -> list[Detection]:
        """Every face in the net's input, in descending order of the score.

        Args:
            square: uint8 (side, side, 3).

        Returns:
            Detections in pixels of `square`.

        Raises:
            MachineError: ``runtime_failed``.
        """
        logits, raw = self._net.run(square)
        likely = np.flatnonzero(logits[:, 0] >= self._min_logit)
        scores, points = logistic(logits[likely, 0]), _decode_boxes(raw[likely], self._anchors[likely])
        return [Detection(score, own[:2], own[2:]) for score, own in suppress(scores, points, 0.0, self._max_overlap)]


def _decode_boxes(raw: NDArray[np.float32], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Box and points (n, 8, 2) in pixels of the net's input, from its outputs (n, 16) and anchor centres (n, 2)."""
    points = raw.reshape(len(raw), 2 + _KEYPOINTS, 2).astype(np.float64)
    centre, half = points[:, 0] + centres, points[:, 1] / 2
    points[:, 2:] += centres[:, np.newaxis]
    points[:, 0], points[:, 1] = centre - half, centre + half
    return points


def _subsampled(image: Image.Image, width: int, height: int) -> Image.Image:
    """A larger image, averaged by a whole number and then subsampled, which is fast and good enough for the finder."""
    factor = max(image.size) // max(width, height)
    if factor < 2:
        return image.resize((width, height), Image.Resampling.BILINEAR)
    return image.reduce(factor).resize((width, height), Image.Resampling.NEAREST)


def logistic(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """``1 / (1 + exp(-logits))``, in 0..1."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits.astype(np.float64)))


def anchors(kind: FaceKind) -> NDArray[np.float64]:
    """Centres (n, 2) of a detector's anchors, in pixels of its input, in the order of its outputs."""
    centres = []
    for cell, each in _GRIDS[kind]:
        places = (np.arange(_SIDES[kind] // cell) + 0.5) * cell
        centres.append(np.repeat(np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2), each, axis=0))
    return np.concatenate(centres)


def suppress(
    scores: NDArray[np.float64], points: NDArray[np.float64], min_score: float, max_overlap: float
) -> list[tuple[float, NDArray[np.float64]]]:
    """Non-maximum suppression: overlapping boxes become their mean, weighted by the scores, with the highest score.

    Args:
        scores: float64 (n,).
        points: float64 (n, m, 2), the corners of the box first.
        min_score: Boxes with a lower score are ignored.
        max_overlap: Intersection over union above which two boxes belong to the same face.

    Returns:
        Score and points (m, 2) of each face, in descending order of the score.
    """
    shown = np.flatnonzero((scores >= min_score) & (points[:, 1] > points[:, 0]).all(axis=1))
    order = shown[np.argsort(-scores[shown], kind="stable")]
    scores, points = scores[order], points[order]
    faces = []
    while len(scores):
        alike = overlaps(points[0, :2], points[:, :2]) > max_overlap
        alike[0] = True
        weights = scores[alike] / scores[alike].sum()
        faces.append((float(scores[0]), (weights @ points[alike].reshape(len(weights), -1)).reshape(points.shape[1:])))
        scores, points = scores[~alike], points[~alike]
    return faces


def overlaps(one: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of a box with others.

    Args:
        one: float64 (2, 2), the corners of the box.
        others: float64 (n, 2, 2), the corners of the other boxes.

    Returns:
        float64 (n,), in 0..1.
    """
    shared = np.maximum(np.minimum(one[1], others[:, 1]) - np.maximum(one[0], others[:, 0]), 0.0)
    sides, own = others[:, 1] - others[:, 0], one[1] - one[0]
    both = shared[:, 0] * shared[:, 1]
    return np.asarray(both / (sides[:, 0] * sides[:, 1] + own[0] * own[1] - both))

"""Finding faces: BlazeFace (Bazarevsky et al. 2019), run with its own weights and decoded here."""

import math
import struct
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.bundle.manifest import FaceModel
from edge_oneshot_device.faces.interpreter import FaceNet

# Per kind the side in pixels of a cell of each grid, and its anchors; from MediaPipe's face_detection graphs.
_GRIDS: Final = {"blazeface-short": ((8, 2), (16, 6)), "blazeface-full": ((4, 1),)}
_SIDES: Final = {"blazeface-short": 128, "blazeface-full": 192}  # of the inputs that their files are made for
_KEYPOINTS: Final = 6
_STEP: Final = 32  # pixels that a side is a multiple of
_NARROWEST: Final = 96


class Detection(msgspec.Struct, frozen=True, eq=False):
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
        self._content, self._model, self._max_overlap = content, model, max_overlap
        self._runtime, self._threads = runtime, threads
        self._least = math.log(model.min_score / (1.0 - model.min_score))
        self._nets: dict[tuple[int, int], tuple[FaceNet, NDArray[np.float64]]] = {}
        self._net(model.size, model.size)

    def detect(self, image: Image.Image, share: float = 1.0) -> list[Detection]:
        """Every face in an image, the surest first.

        Args:
            image: Of mode RGB, upright.
            share: Of the detector's side that the image's longer side takes; black is about it.

        Raises:
            MachineError: ``runtime_failed``.
        """
        ratio = share * self._model.size / max(image.size)
        width, height = (max(round(length * ratio), 1) for length in image.size)
        columns, rows = self._room(*(round(length / share) for length in (width, height)))
        left, top = (columns - width) // 2, (rows - height) // 2
        shown = np.zeros((rows, columns, 3), np.uint8)
        shown[top : top + height, left : left + width] = np.asarray(_thinned(image, width, height))
        corner, scale = np.array((left, top)), np.array(image.size) / (width, height)
        return [
            Detection(one.score, (one.box - corner) * scale, (one.points - corner) * scale)
            for one in self.detect_within(shown)
        ]

    def detect_within(self, shown: NDArray[np.uint8]) -> list[Detection]:
        """Every face in what the net is shown, in its pixels, the surest first.

        Args:
            shown: uint8 (side, side, 3), or what `detect` makes of a narrow image.

        Raises:
            MachineError: ``runtime_failed``.
        """
        net, places = self._net(shown.shape[1], shown.shape[0])
        logits, raw = net.run(shown)
        sure = np.flatnonzero(logits[:, 0] >= self._least)
        scores, points = logistic(logits[sure, 0]), self._decoded(raw[sure], places[sure])
        return [Detection(score, own[:2], own[2:]) for score, own in suppress(scores, points, 0.0, self._max_overlap)]

    def _room(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the smallest input that has room for an image of this size."""
        side, kind = self._model.size, self._model.kind
        if kind != "blazeface-full":
            return side, side
        columns, rows = (min(max(-(-length // _STEP) * _STEP, _NARROWEST), side) for length in (width, height))
        known = (columns, rows) in self._nets or resized(self._content, kind, columns, rows) is not None
        return (columns, rows) if known else (side, side)

    def _net(self, width: int, height: int) -> tuple[FaceNet, NDArray[np.float64]]:
        """The net for an input of this size, opened where it was not yet, and its anchors."""
        if (width, height) not in self._nets:
            content = resized(self._content, self._model.kind, width, height) or self._content
            places = anchors(self._model.kind, width, height)
            shapes = (1, height, width, 3), (1, len(places), 1), (1, len(places), 2 * (2 + _KEYPOINTS))
            net = FaceNet(content, self._model.file, shapes, low=-1.0, runtime=self._runtime, threads=self._threads)
            self._nets[width, height] = net, places
        return self._nets[width, height]

    @staticmethod
    def _decoded(raw: NDArray[np.float32], centres: NDArray[np.float64]) -> NDArray[np.float64]:
        """Box and points (n, 8, 2), in pixels of the net's input, of anchors with these centres (n, 2)."""
        points = raw.reshape(len(raw), 2 + _KEYPOINTS, 2).astype(np.float64)
        centre, half = points[:, 0] + centres, points[:, 1] / 2
        points[:, 2:] += centres[:, np.newaxis]
        points[:, 0], points[:, 1] = centre - half, centre + half
        return points


def _thinned(image: Image.Image, width: int, height: int) -> Image.Image:
    """A larger image averaged by a whole number and then thinned out, which is fast and enough for a first look."""
    factor = max(image.size) // max(width, height)
    if factor < 2:
        return image.resize((width, height), Image.Resampling.BILINEAR)
    return image.reduce(factor).resize((width, height), Image.Resampling.NEAREST)


def logistic(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """``1 / (1 + exp(-logits))``, in 0..1."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits.astype(np.float64)))


def anchors(kind: str, width: int, height: int) -> NDArray[np.float64]:
    """Centres (n, 2) of the anchors, in pixels of an input of this size, in the order of the detector's output."""
    centres = []
    for side, each in _GRIDS[kind]:
        places = ((np.arange(length // side) + 0.5) * side for length in (width, height))
        centres.append(np.repeat(np.stack(np.meshgrid(*places), axis=-1).reshape(-1, 2), each, axis=0))
    return np.concatenate(centres)


def resized(content: bytes, kind: str, width: int, height: int) -> bytes | None:
    """A detector's file for an input of another size, which spares time.

    They are convolutional throughout: the same weights serve any multiple of 32 pixels, once the constants
    that say how large the input, the outputs and what is enlarged within are say another size.

    Returns:
        The content as it is for its own size; None where the file is not laid out as MediaPipe's, or a side is
        no such multiple.
    """
    side = _SIDES[kind]
    if width == height == side:
        return content
    if width % _STEP or height % _STEP:
        return None
    for before, after in zip(_sizes(kind, side, side), _sizes(kind, width, height), strict=True):
        if content.count(before) != 1:
            return None
        content = content.replace(before, after)
    return content


def _sizes(kind: str, width: int, height: int) -> list[bytes]:
    """Vectors of the file that hold sizes, each of 32-bit numbers after its length: of numbers, or of bytes."""
    shape = struct.pack("<5i", 4, 1, height, width, 3)
    if kind == "blazeface-short":
        return [shape]
    cells = (width // 4) * (height // 4)
    return [
        shape,
        *(struct.pack("<4i", 3, 1, cells, values) for values in (2 * (2 + _KEYPOINTS), 1)),
        *(struct.pack("<3i", 8, height // side, width // side) for side in (16, 8, 4)),
    ]


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
        faces.append((float(scores[0]), (weights @ points[alike].reshape(len(weights), -1)).reshape(points.shape[1:])))
        scores, points = scores[~alike], points[~alike]
    return faces


def overlaps(one: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union (n,) of a box (2, 2) and others (n, 2, 2), by their corners."""
    shared = np.maximum(np.minimum(one[1], others[:, 1]) - np.maximum(one[0], others[:, 0]), 0.0)
    sides, own = others[:, 1] - others[:, 0], one[1] - one[0]
    both = shared[:, 0] * shared[:, 1]
    return np.asarray(both / (sides[:, 0] * sides[:, 1] + own[0] * own[1] - both))

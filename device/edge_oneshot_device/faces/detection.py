"""Finding faces: BlazeFace (Bazarevsky et al. 2019), run as it comes and decoded here."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.errors import IntegrityError, MachineError
from edge_oneshot_device.manifest import FaceDetector
from edge_oneshot_device.runtimes import open_tflite

# Per scheme the cells a side of each grid, and the anchors of a cell; from MediaPipe's face_detection graphs.
_GRIDS: Final = {"short-range": ((16, 2), (8, 6)), "full-range": ((48, 1),)}
_KEYPOINTS: Final = 6
_SATURATED: Final = 80.0  # the logistic function is 0 or 1 from here on, and its exponential still a number


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face in an image, in its pixels; x grows to the right, y downwards, a pixel's centre lies at a half.

    Attributes:
        score: How sure the detector is, 0..1.
        box: float64 (2, 2): the upper left and the lower right corner, about forehead to chin.
        points: float64 (6, 2): the eye to the left of the image, that to the right, the tip of the nose, the
            middle of the mouth, the ear to the left and that to the right.
    """

    score: float
    box: NDArray[np.float64]
    points: NDArray[np.float64]


class Detector:
    """A detector in its runtime; for one thread at a time.

    Args:
        content: The .tflite file.
        section: What the manifest says of it.
        runtime: ``litert`` or ``tflite-runtime``.
        threads: Threads of one inference.

    Raises:
        IntegrityError: ``model_refused``, or ``model_mismatch``: its tensors are not those of `section`.
        MachineError: ``runtime_missing`` or ``out_of_memory``.
    """

    def __init__(self, content: bytes, section: FaceDetector, *, runtime: str = "litert", threads: int = 1) -> None:
        self.section = section
        self._anchors = anchors(section.scheme)
        self._interpreter = open_tflite(content, runtime, threads)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        values = 2 * (_KEYPOINTS + 2)
        expected = [(1, section.size, section.size, 3), (1, len(self._anchors), 1), (1, len(self._anchors), values)]
        outputs = sorted(outputs, key=lambda details: int(details["shape"][-1]))
        found = [tuple(map(int, details["shape"])) for details in (*inputs, *outputs)]
        if found != expected or any(details["dtype"] != np.float32 for details in (*inputs, *outputs)):
            message = f"the face detector's tensors are {found}, expected {expected} of float32; export the bundle again"
            raise IntegrityError(message, reason="model_mismatch")
        self._input, self._scores, self._boxes = (details["index"] for details in (*inputs, *outputs))

    def detect(self, image: Image.Image) -> list[Face]:
        """Every face in an image, the surest first.

        The image is looked at whole; where nothing is found, once more at half the size, with black
        about it: a face that fills the image is too large for the detector.

        Args:
            image: Of mode RGB, upright.

        Raises:
            MachineError: ``runtime_failed``.
        """
        return self._detect(image, 1.0) or self._detect(image, 0.5)

    def _detect(self, image: Image.Image, share: float) -> list[Face]:
        """With the longer side of the image on this share of the detector's."""
        side = self.section.size
        ratio = share * side / max(image.size)
        width, height = (max(round(length * ratio), 1) for length in image.size)
        left, top = (side - width) // 2, (side - height) // 2
        square = np.zeros((1, side, side, 3), np.float32)
        small = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
        square[0, top : top + height, left : left + width] = np.asarray(small)
        square[0] = square[0] / np.float32(127.5) - np.float32(1.0)
        scores, points = self._run(square)
        scale = np.array(image.size) / (width, height)
        return [
            Face(score, (own[:2] * side - (left, top)) * scale, (own[2:] * side - (left, top)) * scale)
            for score, own in suppress(scores, points, self.section.min_score, self.section.max_overlap)
        ]

    def _run(self, values: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Score (n,) of each anchor, and its box and points (n, 8, 2) in units of the detector's side."""
        try:
            self._interpreter.set_tensor(self._input, values)
            self._interpreter.invoke()
            logits = self._interpreter.get_tensor(self._scores)[0, :, 0].astype(np.float64)
            raw = self._interpreter.get_tensor(self._boxes)[0].astype(np.float64)
        except (ValueError, RuntimeError) as error:
            raise MachineError(f"the face detector failed to run: {error}", reason="runtime_failed") from error
        scores = 1.0 / (1.0 + np.exp(-np.clip(logits, -_SATURATED, _SATURATED)))
        points = raw.reshape(len(raw), -1, 2) / self.section.size
        centre, half = points[:, 0] + self._anchors, points[:, 1] / 2
        points[:, 2:] += self._anchors[:, np.newaxis]
        points[:, 0], points[:, 1] = centre - half, centre + half
        return scores, points


def anchors(scheme: str) -> NDArray[np.float64]:
    """Centres (n, 2) of the anchors, in 0..1, in the order of the detector's output: 896 or 2,304 of them."""
    centres = []
    for cells, each in _GRIDS[scheme]:
        places = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)
        centres.append(np.repeat(grid, each, axis=0))
    return np.concatenate(centres)


def suppress(
    scores: NDArray[np.float64], points: NDArray[np.float64], min_score: float, max_overlap: float
) -> list[tuple[float, NDArray[np.float64]]]:
    """Non-maximum suppression: the surest box of those that overlap, as the mean of all, by their scores.

    Args:
        scores: (n,).
        points: (n, m, 2), the corners of the box first.
        min_score: Boxes below are passed over.
        max_overlap: Intersection over union above which two boxes are of the same face.

    Returns:
        Score and points (m, 2) of each face, the surest first.
    """
    shown = (scores >= min_score) & (points[:, 1] > points[:, 0]).all(axis=1)
    order = np.flatnonzero(shown)[np.argsort(-scores[shown], kind="stable")]
    scores, points = scores[order], points[order]
    faces = []
    while len(scores):
        alike = _overlaps(points[0], points) > max_overlap
        alike[0] = True
        weights = scores[alike] / scores[alike].sum()
        faces.append((float(scores[0]), np.tensordot(weights, points[alike], axes=1)))
        scores, points = scores[~alike], points[~alike]
    return faces


def _overlaps(one: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union (n,) of a box and others, by their corners."""
    shared = np.clip(np.minimum(one[1], others[:, 1]) - np.maximum(one[0], others[:, 0]), 0.0, None).prod(axis=1)
    areas = (others[:, 1] - others[:, 0]).prod(axis=1) + (one[1] - one[0]).prod()
    return np.asarray(shared / (areas - shared))

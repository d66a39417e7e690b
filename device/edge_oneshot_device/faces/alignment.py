"""Alignment: from a face in a photo to the encoder's chip, by a similarity transform onto its template."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_MARGIN: Final = 3  # pixels around the cropped part, for the support of the filters
_TILTED: Final = 0.1  # sine of the angle of the line through the eyes, from which a face is rotated upright


class Crop:
    """A square part of an image, around a face whose eyes are level in it; black where it reaches beyond the image.

    Args:
        image: RGB image.
        eyes: float64 (2, 2), the left and the right eye in pixels of the image; not in the same place.
        middle: float64 (2,), the middle of the part, likewise.
        scale: Pixels of the part per pixel of the image.
        side: Width and height of the part in its own pixels.

    Attributes:
        scale: As given.
        pixels: uint8 (side, side, 3).
    """

    def __init__(
        self, image: Image.Image, eyes: NDArray[np.float64], middle: NDArray[np.float64], scale: float, side: int
    ) -> None:
        self.scale, self._middle, self._half = scale, middle, side / 2
        x, y = (eyes[1] - eyes[0]) / np.hypot(*(eyes[1] - eyes[0]))
        if abs(y) < _TILTED and x > 0.0:
            self._axes = np.eye(2) / scale
            self.pixels = cut_square(image, middle - self._half / scale, scale, side)
            return
        turn = np.array([(x, y), (-y, x)])
        self._axes = turn / scale
        matrix = np.column_stack([turn * scale, self._half - turn @ middle * scale])
        self.pixels = cut_chip(image, matrix, side, side)

    def places(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (n, 2) of the part as points of the image."""
        return (points - self._half) @ self._axes + self._middle


def similarity_transform(points: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation, scale and translation that map points closest to places, by least squares (Umeyama 1991).

    Args:
        points: float64 (n, 2), at least two, not all equal.
        places: float64 (n, 2), the target of each point.

    Returns:
        float64 (2, 3): a point is mapped to ``matrix[:, :2] @ point + matrix[:, 2]``.
    """
    middle, aim = points.mean(axis=0), places.mean(axis=0)
    # for complex numbers, rotation and scale are one factor
    own, wanted = ((part[:, 0] + 1j * part[:, 1]) for part in (points - middle, places - aim))
    factor = complex(np.vdot(own, wanted) / np.vdot(own, own).real)
    turn = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([turn, aim - turn @ middle])


def cut_chip(image: Image.Image, matrix: NDArray[np.float64], width: int, height: int) -> NDArray[np.uint8]:
    """Cut the chip that a transform makes of an image; black where the chip reaches beyond the image.

    A face of at least twice the chip's size is averaged down by a whole factor first, so that it does not alias; the
    rest of the transform is bilinear.

    Args:
        image: RGB image.
        matrix: float64 (2, 3), from pixels of the image to pixels of the chip, see `similarity_transform`.
        width: Of the chip, in pixels.
        height: Of the chip, in pixels.

    Returns:
        uint8 (height, width, 3).
    """
    back = np.linalg.inv(np.vstack([matrix, (0.0, 0.0, 1.0)]))[:2]
    corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)]) @ back.T
    factor = max(int(1.0 / math.hypot(*matrix[:, 0])), 1)
    reach = _MARGIN * factor
    low = np.maximum(np.floor(corners.min(axis=0) - reach), 0.0)
    high = np.minimum(np.ceil(corners.max(axis=0) + reach), image.size)
    if not (high > low).all():
        return np.zeros((height, width, 3), np.uint8)
    part = image.crop((low[0], low[1], high[0], high[1]))
    if factor > 1:
        part = part.reduce(factor)
    rows = np.column_stack([back[:, :2], back[:, 2] - low]) / factor
    chip = part.transform(
        (width, height), Image.Transform.AFFINE, tuple(rows.ravel().tolist()), Image.Resampling.BILINEAR
    )
    return np.array(chip, dtype=np.uint8)


def cut_square(image: Image.Image, corner: NDArray[np.float64], scale: float, side: int) -> NDArray[np.uint8]:
    """Cut an upright square from an image and scale it; black where the square reaches beyond the image.

    It is several times as fast as `cut_chip`, whose transforms may rotate.

    Args:
        image: RGB image.
        corner: float64 (2,), the upper left corner in pixels of the image.
        scale: Pixels of the square per pixel of the image.
        side: Width and height of the square in its own pixels.

    Returns:
        uint8 (side, side, 3).
    """
    square = np.zeros((side, side, 3), np.uint8)
    # range of the pixels of the square that lie in the image as a whole
    low = np.ceil(np.clip(-corner * scale, 0.0, side)).astype(int)
    high = np.floor(np.clip((image.size - corner) * scale, 0.0, side)).astype(int)
    if (high > low).all():
        (left, upper), (right, lower) = low.tolist(), high.tolist()
        ends = np.clip([corner + low / scale, corner + high / scale], 0.0, image.size)
        box = tuple(ends.ravel().tolist())
        part = image.resize((right - left, lower - upper), Image.Resampling.BILINEAR, box, reducing_gap=1.0)
        square[upper:lower, left:right] = np.asarray(part)
    return square

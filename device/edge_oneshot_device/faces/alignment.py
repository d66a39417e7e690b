"""From a face in a photo to the encoder's chip: a similarity transform onto its template."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_MARGIN: Final = 3  # pixels about the part that is cut out, which the filters reach into


def similarity_transform(points: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The turn, scale and shift that bring points closest to places, by least squares (Umeyama 1991).

    Args:
        points: (n, 2), two or more, not all the same.
        places: (n, 2), where they belong.

    Returns:
        (2, 3): a place is ``matrix[:, :2] @ point + matrix[:, 2]``.
    """
    middle, aim = points.mean(axis=0), places.mean(axis=0)
    # as complex numbers a turn with a scale is one factor
    own, wanted = ((part[:, 0] + 1j * part[:, 1]) for part in (points - middle, places - aim))
    factor = complex(np.vdot(own, wanted) / np.vdot(own, own).real)
    turn = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([turn, aim - turn @ middle])


def cut_chip(image: Image.Image, matrix: NDArray[np.float64], width: int, height: int) -> NDArray[np.uint8]:
    """The chip that a transform makes of an image; black where it reaches beyond it.

    A face of twice the chip's size or more is averaged down by a whole number first; the rest of the
    transform is bilinear. dlib, whose chips the encoder was trained on, halves and goes on likewise.

    Args:
        image: Of mode RGB.
        matrix: From pixels of the image to pixels of the chip, see `similarity_transform`.
        width: Of the chip.
        height: Likewise.

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
    """An upright square of an image, scaled; black where it reaches beyond it.

    Several times as fast as `cut_chip`, whose transforms may turn.

    Args:
        image: Of mode RGB.
        corner: float64 (2,), the upper left one in pixels of the image.
        scale: Pixels of the square for one of the image.
        side: Of the square in its own pixels.

    Returns:
        uint8 (side, side, 3).
    """
    square = np.zeros((side, side, 3), np.uint8)
    # whole pixels of the square, of which all of each lies in the image
    low = np.ceil(np.clip(-corner * scale, 0.0, side)).astype(int)
    high = np.floor(np.clip((image.size - corner) * scale, 0.0, side)).astype(int)
    if (high > low).all():
        (left, upper), (right, lower) = low.tolist(), high.tolist()
        ends = np.clip([corner + low / scale, corner + high / scale], 0.0, image.size)
        box = tuple(ends.ravel().tolist())
        part = image.resize((right - left, lower - upper), Image.Resampling.BILINEAR, box, reducing_gap=1.0)
        square[upper:lower, left:right] = np.asarray(part)
    return square

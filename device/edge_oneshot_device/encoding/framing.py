"""The square around a drawing: its place and size on the paper should not matter."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.encoding.eight_bit import MAX_PIXELS

Box = tuple[float, float, float, float]


def frame_ink(image: Image.Image) -> tuple[Image.Image, Box]:
    """Find the square around a drawing, so that its place and size on the paper do not matter.

    Ink is what is darker than the middle between the darkest and the lightest pixel. With the bounding box alone one
    stray stroke would move all of the rest, so the mass of the ink counts as much (moment normalisation, Casey 1970).
    The square's centre lies half-way between the centres of the box and of the mass. Its side is 5/8 of the sum of the
    box's longer side and three times the spread of the mass (root mean square distance from its centre), but at least
    5/8 of the image's longer side, so that a dot stays small, and large enough to hold all ink. Pixels outside the
    image are as light as its lightest pixel. Centre and side are integers in 1/16 of a pixel, the same on every
    machine. When the square would have more than `MAX_PIXELS`, as for a long thin strip, the image is halved first.

    Args:
        image: Image of mode L or RGB.

    Returns:
        The image, padded where the square reaches beyond it, and the square in it (left, top, right, bottom), whose
        edges lie between pixels. An image of a single level comes back as it is, with its own borders.
    """
    grey = np.asarray(image.convert("L"))
    darkest, lightest = int(grey.min()), int(grey.max())
    ink = grey < (darkest + lightest + 1) // 2
    # the narrowest dtype that holds the counts makes this four times as fast as count_nonzero
    counts = np.min_scalar_type(max(ink.shape))
    across, down = (np.add.reduce(ink, axis=axis, dtype=counts) for axis in (0, 1))
    if not across.any():
        return image, (0.0, 0.0, float(image.width), float(image.height))
    left, right, x, square_x = _profile(across)
    top, bottom, y, square_y = _profile(down)
    mass = int(across.sum())
    spread = math.isqrt(mass * (square_x + square_y) - x * x - y * y)  # times the mass
    middles = [4 * (left + right) + 8 * x // mass + 4, 4 * (top + bottom) + 8 * y // mass + 4]
    reach = max(max(middle - 16 * low, 16 * high - middle) for middle, low, high in
                zip(middles, (left, top), (right, bottom), strict=True))  # fmt: skip
    side = max(10 * (max(right - left, bottom - top) * mass + 3 * spread) // mass, 10 * max(image.size), 2 * reach)
    if side * side > MAX_PIXELS << 8:
        return frame_ink(image.reduce(2))
    starts = [middle - side // 2 for middle in middles]
    margins = [-(start >> 4) for start in starts]
    width, height = (((start + side + 15) >> 4) + margin for start, margin in zip(starts, margins, strict=True))
    paper = Image.new(image.mode, (width, height), (lightest,) * len(image.getbands()))
    paper.paste(image, (margins[0], margins[1]))
    near, upper = (start / 16 + margin for start, margin in zip(starts, margins, strict=True))
    return paper, (near, upper, near + side / 16, upper + side / 16)


def _profile(counts: NDArray[np.unsignedinteger]) -> tuple[int, int, int, int]:
    """First index with ink, the index behind the last, and sums of the indices and of their squares over all ink."""
    indices = np.arange(len(counts))
    inked = np.flatnonzero(counts)
    return int(inked[0]), int(inked[-1]) + 1, int(counts @ indices), int(counts @ (indices * indices))

"""Augmentation: random orientation, pose, elastic distortion, stroke width and light of training images.

Images arrive at twice the encoder's resolution and are averaged down as they are warped. An image that is not varied
comes out as sharp as one that the device's preprocessing made.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from edge_oneshot.training.options import Orientations

OVERSAMPLING = 2
_ELASTIC_GRID = 6


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How much training images vary. Lengths are fractions of the image's side.

    Attributes:
        orientations: 1: images stay upright. 4: each rotation of an identity by 90 degrees is a class of its own,
            as in Santoro et al. 2016. 8: so is each rotation of its mirror image. 16: so are all of these turned by
            45 degrees, and framed again by their ink if they are on paper. More than 1 is only for images without a
            natural upright.
        degrees: Largest rotation.
        zoom, shear, shift: Largest relative change of size (each axis), shear, translation.
        elastic: Standard deviation of a smooth displacement field.
        stroke: Share of images whose dark strokes are made thicker or thinner.
        light: Largest relative change of contrast, and of brightness.
        mirror: Whether half of the images are mirrored; a mirrored image stays in its class.
        paper: Whether white paper surrounds the image; otherwise its border pixels are repeated.
    """

    orientations: Orientations
    degrees: float
    zoom: float
    shear: float
    shift: float
    elastic: float
    stroke: float
    light: float
    mirror: bool
    paper: bool


DRAWINGS = Augmentation(
    orientations=4,
    degrees=10.0,
    zoom=0.15,
    shear=0.10,
    shift=0.08,
    elastic=0.025,
    stroke=0.4,
    light=0.0,
    mirror=False,
    paper=True,
)
PHOTOS = Augmentation(
    orientations=1,
    degrees=8.0,
    zoom=0.10,
    shear=0.05,
    shift=0.05,
    elastic=0.0,
    stroke=0.0,
    light=0.25,
    mirror=True,
    paper=False,
)


def augment(
    images: npt.NDArray[np.uint8],
    orientations: npt.NDArray[np.int64],
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """A random variation of each image.

    Args:
        images: (n, 2h, 2w, c), 0..255.
        orientations: (n,), below ``augmentation.orientations``: quarter turns, from 4 on of the mirror image;
            from 8 on the same after a turn by 45 degrees.
        augmentation: How much the images vary.
        rng: Source of randomness; the same state gives the same result.

    Returns:
        (n, h, w, c), 0..255.
    """
    count, height, width, channels = images.shape
    slanted, orientations = orientations >= 8, orientations % 8
    mirrored = orientations >= 4
    if augmentation.mirror:
        mirrored = mirrored ^ (rng.random(count) < 0.5)
    x, y = _warps(height // OVERSAMPLING, width // OVERSAMPLING, orientations % 4, mirrored, augmentation, rng)
    border = cv2.BORDER_CONSTANT if augmentation.paper else cv2.BORDER_REPLICATE
    strokes = np.where(rng.random(count) < augmentation.stroke, rng.integers(len(_STROKES), size=count), -1)
    result = np.empty((count, *x.shape[1:], channels), np.uint8)
    for number, stroke in enumerate(strokes):
        image = images[number]
        if slanted[number]:
            image = _turned(image, 45.0, augmentation.paper)
        if stroke >= 0:
            change, pen = _STROKES[stroke]
            image = change(image, pen)
        warped = cv2.remap(
            image, x[number], y[number], cv2.INTER_LINEAR, borderMode=border, borderValue=(255.0, 255.0, 255.0, 255.0)
        )
        result[number] = warped.reshape(result.shape[1:])
    if augmentation.light:
        contrast = 1.0 + rng.uniform(-augmentation.light, augmentation.light, (count, 1, 1, 1))
        brightness = 255.0 * rng.uniform(-augmentation.light, augmentation.light, (count, 1, 1, 1))
        result = np.clip((result - 127.5) * contrast + 127.5 + brightness, 0.0, 255.0).round().astype(np.uint8)
    return result


# eroding the bright paper makes the ink thicker
_STROKES = tuple(
    (change, pen)
    for change in (cv2.erode, cv2.dilate)
    for pen in (np.ones((2, 2), np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
)


def _turned(image: npt.NDArray[np.uint8], degrees: float, paper: bool) -> npt.NDArray[np.uint8]:
    """The image turned about its middle; on paper, the ink keeps its middle and size, as if it were framed again."""
    height, width, _ = image.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    ink = np.argwhere(image.min(axis=2) < 128)[:, ::-1]
    if paper and len(ink):
        middle, size = _framed(ink)
        turned, turned_size = _framed(ink @ matrix[:, :2].T)
        scale = size / max(turned_size, 1.0)
        matrix[:, :2] = scale * matrix[:, :2]
        matrix[:, 2] = middle - scale * turned
    border = cv2.BORDER_CONSTANT if paper else cv2.BORDER_REPLICATE
    result = cv2.warpAffine(image, matrix, (width, height), borderMode=border, borderValue=(255.0, 255.0, 255.0, 255.0))
    return np.asarray(result, np.uint8).reshape(image.shape)


def _framed(ink: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.float64], float]:
    """The middle of the square that `frame_ink` would cut about points (n, 2), and a size in proportion to its side."""
    low, high, centroid = ink.min(axis=0), ink.max(axis=0), ink.mean(axis=0)
    spread = np.sqrt(ink.var(axis=0).sum())
    return ((low + high) / 2 + centroid) / 2, float((high - low).max() + 3 * spread)


def _warps(
    height: int,
    width: int,
    quarter_turns: npt.NDArray[np.int64],
    mirrored: npt.NDArray[np.bool_],
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Source x and y (n, height, width) of each target pixel: a smooth displacement, then an affine map."""
    count = len(quarter_turns)
    linear = _matrices(quarter_turns * np.float64(np.pi / 2)).round()
    linear[:, :, 0] *= np.where(mirrored, -1.0, 1.0)[:, None]
    shear = np.tile(np.eye(2), (count, 1, 1))
    shear[:, 0, 1], shear[:, 1, 0] = rng.uniform(-augmentation.shear, augmentation.shear, (2, count))
    zoom = np.exp(rng.uniform(-augmentation.zoom, augmentation.zoom, (count, 1, 2)))
    turn = _matrices(np.deg2rad(rng.uniform(-augmentation.degrees, augmentation.degrees, count)))
    linear = (OVERSAMPLING * linear @ (turn @ shear * zoom)).astype(np.float32)
    size = OVERSAMPLING * np.array([width, height])
    shift = rng.uniform(-augmentation.shift, augmentation.shift, (count, 2))
    offset = ((size - 1) / 2 + shift * size).astype(np.float32)
    column = np.broadcast_to(np.arange(width, dtype=np.float32) - (width - 1) / 2, (count, height, width))
    row = np.broadcast_to(np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2, (count, height, width))
    if augmentation.elastic:
        knots = rng.normal(0.0, augmentation.elastic, (2, count, _ELASTIC_GRID, _ELASTIC_GRID)).astype(np.float32)
        field = spline(_ELASTIC_GRID, height) @ knots @ spline(_ELASTIC_GRID, width).T
        column, row = column + field[0] * np.float32(width), row + field[1] * np.float32(height)
    a, b, c, d = linear.reshape(count, 4, 1, 1).swapaxes(0, 1)
    x, y = offset.T[:, :, None, None]
    return a * column + b * row + x, c * column + d * row + y


def _matrices(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    cosine, sine = np.cos(angles), np.sin(angles)
    return np.stack([cosine, -sine, sine, cosine], axis=-1).reshape(-1, 2, 2)


@lru_cache
def spline(knots: int, length: int) -> npt.NDArray[np.float32]:
    """Cubic interpolation from so many knots to `length` places, as a matrix (length, knots)."""
    return np.asarray(cv2.resize(np.eye(knots, dtype=np.float32), (knots, length), interpolation=cv2.INTER_CUBIC))

"""Random variation of training images: pose, elastic wobble, stroke width, light.

Images come in at twice the encoder's resolution, are warped there, and are averaged down, so
that a warped image is as sharp as one that the device's preprocessing made.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

OVERSAMPLING = 2
_ELASTIC_GRID = 6


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How much training images vary. Lengths are fractions of the image's side.

    Attributes:
        quarter_turns: Each rotation of an identity by 90 degrees is an identity of its own, as
            in Santoro et al. 2016; only for images without a natural upright.
        degrees: Largest rotation.
        zoom, shear, shift: Largest relative change of size (each axis), shear, translation.
        elastic: Standard deviation of a smooth displacement field.
        stroke: Share of images whose dark strokes are made thicker or thinner.
        light: Largest relative change of contrast, and of brightness.
        mirror: Flip half of the images left to right.
        paper: What is outside the image: white paper, else the edge goes on.
    """

    quarter_turns: bool
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
    quarter_turns=True,
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
    quarter_turns=False,
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
PRESETS = {"drawings": DRAWINGS, "photos": PHOTOS}


def augment(image: npt.NDArray[np.uint8], how: Augmentation, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A random variation of one image.

    Args:
        image: (2h, 2w, c), 0..255.
        how: The extent of the variation.
        rng: Source of randomness; the same state gives the same result.

    Returns:
        (h, w, c), 0..255.
    """
    height, width = image.shape[:2]
    if how.mirror and rng.random() < 0.5:
        image = image[:, ::-1]
    x, y = _warp(height, width, how, rng)
    border = cv2.BORDER_CONSTANT if how.paper else cv2.BORDER_REPLICATE
    warped = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=border, borderValue=(255.0, 255.0, 255.0, 255.0))
    if how.stroke and rng.random() < how.stroke:
        change = cv2.erode if rng.random() < 0.5 else cv2.dilate  # erosion of the light is growth of the ink
        warped = change(warped, np.ones((2, 2), np.uint8) if rng.random() < 0.5 else _CROSS)
    small = cv2.resize(warped, (width // OVERSAMPLING, height // OVERSAMPLING), interpolation=cv2.INTER_AREA)
    if how.light:
        contrast, brightness = 1.0 + rng.uniform(-how.light, how.light), 255.0 * rng.uniform(-how.light, how.light)
        small = cv2.convertScaleAbs(np.clip((small - 127.5) * contrast + 127.5 + brightness, 0, 255))
    return np.asarray(small, np.uint8).reshape(height // OVERSAMPLING, width // OVERSAMPLING, image.shape[2])


_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def _warp(
    height: int, width: int, how: Augmentation, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Source coordinates of each target pixel: a random affine map about the centre, plus a smooth field."""
    angle = np.deg2rad(rng.uniform(-how.degrees, how.degrees))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, rng.uniform(-how.shear, how.shear)], [rng.uniform(-how.shear, how.shear), 1.0]])
    zoom = np.exp(rng.uniform(-how.zoom, how.zoom, 2))
    linear = turn @ shear * zoom
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = centre + rng.uniform(-how.shift, how.shift, 2) * (width, height) - linear @ centre
    column = np.arange(width, dtype=np.float32)[None, :]
    row = np.arange(height, dtype=np.float32)[:, None]
    x = (linear[0, 0] * column + linear[0, 1] * row + offset[0]).astype(np.float32)
    y = (linear[1, 0] * column + linear[1, 1] * row + offset[1]).astype(np.float32)
    if how.elastic:
        knots = rng.normal(0.0, how.elastic, (_ELASTIC_GRID, _ELASTIC_GRID, 2)).astype(np.float32)
        field = cv2.resize(knots, (width, height), interpolation=cv2.INTER_CUBIC)
        x += field[..., 0] * width
        y += field[..., 1] * height
    return x, y

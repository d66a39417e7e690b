"""A textured surface before a pinhole camera, drawn with numpy and OpenCV."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_COARSE = (2, 4)  # pixels of a frame for one of the map from it to the texture: of a head, and of a sheet
_SIDES = (4, 8, 16, 32, 64, 128)  # pixels: triangles are drawn in groups of about the same size


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """A grid of points in space with a texture.

    Attributes:
        points: float64 (rows, columns, 3) in centimetres; x to the right, y down, z away from the camera.
        places: float64 (rows, columns, 2), where in the texture each lies, in its pixels.
        two_sided: Whether it is a sheet: its back is drawn as well, and it is opaque.
    """

    points: NDArray[np.float64]
    places: NDArray[np.float64]
    two_sided: bool = False


@dataclass(frozen=True, slots=True)
class Camera:
    """Attributes: width and height of its frames in pixels, and its focal length likewise."""

    width: int = 512
    height: int = 384
    focal: float = 480.0

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixels (..., 2) of points (..., 3)."""
        middle = np.array([self.width, self.height]) / 2
        return np.asarray(points[..., :2] / points[..., 2:] * self.focal + middle)


def turn(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """A rotation (3, 3): about the image plane's normal, then to the side, then up or down; in degrees."""
    a, b, c = np.radians([yaw, pitch, roll])
    about_y = np.array([(np.cos(a), 0, np.sin(a)), (0, 1, 0), (-np.sin(a), 0, np.cos(a))])
    about_x = np.array([(1, 0, 0), (0, np.cos(b), -np.sin(b)), (0, np.sin(b), np.cos(b))])
    about_z = np.array([(np.cos(c), -np.sin(c), 0), (np.sin(c), np.cos(c), 0), (0, 0, 1)])
    return np.asarray(about_x @ about_y @ about_z)


def draw(frame: NDArray[np.float32], surface: Surface, texture: NDArray[np.uint8], camera: Camera) -> None:
    """Lay a surface over a frame, in place.

    Args:
        frame: float32 (height, width, 3), 0..255.
        surface: In the camera's space, all of it before the camera.
        texture: uint8 (h, w, 4), the last channel how opaque a head is.
        camera: What sees it; width and height are multiples of 4.
    """
    coarse = _COARSE[surface.two_sided]
    height, width = camera.height // coarse, camera.width // coarse
    at, depth = camera.project(surface.points) / coarse, surface.points[..., 2]
    corners = [(slice(a, a - 1 or None), slice(b, b - 1 or None)) for a, b in ((0, 0), (0, 1), (1, 1), (1, 0))]
    quads = [np.stack([part[corner] for corner in corners], axis=2) for part in (at, surface.places, depth)]
    pixels, places, depths = (
        np.concatenate([part[:, :, (0, 1, 2)], part[:, :, (0, 2, 3)]]).reshape(-1, 3, *part.shape[3:]) for part in quads
    )
    steps = pixels[:, 1:] - pixels[:, :1]
    area = steps[:, 0, 0] * steps[:, 1, 1] - steps[:, 0, 1] * steps[:, 1, 0]
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    shown = (np.abs(area) > 1e-6) if surface.two_sided else (area > 1e-6)
    shown &= (high > 0).all(axis=1) & (low < (width, height)).all(axis=1)
    pixels, places, depths, low, high = (part[shown] for part in (pixels, places, depths, low, high))
    found = [part for part in _covered(pixels, low, high, width, height) if len(part[0])]
    if not found:
        return
    which, x, y = (np.concatenate(parts) for parts in zip(*found, strict=True))
    steps = np.linalg.inv(pixels[:, 1:] - pixels[:, :1])
    weights = np.einsum("ni,nij->nj", np.column_stack([x, y]) + 0.5 - pixels[which, 0], steps[which])
    shares = np.column_stack([1.0 - weights.sum(axis=1), weights])
    order = np.argsort(-np.einsum("ni,ni->n", shares, depths[which]))  # the nearest is written last
    seen = np.zeros((height * width, 3), np.float32)
    known = np.einsum("ni,nij->nj", shares, places[which])
    seen[(y * width + x)[order]] = np.column_stack([known, np.ones(len(known))])[order]
    left, top, right, bottom = (int(edge) for edge in (x.min(), y.min(), x.max() + 1, y.max() + 1))
    small = seen.reshape(height, width, 3)[top:bottom, left:right]
    finer = cv2.resize(small, None, fx=coarse, fy=coarse, interpolation=cv2.INTER_LINEAR)
    covered = finer[..., 2:] > 0.5
    maps = np.where(covered, finer[..., :2] / np.maximum(finer[..., 2:], 0.5) - 0.5, -1e4).astype(np.float32)
    ratio = coarse * np.sqrt(len(known) / max(np.ptp(known[:, 0]) * np.ptp(known[:, 1]), 1.0))
    level = texture
    while ratio < 0.6 and min(level.shape[:2]) > 64:  # the texture is shrunk where it would alias
        level, ratio, maps = cv2.pyrDown(level), ratio * 2, maps / 2
    part = frame[top * coarse : bottom * coarse, left * coarse : right * coarse]
    if surface.two_sided:
        np.copyto(part, cv2.remap(level[..., :3], maps, None, cv2.INTER_LINEAR), where=covered)
        return
    colour = cv2.remap(level, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT).astype(np.float32)
    part += colour[..., 3:] / 255 * (colour[..., :3] - part)


def _covered(
    pixels: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], width: int, height: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]]:
    """Which triangle covers which pixel: index, x and y, a group of triangles of about the same size at a time."""
    first = np.floor(low - 0.5).astype(int)
    sides = (np.ceil(high) - first).max(axis=1)
    before = 0
    for side in _SIDES:
        of = np.flatnonzero((sides > before) & (sides <= side))
        before = side
        if not len(of):
            continue
        steps = np.arange(side)
        x, y = first[of, 0, None, None] + steps, first[of, 1, None, None] + steps[:, None]
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        one = pixels[of]
        signs = []
        for start, end in ((0, 1), (1, 2), (2, 0)):
            from_, to = one[:, start, :, None, None], one[:, end, :, None, None]
            signs.append(
                (to[:, 0] - from_[:, 0]) * (y + 0.5 - from_[:, 1]) - (to[:, 1] - from_[:, 1]) * (x + 0.5 - from_[:, 0])
            )
        same = (np.minimum(np.minimum(*signs[:2]), signs[2]) >= -1e-9) | (
            np.maximum(np.maximum(*signs[:2]), signs[2]) <= 1e-9
        )
        number, row, column = np.nonzero(inside & same)
        yield of[number], first[of[number], 0] + column, first[of[number], 1] + row

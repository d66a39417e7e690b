"""A photo of a face as a head in space, and as a sheet of paper."""

import random
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.interpolate import LinearNDInterpolator
from scipy.ndimage import gaussian_filter

from edge_oneshot_device.faces.alignment import cut_chip, similarity_transform
from edge_oneshot_device.faces.mesh import Mesh
from tests.campaigns.rendering.drawing import Camera, Surface, draw, turn

EYE_DISTANCE: Final = 6.3  # centimetres between the middles of the eyes of an adult, about
SIDE: Final = 512  # of a texture
EYES: Final = 96.0  # pixels of the texture between the eyes
CLOSURES: Final = (0.0, 0.35, 0.7, 1.0)  # how far the lids are closed, a texture each
NECK: Final = np.array([0.0, 7.0, 9.0])  # centimetres from between the eyes: about what a head turns
_FAR: Final = 60.0  # centimetres from which a photo is taken
_GRID: Final = 45
_SKULL: Final = 1.34  # where the head ends, in distances of the oval of the mesh from its middle
_DEPTH: Final = 7.5  # centimetres from the oval to the widest part of the head
_TIP: Final = 4  # of the nose, a point of the mesh
_BRIDGE: Final = 4.0  # centimetres from the tip of the nose up to where a ridge begins
_WIDENING: Final = 0.4  # of a ridge to either side, as it runs down
_SIDES: Final = 5.0  # centimetres beside the tip of the nose
_BEAK: Final = 3.0  # centimetres around the tip of the nose
OVAL: Final = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
# of either eye, from one corner to the other: upper lid, lower lid, lower edge of the brow
LIDS: Final = (
    ((33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133), (46, 53, 52, 65, 55)),
    (
        (362, 398, 384, 385, 386, 387, 388, 466, 263),
        (362, 382, 381, 380, 374, 373, 390, 249, 263),
        (285, 295, 282, 283, 276),
    ),
)


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """What is drawn of somebody.

    Attributes:
        name: Whom the photo shows.
        head: In centimetres, about the point between the eyes.
        faces: The texture of the head, uint8 (SIDE, SIDE, 4), by `CLOSURES`.
        photos: The same as a printed photo, opaque to its edges.
        tip: Where in these the tip of the nose is, float64 (2,).
    """

    name: str
    head: Surface
    faces: tuple[NDArray[np.uint8], ...]
    photos: tuple[NDArray[np.uint8], ...]
    tip: NDArray[np.float64]


def person_of(name: str, photo: Image.Image, face: Mesh) -> Person:
    """A person from one photo.

    Args:
        name: Whom it shows.
        photo: Of mode RGB.
        face: The mesh of the face in it.
    """
    eyes = np.array([face.points[[33, 133]].mean(axis=0), face.points[[362, 263]].mean(axis=0)])
    middle = SIDE / 2
    matrix = similarity_transform(eyes, np.array([(middle - EYES / 2, middle - 24), (middle + EYES / 2, middle - 24)]))
    upright = cut_chip(photo, matrix, SIDE, SIDE)
    places = face.points @ matrix[:, :2].T + matrix[:, 2]
    z = face.depths * np.hypot(*matrix[:, 0])
    between = np.array([middle, middle - 24])
    z -= z[[33, 133, 362, 263]].mean()
    head, opaque = _head(places, z, between)
    printed = np.dstack([upright, np.full((SIDE, SIDE), 255, np.uint8)])
    photos = tuple(_blinked(printed, places, closure) for closure in CLOSURES)
    faces = tuple(np.dstack([one[..., :3], opaque]) for one in photos)
    return Person(name, head, faces, photos, places[_TIP])


def varied(face: Mesh, numbers: random.Random) -> Mesh:
    """The mesh with depths of its own: real heads differ more than what a net computes of photos.

    Depth as a whole by 15 %, the nose by 0.15 of the distance between the eyes, and four bumps or dents of 0.05.
    """
    points = face.points
    unit = float(np.hypot(*(points[[362, 263]].mean(axis=0) - points[[33, 133]].mean(axis=0))))
    depths = face.depths * numbers.uniform(0.85, 1.15)
    bumps = [(_TIP, numbers.uniform(-0.15, 0.15), 0.25)]
    bumps += [(numbers.randrange(len(points)), numbers.gauss(0.0, 0.05), 0.4) for _ in range(4)]
    for point, height, width in bumps:
        away = np.hypot(*(points - points[point]).T) / unit
        depths = depths - unit * height * np.exp(-(away**2) / (2 * width**2))
    return Mesh(face.presence, points, depths)


def seen_from(person: Person, yaw: float) -> Person:
    """The person with photos of life size that show the head turned, in degrees, before grey."""
    camera = Camera(SIDE, SIDE, _FAR * EYES / EYE_DISTANCE)
    points = (person.head.points - NECK) @ turn(yaw, 0.0, 0.0).T + NECK + (0.0, -24.0 * EYE_DISTANCE / EYES, _FAR)
    photos = []
    for face in person.faces:
        frame = np.full((SIDE, SIDE, 3), 120, np.float32)
        draw(frame, Surface(points, person.head.places), face, camera)
        photos.append(np.dstack([frame.astype(np.uint8), np.full((SIDE, SIDE), 255, np.uint8)]))
    return Person(person.name, person.head, person.faces, tuple(photos), person.tip)


def _head(
    places: NDArray[np.float64], z: NDArray[np.float64], between: NDArray[np.float64]
) -> tuple[Surface, NDArray[np.uint8]]:
    """The surface, and how opaque the texture is: the face has the net's depth, and falls off behind its oval."""
    unit = EYE_DISTANCE / EYES
    oval = places[list(OVAL)]
    centre = oval.mean(axis=0)
    angles = np.arctan2(*(oval - centre).T[::-1])
    order = np.argsort(angles)

    def of_angle(values: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.interp(angle, angles[order], values[order], period=2 * np.pi)

    radii = np.hypot(*(oval - centre).T)
    low, high = centre - 1.3 * radii.max(), centre + 1.3 * radii.max()
    u, v = np.meshgrid(np.linspace(low[0], high[0], _GRID), np.linspace(low[1], high[1], _GRID))

    def beyond(u: NDArray[np.float64], v: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        angle = np.arctan2(v - centre[1], u - centre[0])
        return np.hypot(u - centre[0], v - centre[1]) / of_angle(radii, angle), angle

    ratio, angle = beyond(u, v)
    inner = LinearNDInterpolator(places, z)(u, v) * unit
    edge = of_angle(z[list(OVAL)], angle) * unit
    share = np.clip((ratio - 0.97) / (_SKULL - 0.97), 0.0, 1.0)
    outer = edge + _DEPTH * (1.0 - np.sqrt(1.0 - share**2))
    inside = (ratio < 0.97) & np.isfinite(inner)
    depth = np.where(inside, np.nan_to_num(inner), outer)
    depth = np.where(ratio < 0.8, depth, gaussian_filter(depth, 0.7))
    points = np.dstack([(u - between[0]) * unit, (v - between[1]) * unit, depth])
    x, y = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    edge_of_head = np.clip((_SKULL - 0.03 - beyond(x, y)[0]) / 0.06, 0.0, 1.0)
    return Surface(points, np.dstack([u, v])), (255 * edge_of_head).astype(np.uint8)


def _blinked(texture: NDArray[np.uint8], places: NDArray[np.float64], closure: float) -> NDArray[np.uint8]:
    """The texture with the upper lids drawn down over the eyes."""
    if closure == 0.0:
        return texture
    x, y = np.meshgrid(np.arange(SIDE, dtype=np.float32), np.arange(SIDE, dtype=np.float32))
    for upper, lower, brow in LIDS:
        columns = np.arange(SIDE) + 0.5
        lid, under, over = (np.interp(columns, *places[list(line)].T) for line in (upper, lower, brow))
        over = np.minimum(over + 2.0, lid - 3.0)
        between = (columns > places[upper[0], 0]) & (columns < places[upper[-1], 0])
        reached = np.where(between, lid + closure * np.maximum(under - lid + 1.5, 0.0), lid)
        stretched = over + (y - over) * (lid - over) / (reached - over)
        y = np.where((y > over) & (y < reached), stretched, y).astype(np.float32)
    return cv2.remap(texture, x, y, cv2.INTER_LINEAR)


@dataclass(frozen=True, slots=True)
class Shape:
    """What is done to a printed photo, around the tip of the nose on it; 0 is flat.

    Attributes:
        bend: One over the radius of a cylinder, per centimetre; positive: its middle is nearest.
        along: Direction that is bent or folded, in degrees: 0 from left to right, 90 from top to bottom.
        fold: Slope of both sides of a crease.
        pleat: Slope of a cone, which is what pleats from the tip to the edge make of a sheet.
        pleats: How many there are.
        oval: How much steeper the cone is in direction `along`, which two pleats allow.
        dome: One over the radius of a ball, per centimetre.
        ridge: Slope of both sides of a ridge that widens from between the eyes downwards; paper beside it stays flat.
        beak: Slope of a cone that ends 3 cm around the tip, as in crumpled paper.
        sides: Slope of what is folded back beside the face, from 5 cm beside the tip on.
        warped: Whether the print was distorted beforehand, so that from the front it looks as if it were flat.
    """

    bend: float = 0.0
    along: float = 0.0
    fold: float = 0.0
    pleat: float = 0.0
    pleats: int = 1
    oval: float = 0.0
    dome: float = 0.0
    ridge: float = 0.0
    beak: float = 0.0
    sides: float = 0.0
    warped: bool = False


def sheet(side: float, tip: NDArray[np.float64], shape: Shape, cells: int = 40) -> Surface:
    """A printed photo in space.

    Args:
        side: In centimetres.
        tip: Where in the texture the tip of the nose is, in pixels.
        shape: What is done to the paper.
        cells: Of the grid, a side.
    """
    u, v = np.meshgrid(np.linspace(0, SIDE, cells), np.linspace(0, SIDE, cells))
    x, y = (u - tip[0]) / SIDE * side, (v - tip[1]) / SIDE * side
    cosine, sine = np.cos(np.radians(shape.along)), np.sin(np.radians(shape.along))
    across, down = x * cosine + y * sine, -x * sine + y * cosine
    z = np.zeros_like(x)
    if shape.pleat:
        # a cone about the tip: the pleats, at the edges of equal sectors, hide what a cone has no room for
        sector, radius = np.pi / shape.pleats, np.hypot(across, down)
        angle = np.arctan2(down, across) % (2.0 * sector) - sector
        share = 1.0 / np.hypot(1.0, shape.pleat)
        left = np.maximum(np.abs(angle) / sector - (1.0 - share), 0.0) / share * np.sign(angle) * sector
        angle = np.arctan2(down, across) - angle + left
        slope = shape.pleat * (1.0 + shape.oval * np.cos(2.0 * angle))
        z += radius * slope / np.hypot(1.0, slope)
        across, down = (radius / np.hypot(1.0, slope) * turned(angle) for turned in (np.cos, np.sin))
    if shape.bend:
        # not further than to a half of a cylinder
        angle = np.clip(across * shape.bend, -np.pi / 2, np.pi / 2)
        straight = np.abs(across - angle / shape.bend)
        z += (1.0 - np.cos(angle)) / shape.bend + np.sign(shape.bend) * straight
        across = np.sin(angle) / shape.bend
    if shape.fold:
        z += np.abs(across) * shape.fold / np.hypot(1.0, shape.fold)
        across = across / np.hypot(1.0, shape.fold)
    if shape.sides:
        folded = np.maximum(np.abs(across) - _SIDES, 0.0)
        z += folded * shape.sides / np.hypot(1.0, shape.sides)
        across = across - np.sign(across) * folded * (1.0 - 1.0 / np.hypot(1.0, shape.sides))
    points = np.dstack([across * cosine - down * sine, across * sine + down * cosine, z])
    points[..., 2] += _crumpled(points[..., 0], points[..., 1], shape)
    places = np.dstack([u, v])
    if shape.warped:
        places = points[..., :2] * (SIDE / side) + tip
    points[..., :2] += (tip - SIDE / 2) * (side / SIDE)
    return Surface(points, places, two_sided=True)


def _crumpled(x: NDArray[np.float64], y: NDArray[np.float64], shape: Shape) -> NDArray[np.float64]:
    """Depth of what no sheet becomes without being creased all over or cut."""
    z = np.zeros_like(x)
    if shape.dome:
        radius = 1.0 / shape.dome
        z += radius - np.sqrt(np.maximum(radius**2 - np.minimum(np.hypot(x, y), 0.95 * radius) ** 2, 0.0))
    if shape.ridge:
        fallen = np.maximum(y + _BRIDGE, 0.0)  # below the point between the eyes
        z -= shape.ridge * np.maximum(_WIDENING * fallen - np.abs(x), 0.0)
    if shape.beak:
        z -= shape.beak * np.maximum(_BEAK - np.hypot(x, y), 0.0)
    return z

"""Rooms that are drawn at random, in which no face is."""

from importlib import util
from itertools import pairwise
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn import datasets

# photographs of no face
_SCENES: Final = (
    "brick.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png", "grass.png", "gravel.png", "horse.png",
    "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg",
    "text.png",
)  # fmt: skip
_SAMPLES: Final = ("china.jpg", "flower.jpg")
_TILE: Final = 1024  # pixels of the noise that is laid over a room


class Rooms:
    """Draws rooms: walls with windows, doors, shelves and pictures, or a photograph that shows no face."""

    def __init__(self) -> None:
        skimage = util.find_spec("skimage")
        assert skimage is not None, "needs scikit-image"
        folder = Path(str(skimage.origin)).parent / "data"
        scenes = [np.asarray(Image.open(folder / name).convert("RGB")) for name in _SCENES if (folder / name).exists()]
        self._scenes = [*scenes, *(datasets.load_sample_image(name) for name in _SAMPLES)]
        noise = np.random.default_rng(0).standard_normal((_TILE, _TILE), np.float32)
        self._noise = np.repeat(noise[:, :, np.newaxis], 3, axis=2)

    def draw(self, width: int, height: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """A room, uint8 (height, width, 3)."""
        room = self._scene(width, height, rng) if rng.random() < 0.4 else self._walls(width, height, rng)
        noise = np.rint(self._noise * rng.uniform(0.0, 5.0)).astype(np.int16)
        for top in range(0, height, _TILE):
            for left in range(0, width, _TILE):
                part = room[top : top + _TILE, left : left + _TILE]
                part[:] = cv2.add(part, noise[: part.shape[0], : part.shape[1]], dtype=cv2.CV_8U)
        return room

    def _scene(self, width: int, height: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """A part of a photograph, mirrored or not, at this size."""
        scene = self._scenes[rng.integers(len(self._scenes))]
        share = rng.uniform(0.5, 1.0) * min(scene.shape[1] / width, scene.shape[0] / height)
        across, down = max(int(width * share), 2), max(int(height * share), 2)
        left, top = rng.integers(scene.shape[1] - across + 1), rng.integers(scene.shape[0] - down + 1)
        part = scene[top : top + down, left : left + across, :][:, :: rng.choice((-1, 1))]
        return cv2.resize(np.ascontiguousarray(part), (width, height), interpolation=cv2.INTER_LINEAR)

    def _walls(self, width: int, height: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        light = rng.uniform(40, 220, (2, 3, 3)).astype(np.float32)  # of the wall in a few places
        blotches = rng.normal(0.0, rng.uniform(0, 12), (int(rng.integers(3, 24)), int(rng.integers(3, 24)), 1))
        wall = cv2.resize(0.5 * light + 0.5 * light.mean((0, 1)), (160, 120), interpolation=cv2.INTER_CUBIC)
        wall += cv2.resize(blotches.astype(np.float32), (160, 120), interpolation=cv2.INTER_CUBIC)[..., np.newaxis]
        room = np.clip(wall, 0, 255).astype(np.uint8)
        room = cv2.resize(room, (width, height), interpolation=cv2.INTER_LINEAR)
        floor = int(height * rng.uniform(0.6, 1.1))
        room[floor:] = room[floor:] // 2 + rng.integers(0, 100, 3).astype(np.uint8)
        for _ in range(rng.integers(2, 14)):
            across, down = (int(side * rng.uniform(0.04, 0.4)) + 2 for side in (width, height))
            left, top = int(rng.integers(width - across)), int(rng.integers(height - down))
            self._thing(room[top : top + down, left : left + across], rng)
        return room

    def _thing(self, part: NDArray[np.uint8], rng: np.random.Generator) -> None:
        """Fill a part of a room, in place: a window, a door, a shelf, a lamp, or a picture on the wall."""
        height, width = part.shape[:2]
        line = max(min(height, width) // 20, 1)
        colour, other = (tuple(rng.integers(0, 256, 3).tolist()) for _ in range(2))
        match rng.integers(5):
            case 0:
                part[:] = np.linspace(255, rng.integers(90, 255), height)[:, np.newaxis, np.newaxis].astype(np.uint8)
                cv2.line(part, (width // 2, 0), (width // 2, height), colour, line)
                cv2.line(part, (0, height // 2), (width, height // 2), colour, line)
            case 1:
                part[:] = colour
                cv2.circle(part, (width * 7 // 8, height // 2), 2 * line, other, -1)
            case 2:
                books = np.cumsum(rng.integers(line, 4 * line + 1, width // line + 2))
                for left, right in pairwise(books):
                    part[:, left:right] = rng.integers(0, 256, 3)
            case 3:
                cv2.ellipse(part, (width // 2, height // 2), (width // 3, height // 3), 0, 0, 360, colour, -1)
            case _:
                part[:] = self._scene(width, height, rng)
        cv2.rectangle(part, (0, 0), (width - 1, height - 1), other, line)

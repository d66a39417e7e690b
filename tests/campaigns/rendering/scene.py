"""A room with a camera, and the person or picture before it."""

import random
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.campaigns.rendering.acting import Pose
from tests.campaigns.rendering.drawing import Camera, Surface, draw, turn
from tests.campaigns.rendering.people import CLOSURES, EYE_DISTANCE, EYES, NECK, SIDE, Person, sheet

PRINT: Final = SIDE * EYE_DISTANCE / EYES  # centimetres: a side of a photo of life size
_BETWEEN: Final = np.array([0.0, 24.0 * EYE_DISTANCE / EYES, 0.0])  # brings the eyes of a photo to the middle


class Scene:
    """A room with a camera: background, light and noise are drawn once for each trial."""

    def __init__(self, numbers: random.Random, camera: Camera | None = None) -> None:
        self._chance = np.random.default_rng(numbers.getrandbits(64))
        self._camera = camera or Camera()
        height, width = self._camera.height, self._camera.width
        rough = self._chance.uniform(0, 255, (6, 8, 3)).astype(np.float32)
        fine = self._chance.uniform(-40, 40, (48, 64, 3)).astype(np.float32)
        self._room: NDArray[np.float32] = 0.6 * cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC) + 40
        self._room += cv2.resize(fine, (width, height), interpolation=cv2.INTER_LINEAR)
        slope = self._chance.uniform(-0.25, 0.25, 2)
        x, y = np.meshgrid(np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height))
        self._light = (
            (self._chance.uniform(0.75, 1.1) + slope[0] * x + slope[1] * y)
            .astype(np.float32)[..., None]
            .repeat(3, axis=2)
        )
        self._drift, self._phase = self._chance.uniform(0.0, 0.08), self._chance.uniform(0.0, 6.28)
        noise = np.float32(self._chance.uniform(1.5, 5.0))
        grain = noise * self._chance.standard_normal((height, width, 3), np.float32)
        self._grain = np.concatenate([grain, grain])

    def frame(self, person: Person, solid: bool, pose: Pose, seconds: float) -> Image.Image:
        """What the camera sees."""
        frame = self._room.copy()
        closure = int(np.argmin(np.abs(np.array(CLOSURES) - pose.closure)))
        rotation, at = turn(pose.yaw, pose.pitch, pose.roll), np.array([pose.x, pose.y, pose.z])
        if solid:
            points = (person.head.points - NECK) @ rotation.T + NECK + at
            draw(frame, Surface(points, person.head.places), person.faces[closure], self._camera)
        else:
            paper = sheet(PRINT * pose.size, person.tip, pose.shape)
            points = (paper.points + _BETWEEN * pose.size) @ rotation.T + at
            draw(frame, Surface(points, paper.places, two_sided=True), person.photos[closure], self._camera)
        cv2.multiply(frame, self._light, frame, 1.0 + self._drift * float(np.sin(0.9 * seconds + self._phase)))
        first = int(self._chance.integers(self._camera.height))
        frame += self._grain[first : first + self._camera.height]
        return Image.fromarray(np.clip(frame, 0, 255, out=frame).astype(np.uint8))

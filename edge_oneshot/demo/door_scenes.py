"""Frames as a door's camera sees them, composed of portraits: people and pictures that come, stay and leave."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.errors import MachineError

EXPOSURE: Final = 0.008
"""Seconds of a frame's exposure, over which motion blurs."""

# what of a portrait is the person, in distances between the eyes from the middle between them
_SIDES: Final = 2.1
_UP: Final = 2.1
_DOWN: Final = 3.0
_FADE: Final = 0.4
_FAR: Final = 0.3  # size of somebody who comes into sight, by that before the door
_COMING: Final = 0.25  # share of a visit in which they come; the last of as much is the way out
_SWAY: Final = (0.06, 0.03)  # of a standing head, in distances between the eyes, and of its size
_TREMBLE: Final = 0.02  # of a hand that holds a picture, in distances between the eyes, and in radians
_MARGIN: Final = 0.06  # of a held-up picture, white, by its width


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """A photo of one person.

    Attributes:
        picture: uint8 (h, w, 3), RGB.
        eyes: float64 (2, 2), the left and the right eye as seen in it, in pixels.
    """

    picture: NDArray[np.uint8]
    eyes: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody before the door, or a picture that is held up: comes, stays and leaves.

    Attributes:
        portrait: Whom it shows.
        start: Second at which they come into sight.
        seconds: How long they are in sight.
        near: Pixels between the eyes at the nearest.
        aside: Where they stand, from the middle, by the frame's width.
        held_up: Whether it is a printed picture.
        seed: Of the way that they move.
    """

    portrait: Portrait
    start: float
    seconds: float
    near: float = 80.0
    aside: float = 0.0
    held_up: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Light:
    """Light and noise of a scene.

    Attributes:
        gain: Brightness, 1 as the pictures have it.
        swing: How far it goes up and down within a few seconds, by the gain.
        noise: Standard deviation of the sensor's noise, in levels.
    """

    gain: float = 1.0
    swing: float = 0.08
    noise: float = 2.5


@dataclass(frozen=True, slots=True)
class _Pose:
    """Where the middle between the eyes is in the frame, in pixels, the eyes' distance, and how the head is turned."""

    x: float
    y: float
    eyes: float
    roll: float
    squeeze: float
    lean: tuple[float, float]


def play(
    visits: Sequence[Visit],
    room: NDArray[np.uint8],
    seconds: float,
    *,
    size: tuple[int, int] = (640, 480),
    frames_per_second: float = 15.0,
    light: Light | None = None,
    seed: int = 0,
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """The frames of a scene; the same for the same arguments.

    Args:
        visits: Who is in sight when; later ones stand in front.
        room: uint8 (h, w, 3), the background; where it is larger than a frame, it moves to and fro behind the people.
        seconds: Length of the scene.
        size: Width and height of a frame.
        frames_per_second: Frames a second.
        light: Light and noise.
        seed: Of the noise and the motion of the room.

    Yields:
        The second, and uint8 (height, width, 3), RGB.
    """
    light = light or Light()
    rng = np.random.default_rng(seed)
    phases = rng.uniform(0.0, 2.0 * math.pi, 3)
    width, height = size
    grain = light.noise * rng.standard_normal((height + 64, width, 3), np.float32)
    people = [(visit, _cut(visit)) for visit in visits]
    for number in range(round(seconds * frames_per_second)):
        second = number / frames_per_second
        shift = (1.0 + np.sin((0.7, 1.1) * np.array(second) + phases[:2])) / 2.0
        top, left = (shift * (room.shape[0] - height, room.shape[1] - width)).astype(int)
        frame = room[top : top + height, left : left + width].astype(np.float32)
        for visit, cut in people:
            pose, before = (_pose(visit, at, size) for at in (second, second - EXPOSURE))
            if pose is not None:
                moved = (0.0, 0.0) if before is None else (pose.x - before.x, pose.y - before.y)
                _draw(frame, cut, _matrix(visit, cut, pose), moved)
        frame *= light.gain * (1.0 + light.swing * math.sin(1.3 * second + phases[2]))
        row = int(rng.integers(64))
        frame += grain[row : row + height]
        yield second, np.clip(frame, 0, 255, out=frame).astype(np.uint8)


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], frames_per_second: float) -> None:
    """Write frames as a video, each of them compressed by itself (Motion JPEG).

    Args:
        path: The file, which ends in .avi.
        frames: uint8 (h, w, 3), RGB, all of one size.
        frames_per_second: Frames a second.

    Raises:
        MachineError: Reason ``cannot_write``.
    """
    writer = None
    try:
        for frame in frames:
            if writer is None:
                size = frame.shape[1], frame.shape[0]
                writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), frames_per_second, size)
            if not writer.isOpened():
                raise MachineError(f"{path}: cannot be written as a video", reason="cannot_write")
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    finally:
        if writer is not None:
            writer.release()


def plain_room(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """A wall in uneven light, with nobody before it.

    Returns:
        uint8 (height, width, 3).
    """
    rng = np.random.default_rng(seed)
    rough = rng.uniform(60.0, 190.0, (4, 5, 1)) + rng.uniform(-15.0, 15.0, (4, 5, 3))
    fine = rng.uniform(-15.0, 15.0, (36, 48, 1)).astype(np.float32)
    light = cv2.resize(rough.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    blotches = cv2.resize(fine, (width, height), interpolation=cv2.INTER_LINEAR)
    room: NDArray[np.float32] = light + blotches[..., np.newaxis]
    return room.clip(0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """What is drawn of a portrait: float32 (h, w, 4), its colours times how opaque it is, and that; and the eyes."""

    layer: NDArray[np.float32]
    eyes: NDArray[np.float64]


def _cut(visit: Visit) -> _Cut:
    """The person with a soft edge, or the picture as a sheet with a white margin; coarse where it is drawn small."""
    picture, eyes = visit.portrait.picture, visit.portrait.eyes
    while float(np.hypot(*(eyes[1] - eyes[0]))) > 2.0 * visit.near:
        picture, eyes = cv2.pyrDown(picture).astype(np.uint8), eyes / 2.0
    distance = float(np.hypot(*(eyes[1] - eyes[0])))
    middle = eyes.mean(axis=0)
    reach = distance * np.array((_SIDES, _UP))
    left, top = np.maximum(np.floor(middle - reach), 0).astype(int)
    right, bottom = np.minimum(np.ceil(middle + distance * np.array((_SIDES, _DOWN))), picture.shape[1::-1]).astype(int)
    picture, eyes = picture[top:bottom, left:right].astype(np.float32), eyes - (left, top)
    if visit.held_up:
        margin = max(round(_MARGIN * picture.shape[1]), 1)
        sheet = np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), constant_values=235.0)
        return _Cut(np.dstack([sheet, np.ones(sheet.shape[:2], np.float32)]), eyes + margin)
    across, down = (np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5) for side in picture.shape[1::-1])
    to_edge = np.minimum(across, down[:, np.newaxis]) / (_FADE * distance)
    opaque = np.minimum(to_edge, 1.0).astype(np.float32)[..., np.newaxis]
    return _Cut(np.dstack([picture * opaque, opaque]), eyes)


def _pose(visit: Visit, second: float, size: tuple[int, int]) -> _Pose | None:
    """Where they are at a second; None out of sight."""
    share = (second - visit.start) / visit.seconds
    if not 0.0 <= share < 1.0:
        return None
    rng = np.random.default_rng(visit.seed)
    phases, rates = rng.uniform(0.0, 2.0 * math.pi, 6), rng.uniform(0.7, 1.3, 6)
    waves = np.sin(rates * (2.0 * second) + phases)
    tremor = np.sin(rates * (40.0 * second) + phases) if visit.held_up else np.zeros(6)
    from_left, width, height = rng.random() < 0.5, *size
    coming = _eased(share / _COMING)
    leaving = _eased((share - 1.0 + _COMING) / _COMING)
    side = -1.0 if from_left else 1.0
    eyes = visit.near * (_FAR + (1.0 - _FAR) * coming) * (1.0 + _SWAY[1] * waves[0])
    x = width * (0.5 + visit.aside + side * 0.12 * (1.0 - coming)) + eyes * (_SWAY[0] * waves[1] + _TREMBLE * tremor[1])
    x -= side * leaving * (width * (0.5 + visit.aside * side) + 3.0 * eyes)
    y = height * 0.42 + eyes * (_SWAY[0] * waves[2] + _TREMBLE * tremor[2] + 0.2 * coming)
    return _Pose(
        x=x,
        y=y,
        eyes=eyes,
        roll=0.05 * waves[3] + _TREMBLE * tremor[3],
        squeeze=1.0 - 0.08 * (1.0 + waves[4]) / 2.0 - 0.1 * leaving,
        lean=(0.05 * waves[5] + _TREMBLE * tremor[4], 0.05 * waves[0] + _TREMBLE * tremor[5]),
    )


def _eased(share: float) -> float:
    share = min(max(share, 0.0), 1.0)
    return share * share * (3.0 - 2.0 * share)


def _matrix(visit: Visit, cut: _Cut, pose: _Pose) -> NDArray[np.float64]:
    """From pixels of the cut to pixels of the frame: float64 (3, 3), of a sheet with perspective."""
    (x, y), distance = cut.eyes.mean(axis=0), float(np.hypot(*(cut.eyes[1] - cut.eyes[0])))
    scale, tilt = pose.eyes / distance, math.atan2(*(cut.eyes[1] - cut.eyes[0])[::-1])
    cosine, sine = math.cos(pose.roll - tilt), math.sin(pose.roll - tilt)
    to_eyes = np.array([(1.0, 0.0, -x), (0.0, 1.0, -y), (0.0, 0.0, 1.0)])
    turned = np.array([(cosine, -sine, 0.0), (sine, cosine, 0.0), (0.0, 0.0, 1.0)])
    flat = np.diag((scale * (1.0 if visit.held_up else pose.squeeze), scale, 1.0))
    if visit.held_up:
        flat[2, :2] = np.array(pose.lean) / (4.0 * distance)
    place = np.array([(1.0, 0.0, pose.x), (0.0, 1.0, pose.y), (0.0, 0.0, 1.0)])
    matrix: NDArray[np.float64] = place @ turned @ flat @ to_eyes
    return matrix


def _draw(frame: NDArray[np.float32], cut: _Cut, matrix: NDArray[np.float64], moved: tuple[float, float]) -> None:
    """Blend into a frame, in place, blurred along the way that they moved during the exposure."""
    height, width = cut.layer.shape[:2]
    corners = np.array([[(0, 0), (width, 0), (width, height), (0, height)]], np.float64)
    reached = cv2.perspectiveTransform(corners, matrix)[0]
    low = np.maximum(np.floor(reached.min(axis=0)) - 8, 0).astype(int)
    high = np.minimum(np.ceil(reached.max(axis=0)) + 8, frame.shape[1::-1]).astype(int)
    if (high <= low).any():
        return
    shift = np.array([(1.0, 0.0, -low[0]), (0.0, 1.0, -low[1]), (0.0, 0.0, 1.0)])
    across, down = (high - low).tolist()
    layer = cv2.warpPerspective(cut.layer, shift @ matrix, (across, down), flags=cv2.INTER_LINEAR)
    if (length := math.hypot(*moved)) > 1.0:
        side = 2 * math.ceil(length / 2.0) + 1
        kernel = np.zeros((side, side), np.float32)
        middle, x, y = side // 2, moved[0] / 2.0, moved[1] / 2.0
        start, end = ((round(middle + sign * x), round(middle + sign * y)) for sign in (-1, 1))
        cv2.line(kernel, start, end, 1.0)
        layer = cv2.filter2D(layer, -1, kernel / kernel.sum())
    part = frame[low[1] : high[1], low[0] : high[0]]
    part *= 1.0 - layer[..., 3:]
    part += layer[..., :3]

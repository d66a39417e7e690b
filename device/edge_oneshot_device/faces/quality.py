"""The quality gate: how much of a face is in the frame, its pose, its exposure and its sharpness."""

import math
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.face_section import FaceLimits
from edge_oneshot_device.faces.detection import Detection

QUALITY_FAULTS: Final = (
    "face_cut_off",
    "face_turned_away",
    "face_too_dark",
    "face_too_bright",
    "face_covered",
    "face_blurred",
)
"""Reason codes of a face that fails the quality gate, in the order of the checks."""

# a head from the front, in units of its face: the distance from the middle between the eyes to that of the mouth
_NOSE_HEIGHT: Final = 0.564  # of the tip of the nose below the eyes
_NOSE_DEPTH: Final = 0.58  # of the tip before the plane of eyes and mouth
# the part in which light and sharpness are measured, from the brows to the chin, in the same unit
_ABOVE: Final = 0.3  # the eyes
_BELOW: Final = 0.5  # the mouth
_BESIDE: Final = 0.3  # the eyes
# the parts whose contrast is measured, in the same unit
_AROUND: Final = np.array((0.2, 0.15))  # to either side of an eye or a corner of the mouth, and up and down
_BROWS: Final = 0.4  # above the eyes: the finder places hidden eyes below the edge of what hides them
_QUARTER: Final = 0.25  # contrast of a quarter of a part by that of the whole, where both refuse as many photos

_LIGHT_QUANTILE: Final = 0.9  # in good light, skin of any colour has a tenth of light pixels
_BURNT_OUT: Final = 250  # level from which a pixel is saturated
_BLUR_WIDTH: Final = 9  # pixels of the chip over which `blur` averages
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601


class Quality(msgspec.Struct, frozen=True):
    """Quality measures of a face; exposure and sharpness are measured between the brows and the chin.

    Attributes:
        outside: Share of the face, from the forehead to the chin, outside the frame, 0..1.
        yaw: Approximate rotation to the left of the photo, in degrees.
        pitch: Approximate rotation downwards, in degrees.
        detail: Contrast of the part that has the least, by that of the face: see `_detail`.
        light: Level that a tenth of the pixels reach, 0..255.
        glare: Share of saturated pixels, 0..1.
        blur: See `blur`.
    """

    outside: float
    yaw: float
    pitch: float
    detail: float
    light: float
    glare: float
    blur: float


def measure(face: Detection, chip: NDArray[np.uint8], matrix: NDArray[np.float64], size: tuple[int, int]) -> Quality:
    """The quality measures of a face.

    Args:
        face: The face in the photo.
        chip: uint8 (height, width, 3), the encoder's input.
        matrix: float64 (2, 3), transform from pixels of the photo to pixels of the chip.
        size: Width and height of the photo.
    """
    points = face.points @ matrix[:, :2].T + matrix[:, 2]
    unit = float(np.hypot(*(points[3:].mean(axis=0) - points[:2].mean(axis=0))))
    luma = chip @ _LUMA
    inner = _between(luma, points, unit * _ABOVE, unit)
    if min(inner.shape) <= 2 * _BLUR_WIDTH:  # the face is turned out of sight
        inner = luma
    some = inner[::2, ::2]
    rank = int(_LIGHT_QUANTILE * some.size)
    yaw, pitch = pose(face.points)
    return Quality(
        outside=_outside(face.box, size),
        yaw=yaw,
        pitch=pitch,
        detail=_detail(luma, points, unit) / max(float(inner.std()), 1.0),
        light=float(np.partition(some, rank, axis=None)[rank]),
        glare=float((some >= _BURNT_OUT).mean()),
        blur=blur(inner),
    )


def pose(points: NDArray[np.float64]) -> tuple[float, float]:
    """Yaw and pitch of a face, see `Quality`, from the place of the tip of the nose between the eyes and the mouth.

    The tip stands out before the plane of eyes and mouth, and so moves against them when the head turns.

    Args:
        points: float64 (5, 2), see `edge_oneshot_device.faces.detection.Detection`.

    Returns:
        Both in degrees.
    """
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    across = points[1] - points[0] + points[4] - points[3]
    across /= max(float(np.hypot(*across)), 1e-9)
    down = np.array((-across[1], across[0]))
    # in the directions across and down
    nose_x, nose_y = (points[2] - eyes) @ across, (points[2] - eyes) @ down
    mouth_x, mouth_y = (mouth - eyes) @ across, max((mouth - eyes) @ down, 1e-9)
    height = nose_y / mouth_y
    aside = (height * mouth_x - nose_x) / (_NOSE_DEPTH * mouth_y)
    yaw, pitch = math.asin(min(max(aside, -1.0), 1.0)), math.atan((height - _NOSE_HEIGHT) / _NOSE_DEPTH)
    return math.degrees(yaw), math.degrees(pitch)


def blur(luma: NDArray[np.float32]) -> float:
    """The blur of an image, 0 (sharp) to 1: how little of its detail averaging removes, in the blurrier direction.

    This is the measure of Crété-Roffet et al. (2007), on every second row and column. Gain and contrast do not change
    it.

    Args:
        luma: float32 (height, width).
    """
    kept = []
    for image in (luma[::2], np.ascontiguousarray(luma[:, ::2].T)):
        sums = image.cumsum(axis=1)
        average = (sums[:, _BLUR_WIDTH:] - sums[:, :-_BLUR_WIDTH]) / np.float32(_BLUR_WIDTH)
        steps = np.abs(np.diff(image[:, _BLUR_WIDTH // 2 + 1 : -(_BLUR_WIDTH // 2)], axis=1))
        lost = np.maximum(steps - np.abs(np.diff(average, axis=1)), 0.0).sum()
        total = float(steps.sum())
        kept.append(1.0 - float(lost) / total if total > 0.0 else 1.0)
    return max(kept)


def find_fault(quality: Quality, limits: FaceLimits) -> tuple[str, str] | None:
    """The first limit that a face exceeds.

    Args:
        quality: The face's measures.
        limits: The bundle's limits.

    Returns:
        One of `QUALITY_FAULTS`, with the end of a sentence that says what is wrong and what to do; None when the face
        passes.
    """
    angle, most, where = _turned(quality, limits)
    words = (
        f"is cut by the frame: {quality.outside:.0%} of it lies outside, at most {limits.max_outside:.0%} may; "
        "bring the face to the middle, or step back",
        f"is turned {where} by {angle:.0f} degrees, at most {most:.0f} are allowed; look into the camera",
        f"is too dark: its light parts reach {quality.light:.0f} of 255 levels, {limits.min_light:.0f} are needed; "
        "put light on the face",
        f"is too bright: {quality.glare:.0%} of it is burnt out, at most {limits.max_glare:.0%} may be; "
        "go out of the sun or lamp, or expose for less time",
        "is covered: a part of it shows nothing; take off what hides it, bring it into the frame, or change the light",
        f"is blurred: {quality.blur:.2f} on a scale to 1, at most {limits.max_blur:.2f} is allowed; "
        "hold still, focus, or clean the lens",
    )
    found = zip(QUALITY_FAULTS, _shares(quality, limits), words, strict=True)
    return next(((reason, why) for reason, share, why in found if not share <= 1.0), None)  # so that NaN fails


def worst_share(quality: Quality, limits: FaceLimits) -> float:
    """The largest share of a limit that a face reaches: 0 is far from every limit, 1 is at one.

    Args:
        quality: The face's measures.
        limits: The bundle's limits.
    """
    return max(_shares(quality, limits))


def _shares(quality: Quality, limits: FaceLimits) -> list[float]:
    """How much of its limit each of `QUALITY_FAULTS` reaches, in their order: a fault is above 1."""
    pairs = (
        (quality.outside, limits.max_outside),
        _turned(quality, limits)[:2],
        (limits.min_light, quality.light),
        (quality.glare, limits.max_glare),
        (limits.min_detail or 0.0, quality.detail),
        (quality.blur, limits.max_blur),
    )
    return [0.0 if value <= 0.0 else value / most if most > 0.0 else math.inf for value, most in pairs]


def _turned(quality: Quality, limits: FaceLimits) -> tuple[float, float, str]:
    """The angle that reaches more of its limit, the limit, and where the face is turned to."""
    turns = (
        (abs(quality.yaw), limits.max_yaw, "to the side"),
        (abs(quality.pitch), limits.max_pitch, "down" if quality.pitch > 0.0 else "up"),
    )
    return max(turns, key=lambda one: one[0] / one[1])


def _between(luma: NDArray[np.float32], points: NDArray[np.float64], above: float, unit: float) -> NDArray[np.float32]:
    """The part of the chip from so many pixels above the eyes to the chin."""
    low = points[[0, 3]].min(axis=0) - (unit * _BESIDE, above)
    high = points[[1, 4]].max(axis=0) + unit * np.array((_BESIDE, _BELOW))
    left, top, right, bottom = (max(int(side), 0) for side in (*low.tolist(), *high.tolist()))
    return luma[top:bottom, left:right]


def _detail(luma: NDArray[np.float32], points: NDArray[np.float64], unit: float) -> float:
    """The least contrast (standard deviation, in levels) of a part of a face: what covers it has little.

    Parts are each eye and corner of the mouth, their quarters, which the edge of a cover does not all reach, and
    bands across and down the face. A part that is not wholly in the chip has none.
    """
    half = np.maximum(np.rint(unit * _AROUND), 1.0).astype(int)
    (columns, rows), corners = half.tolist(), np.floor(points[[0, 1, 3, 4]]).astype(int) - half
    face = _between(luma, points, unit * _BROWS, unit)
    outside = (corners < 0).any() or (corners + 2 * half > luma.shape[::-1]).any()
    if outside or min(face.shape) < rows:  # the second in a face of no size
        return 0.0
    parts = np.stack([luma[top : top + 2 * rows, left : left + 2 * columns] for left, top in corners.tolist()])
    quarters = parts.reshape(4, 2, rows, 2, columns).std(axis=(2, 4))
    bands = min(_flattest(face, rows), _flattest(face.T, rows))
    return min(float(parts.std(axis=(1, 2)).min()), float(quarters.min()) / _QUARTER, bands)


def _flattest(luma: NDArray[np.float32], width: int) -> float:
    """The least contrast of any `width` neighbouring rows of an image, which has as many at least."""
    of_row = np.stack([luma.sum(axis=1), np.square(luma).sum(axis=1)]).astype(np.float64)
    sums = np.pad(of_row.cumsum(axis=1), ((0, 0), (1, 0)))
    mean, square = (sums[:, width:] - sums[:, :-width]) / (width * luma.shape[1])
    return math.sqrt(max(float((square - mean**2).min()), 0.0))


def _outside(box: NDArray[np.float64], size: tuple[int, int]) -> float:
    """Share of a box, float64 (2, 2), that lies outside a photo of this width and height."""
    inside = np.clip(box, 0.0, size)
    return 1.0 - float(np.prod(inside[1] - inside[0]) / np.prod(box[1] - box[0]))

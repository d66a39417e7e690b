"""Generated alphabets that look like Omniglot and need no download.

The characters of an alphabet share a few shapes, each character joins one to four of them, and each drawer has a
handwriting.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot.data.archives import Progress
from edge_oneshot.data.dataset import Dataset
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.preprocessing import prepare

SIDE = 105
ALPHABETS = 24
CHARACTERS = 20
DRAWERS = 20

_SAMPLES = 32  # points of a drawn stroke
_SUBPIXEL_BITS = 4
_MARGIN = 4  # pixels
_VISIBLE = 0.75  # least share of the strokes' ink that is left where they overlap
_ALIKE = 0.8  # cosine of two blurred characters above which the second is refused

Points = NDArray[np.float64]
"""(..., 2): x right, y down. A character spans 1 in its larger direction, its middle at 0."""


@dataclass(frozen=True, slots=True)
class _Stroke:
    points: Points  # (k, 2), k at least 2
    curved: bool


_Character = tuple[_Stroke, ...]


@dataclass(frozen=True, slots=True)
class _Hands:
    """The handwriting of each drawer, one row each: what all of a drawer's characters have in common."""

    affine: Points  # (d, 2, 2)
    warp: Points  # (d, 3, 2), of x², xy and y²
    middle: Points  # (d, 2), in pixels
    roundness: NDArray[np.float64]  # (d,), 0 joins points with lines, 1 with a smooth curve
    sloppiness: NDArray[np.float64]  # (d,)
    width: NDArray[np.int64]  # (d,), in pixels


def load_glyphs(
    section: InputSection,
    *,
    alphabets: int = ALPHABETS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Dataset:
    """Draw alphabets, with labels, groups and drawers as in Omniglot.

    Args:
        section: The encoder's input, for which the drawings (105x105, black on white) are prepared.
        alphabets: Count of the alphabets, each of 20 characters by 20 drawers; the first ones are the same for every
            count.
        seed: The same seed gives the same drawings.
        progress: Called with the drawings done and the drawings in all.
    """
    per_alphabet = CHARACTERS * DRAWERS
    images = np.empty((alphabets * per_alphabet, *section.shape), np.uint8)
    for alphabet in range(alphabets):
        drawings = draw_alphabet(alphabet, seed)
        for number, drawing in enumerate(drawings.reshape(-1, SIDE, SIDE), start=alphabet * per_alphabet):
            images[number] = prepare(Image.fromarray(drawing), section)
        if progress is not None:
            progress((alphabet + 1) * per_alphabet, len(images))
    names = tuple(f"alphabet{number:02}" for number in range(1, alphabets + 1))
    return Dataset(
        name="glyphs",
        images=images,
        labels=np.repeat(np.arange(alphabets * CHARACTERS, dtype=np.int64), DRAWERS),
        identities=tuple(f"{name}/character{number:02}" for name in names for number in range(1, CHARACTERS + 1)),
        groups=np.repeat(np.arange(alphabets, dtype=np.int64), per_alphabet),
        group_names=names,
        drawers=np.tile(np.arange(1, DRAWERS + 1, dtype=np.int64), alphabets * CHARACTERS),
    )


def draw_alphabet(alphabet: int, seed: int = 0) -> NDArray[np.uint8]:
    """The drawings of one alphabet: uint8 (characters, drawers, 105, 105), ink 0 on paper 255.

    Args:
        alphabet: Number of the alphabet, from 0 on.
        seed: The same seed gives the same drawings.
    """
    rng = np.random.default_rng([seed, alphabet])
    characters = _characters(rng)
    hands = _hands(rng)
    return np.stack([_draw(character, hands, rng) for character in characters])


def _characters(rng: Generator) -> list[_Character]:
    """The characters of an alphabet; no two are similar."""
    curvature = rng.beta(0.9, 0.7)
    shapes = [_shape(rng, curved=bool(rng.random() < curvature)) for _ in range(rng.integers(4, 8))]
    strokes = rng.dirichlet([1.0, 4.0, 4.0, 1.5])
    quarter_turns = bool(rng.random() < 0.7)
    found: list[_Character] = []
    prints = np.empty((0, 32 * 32))
    while len(found) < CHARACTERS:
        character = _character(rng, shapes, 1 + int(rng.choice(4, p=strokes)), quarter_turns)
        ink = _ink(character)
        apart = sum(np.count_nonzero(_ink((stroke,))) for stroke in character)
        blurred = _blurred(ink)
        # refuse strokes that cover each other, and characters similar to an earlier one
        if np.count_nonzero(ink) > _VISIBLE * apart and not (prints @ blurred > _ALIKE).any():
            found.append(character)
            prints = np.vstack([prints, blurred])
    return found


def _shape(rng: Generator, *, curved: bool) -> _Stroke:
    """A path of a few segments: line, corner, zigzag, bow, ring, wave or hook. It spans 1, with its middle at 0."""
    kind = rng.choice(["bow", "wave", "hook", "ring"] if curved else ["line", "line", "corner", "zigzag"])
    if kind == "line":
        turns = np.zeros(1)
    elif kind == "corner":
        turns = np.array([0.0, rng.uniform(60, 130)])
    elif kind == "zigzag":
        turns = np.resize([0.0, 1.0, -1.0], rng.integers(3, 5)) * rng.uniform(70, 130)
    elif kind == "hook":
        turns = np.concatenate([np.zeros(3), np.full(3, rng.uniform(40, 70))])
    elif kind == "wave":
        turns = np.concatenate([np.full(4, 1.0), np.full(4, -1.0)]) * rng.uniform(25, 55)
    else:
        turns = np.full(8, (360 if kind == "ring" else rng.uniform(90, 270)) / 8)
    headings = np.radians(np.cumsum(turns))
    steps = np.stack([np.cos(headings), np.sin(headings)], axis=1)
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    return _Stroke(_centred(points * (1, rng.uniform(0.6, 1.4))), curved)


def _character(rng: Generator, shapes: list[_Stroke], strokes: int, quarter_turns: bool) -> _Character:
    """Shapes joined at their ends or middles, sometimes with a dot."""
    placed: list[_Stroke] = []
    for number in range(strokes):
        shape = shapes[rng.integers(len(shapes))]
        angle = np.pi / 2 * rng.integers(4) if quarter_turns else np.pi / 4 * rng.integers(8)
        size = 1.0 if number == 0 else rng.choice([0.5, 0.75, 1.0])
        mirrored = shape.points * np.array([rng.choice([-1.0, 1.0]), 1.0])
        points = mirrored @ _rotation(angle) * size
        if number > 0 and rng.random() < 0.12:
            corners = np.concatenate([stroke.points for stroke in placed])
            points = points / size * 0.07 + rng.choice([corners.min(0) - 0.15, corners.max(0) + 0.15, [0.0, 0.0]])
        elif number > 0:
            there = placed[rng.integers(len(placed))].points
            points = points - _joint(rng, points) + _joint(rng, there)
        placed.append(_Stroke(points, shape.curved))
    bounds = np.concatenate([stroke.points for stroke in placed])
    middle = (bounds.min(0) + bounds.max(0)) / 2
    span = np.ptp(bounds, axis=0).max()
    return tuple(_Stroke((stroke.points - middle) / span, stroke.curved) for stroke in placed)


def _joint(rng: Generator, points: Points) -> Points:
    joint: Points = points[rng.choice([0, len(points) // 2, -1])]
    return joint


def _ink(character: _Character) -> NDArray[np.uint8]:
    """The character without handwriting, large and with a thick pen: uint8 (105, 105), ink 255."""
    curves = np.stack([_basis(len(stroke.points), _SAMPLES, stroke.curved) @ stroke.points for stroke in character])
    return 255 - _rasterise(curves * 80 + SIDE / 2, 6)


def _blurred(ink: NDArray[np.uint8]) -> NDArray[np.float64]:
    """A unit vector (1024,); the product of two of them is the similarity of the characters."""
    small = cv2.GaussianBlur(cv2.resize(ink, (32, 32), interpolation=cv2.INTER_AREA), (0, 0), 1.5)
    flat = small.astype(np.float64).ravel()
    unit: NDArray[np.float64] = flat / np.linalg.norm(flat)
    return unit


def _hands(rng: Generator) -> _Hands:
    slant, turn = rng.normal(0, 0.14, DRAWERS), rng.normal(0, 0.07, DRAWERS)
    size, aspect = 66 * np.exp(rng.normal(0, 0.12, DRAWERS)), np.exp(rng.normal(0, 0.12, DRAWERS))
    sheared = np.zeros((DRAWERS, 2, 2))
    sheared[:, 0, 0], sheared[:, 1, 1], sheared[:, 1, 0] = size * aspect, size / aspect, -size * slant
    return _Hands(
        affine=sheared @ _rotation(turn),
        warp=rng.normal(0, 0.1, (DRAWERS, 3, 2)),
        middle=SIDE / 2 + rng.normal(0, 3, (DRAWERS, 2)),
        roundness=rng.beta(2, 2, DRAWERS),
        sloppiness=np.exp(rng.normal(0, 0.3, DRAWERS)),
        width=rng.choice([2, 3, 3, 3, 4], DRAWERS),
    )


def _draw(character: _Character, hands: _Hands, rng: Generator) -> NDArray[np.uint8]:
    """One drawing by each drawer: uint8 (d, 105, 105)."""
    curves = np.stack([_trace(stroke, hands, rng) for stroke in character], axis=1)
    x, y = curves[..., 0], curves[..., 1]
    warp = hands.warp + rng.normal(0, 0.06, hands.warp.shape)
    curves = curves + np.einsum("dspq,dqc->dspc", np.stack([x * x, x * y, y * y], axis=-1), warp)
    wobbled = np.eye(2) + rng.normal(0, 0.06, (DRAWERS, 2, 2))
    pixels = np.einsum("dspc,dce->dspe", curves, hands.affine @ wobbled)
    pixels += (hands.middle + rng.normal(0, 2.5, (DRAWERS, 2)))[:, None, None]
    # drawings that would leave the paper are made smaller and moved back
    low, high = pixels.min((1, 2)), pixels.max((1, 2))
    room = SIDE - 2 * _MARGIN
    shrink = np.minimum(room / (high - low).max(1), 1)[:, None]
    corner = np.clip(low, _MARGIN, SIDE - _MARGIN - (high - low) * shrink)
    pixels = (pixels - low[:, None, None]) * shrink[:, None, None] + corner[:, None, None]
    return np.stack([_rasterise(pixels[d], int(hands.width[d])) for d in range(DRAWERS)])


def _trace(stroke: _Stroke, hands: _Hands, rng: Generator) -> Points:
    """The stroke in each handwriting: (d, samples, 2)."""
    count = len(stroke.points)
    slop = hands.sloppiness[:, None, None]
    points = stroke.points * (1 + rng.normal(0, 0.08, (DRAWERS, 1, 2)) * slop)
    points = points + rng.normal(0, 0.02, (DRAWERS, 1, 2)) * slop
    # bent as a whole, because a handwriting is smooth
    points = points + _basis(3, count, True) @ rng.normal(0, 0.045, (DRAWERS, 3, 2)) * slop
    rounded = (0.6 if stroke.curved else 0.0) + 0.4 * hands.roundness[:, None, None]
    straight, smooth = _basis(count, _SAMPLES, False), _basis(count, _SAMPLES, True)
    trace: Points = (1 - rounded) * (straight @ points) + rounded * (smooth @ points)
    return trace


@cache
def _basis(count: int, samples: int, curved: bool) -> NDArray[np.float64]:
    """Weights (samples, count) that interpolate points, by straight lines or a Catmull-Rom spline."""
    where = np.linspace(0, count - 1, samples)
    segment = np.minimum(where.astype(np.int64), count - 2)
    t = (where - segment)[:, None]
    eye = np.eye(count)
    before, after = eye[np.maximum(segment - 1, 0)], eye[np.minimum(segment + 2, count - 1)]
    start, end = eye[segment], eye[segment + 1]
    weights: NDArray[np.float64] = (1 - t) * start + t * end
    if curved:
        cubic = 3 * (start - end) + after - before
        weights = start + t / 2 * (end - before + t * (2 * before - 5 * start + 4 * end - after + t * cubic))
    return weights


def _rasterise(curves: Points, width: int) -> NDArray[np.uint8]:
    """Curves (s, samples, 2) in pixels as black lines on white: uint8 (105, 105), 0 or 255."""
    paper = np.full((SIDE, SIDE), 255, np.uint8)
    points = np.rint(curves * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.polylines(paper, list(points), False, 0, width, cv2.LINE_AA, _SUBPIXEL_BITS)
    return np.where(paper > 127, 255, 0).astype(np.uint8)


def _rotation(angle: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 2, 2), to multiply row vectors with."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.moveaxis(np.array([[cos, sin], [-sin, cos]]), (0, 1), (-2, -1))


def _centred(points: Points) -> Points:
    low, high = points.min(0), points.max(0)
    centred: Points = (points - (low + high) / 2) / (high - low).max()
    return centred

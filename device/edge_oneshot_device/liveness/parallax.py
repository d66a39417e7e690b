"""What two views of a face tell of its shape: measured on their pixels, for the mesh makes a nose of any picture.

The mesh net has seen faces only, and puts the points of a bent or tilted photo where those of a turned head
would be. So it says where to look, and patches of the first view, searched for in the second, say what is there.
"""

from typing import Final

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

# Points of the mesh.
_EYES: Final = ((33, 133), (362, 263))  # corners
_LIDS: Final = ((33, 133, 159, 145), (362, 263, 386, 374))  # corners and middles of the lids
_TIP: Final = 4  # of the nose
# Points that are easy to find again, and how far behind the corners of the eyes they lie, in distances between the
# eyes: what the mesh net says of nine frontal faces, their mean.
_DEPTHS: Final = {
    33: 0.01, 133: -0.05, 362: -0.03, 263: 0.07, 105: -0.21, 334: -0.16, 55: -0.30, 285: -0.28, 70: 0.02,
    300: 0.09, 4: -0.70, 129: -0.23, 358: -0.20, 2: -0.41, 168: -0.32, 195: -0.56, 61: -0.06, 291: -0.03,
    0: -0.40, 17: -0.32, 50: -0.09, 280: -0.03, 9: -0.34, 5: -0.66, 127: 0.79, 356: 0.89, 234: 0.87,
    454: 0.96, 93: 0.87, 323: 0.96, 21: 0.43, 251: 0.52, 132: 0.83, 361: 0.91,
}  # fmt: skip

# All lengths are in distances between the eyes of the first view.
_RING: Final = 0.5  # from the tip of the nose to what it is held against
_DIRECTIONS: Final = 12
_NEAR: Final = 0.1  # points of the mesh within about this speak for a place
_AROUND: Final = 0.3  # and within about this for how its surroundings lie
_STEP: Final = 0.03  # between the pixels of a patch
_HALF: Final = 8  # steps from the middle of a patch to its edge
_NOSE_HALF: Final = 6  # likewise for relief: what surrounds the tip lies behind it, and holds a larger patch back
_REACH: Final = 7  # steps that it is searched for, to either side
_EYE_STEP: Final = 0.02
_EYE_HALF: Final = (5, 9)  # up and down, to the left and to the right: the opening between the lids
_EYE_REACH: Final = 4
_PULL: Final = 0.01  # what a tenth of a distance between the eyes away from the mesh costs, in correlation
_NOISE: Final = 3.2  # levels of a patch's contrast that say nothing
_TRUSTED: Final = 0.8  # correlation of a place that was found again
_ROUND: Final = 0.3  # of the largest bump, that the least of a nose has: a crease has next to none along itself
_PLAIN: Final = 0.07  # a bump that no crease was seen to have along itself
_OUTLIER: Final = 0.02  # from which a found point counts less
_ROUNDS: Final = 4  # of a robust fit


class View:
    """A face in a frame.

    Args:
        frame: Of mode RGB or L.
        points: float64 (468, 2), its mesh in pixels of the frame.

    Attributes:
        eye_distance: In pixels.
        across: float64 (2,), of length 1, from the eye on the left to that on the right.
        middle: float64 (2,), of the mesh, in pixels.
        aside: The tip of the nose from the middle between the eyes, along them, in distances between them.
    """

    def __init__(self, frame: Image.Image, points: NDArray[np.float64]) -> None:
        self.luma = np.asarray(frame.convert("L"), np.float32)
        self.points = points
        left, right = (points[list(corners)].mean(axis=0) for corners in _EYES)
        self.eye_distance = float(np.hypot(*(right - left)))
        self.across = (right - left) / self.eye_distance
        self.middle = points.mean(axis=0)
        self.aside = float((points[_TIP] - (left + right) / 2) @ self.across) / self.eye_distance


class Relief(msgspec.Struct, frozen=True):
    """How far the nose moved against its surroundings, in distances between the eyes of the reference, at its size.

    Attributes:
        least: To the right of the frame, in the direction across its tip in which it moved the least against the two
            places to its sides; 0 where they disagree on the side.
        round: Whether it moved about as far in the others: a nose does, a crease does not.
        found: Whether most of these places look like places of the view.
    """

    least: float
    round: bool
    found: bool


class ReferenceView:
    """The view of a face from the front that later ones are held against.

    Its own coordinates begin at the tip of the nose, along the line through the eyes, in distances between them.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        (x, y), distance = view.across, view.eye_distance
        self._axes = distance * np.array([(x, y), (-y, x)])
        self._places = (view.points - view.points[_TIP]) @ np.linalg.inv(self._axes)
        angles = np.pi / _DIRECTIONS * np.arange(_DIRECTIONS)
        half = _RING * np.column_stack([np.cos(angles), np.sin(angles)])
        self._ring = np.concatenate([np.zeros((1, 2)), half, -half])  # the tip, and two places about it a direction
        self._terms = np.column_stack([self._places, np.ones(len(self._places))])

    def shape(self, view: View) -> tuple[float, float]:
        """How much larger a view is, by its longer axis, and how much shorter its other axis is, 0..1."""
        matrix = _affine(self._places, view.points, np.ones(len(self._places)))
        longer, shorter = np.linalg.svd(matrix[:2] / self.view.eye_distance, compute_uv=False)
        return float(longer), float(shorter / longer)

    def lean(self, view: View) -> float:
        """The least of `relief`, by the mesh alone: quick, and what a picture can counterfeit."""
        weights = self._weights(self._ring, _NEAR)
        moved = weights @ _normalised(self._places, view) / weights.sum(axis=1, keepdims=True)
        return _least(_bumps(moved, np.array([1.0, 0.0])))

    def relief(self, view: View) -> Relief:
        """How far the nose moved against its surroundings.

        Paper bends in one direction only: through every point of it runs a straight line, and of three points on a
        line none moves against the other two. So what counts is the direction in which it moved the least.

        Args:
            view: Of the same face.
        """
        found, likeness = self._search(view, self._ring, (_NOSE_HALF, _NOSE_HALF), _REACH, _STEP, _PULL)
        bumps = _bumps(found / self._height(view), view.across)
        least = _least(bumps)
        nose = abs(least) > _PLAIN or abs(least) > _ROUND * float(np.abs(bumps).max())
        return Relief(least, nose, float(np.median(likeness)) > _TRUSTED)

    def nearness(self, view: View) -> float:
        """How much more what lies in front grew than what lies behind, as coming closer shows it of a head.

        The points found in the view are explained by an affine map, the tilt of a plane, a shift of what lies in
        front, and its growth, by robust least squares; the growth is the answer. A flat picture has none.

        Args:
            view: Of the same face, larger.

        Returns:
            Growth for each distance between the eyes in depth; by perspective it is that distance times the
            change of one over the distance from the camera.
        """
        chosen = list(_DEPTHS)
        places, depths = self._places[chosen], np.array(list(_DEPTHS.values()))
        found = self._search(view, places, (_HALF, _HALF), _REACH, _STEP, _PULL)[0]
        matrix = _affine(places, found, np.ones(len(places)))
        back = (found - matrix[2]) @ np.linalg.inv(matrix[:2])
        x, y = (places - places.mean(axis=0)).T
        one, none = np.ones_like(x), np.zeros_like(x)
        rows = np.concatenate(
            [
                np.column_stack([x, y, one, none, none, none, depths, none, x * x, x * y, depths * x]),
                np.column_stack([none, none, none, x, y, one, none, depths, x * y, y * y, depths * y]),
            ]
        )
        wanted = back.T.ravel()
        weights = np.ones(len(wanted))
        for _ in range(_ROUNDS):
            solution = np.linalg.lstsq(rows * weights[:, np.newaxis], wanted * weights)[0]
            weights = 1.0 / np.sqrt(1.0 + ((wanted - rows @ solution) / _OUTLIER) ** 2)
        return -float(solution[-1])

    def eyes(self, view: View) -> float:
        """How alike both eyes are to those of the reference: correlation, -1..1, the mean of both."""
        middles = np.array([self._places[list(lids)].mean(axis=0) for lids in _LIDS])
        return float(self._search(view, middles, _EYE_HALF, _EYE_REACH, _EYE_STEP, 0.0)[1].mean())

    def _height(self, view: View) -> float:
        """Pixels of the view for one distance between the eyes of the reference, up and down, where no turn shows."""
        down = _affine(self._places, view.points, np.ones(len(self._places)))[1]
        return float(np.hypot(*down))

    def _weights(self, places: NDArray[np.float64], near: float) -> NDArray[np.float64]:
        """What each point of the mesh says of each place (n, 468), 0..1."""
        return np.asarray(np.exp(-((self._places - places[:, np.newaxis]) ** 2).sum(axis=-1) / (2 * near**2)))

    def _search(
        self, view: View, places: NDArray[np.float64], half: tuple[int, int], reach: int, step: float, pull: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The best places (n, 2) of patches and the correlations (n,) there, from where the mesh says that they lie."""
        weights, terms = self._weights(places, _AROUND), self._terms
        squares = (terms[:, :, np.newaxis] * terms[:, np.newaxis]).reshape(-1, 9)
        maps = np.linalg.solve((weights @ squares).reshape(-1, 3, 3), (terms.T * weights[:, np.newaxis]) @ view.points)
        middles = np.einsum("ni,nij->nj", places, maps[:, :2]) + maps[:, 2]
        rows, columns = (np.arange(-side - reach, side + reach + 1) * step for side in half)
        grid = np.stack(np.meshgrid(columns, rows), axis=-1)
        inner = grid[reach:-reach, reach:-reach]
        own = (places[:, np.newaxis, np.newaxis] + inner) @ self._axes + self.view.points[_TIP]
        patches = _sample(self.view.luma, own)
        around = _sample(view.luma, grid @ maps[:, np.newaxis, :2] + middles[:, np.newaxis, np.newaxis])
        shifts = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1) * step] * 2), axis=-1)
        cost = pull * (shifts**2).sum(axis=-1) / 0.1**2
        found, likeness = np.empty_like(middles), np.empty(len(places))
        for number, (patch, wider) in enumerate(zip(patches, around, strict=True)):
            alike = _correlation(patch, wider)
            rated = alike - cost
            row, column = np.unravel_index(int(np.argmax(rated)), rated.shape)
            finer = step * np.array([_vertex(rated[row], int(column)), _vertex(rated[:, column], int(row))])
            found[number] = (shifts[row, column] + finer) @ maps[number, :2] + middles[number]
            likeness[number] = alike[row, column]
        return found, likeness


def _bumps(found: NDArray[np.float64], across: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the tip moved to the side against two places about it, in each direction; of where places went."""
    one, other = np.split(found[1:], 2)
    return np.asarray((found[0] - (one + other) / 2) @ across)


def _least(bumps: NDArray[np.float64]) -> float:
    """The one nearest to 0; 0 where they are not all to one side."""
    least = float(bumps[np.argmin(np.abs(bumps))])
    return least if (np.sign(bumps) == np.sign(least)).all() else 0.0


def _normalised(places: NDArray[np.float64], view: View) -> NDArray[np.float64]:
    """Points of a view along the line through its eyes, at the height of the reference."""
    x, y = view.across
    level = view.points @ np.array([(x, -y), (y, x)])
    return np.asarray(level / np.hypot(*_affine(places, level, np.ones(len(places)))[1]))


def _affine(
    places: NDArray[np.float64], points: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The map (3, 2) from places to points by weighted least squares; its shift is the last row."""
    terms = np.column_stack([places, np.ones(len(places))])
    weighted = terms * weights[:, np.newaxis]
    return np.asarray(np.linalg.solve(weighted.T @ terms, weighted.T @ points))


def _sample(luma: NDArray[np.float32], at: NDArray[np.float64]) -> NDArray[np.float32]:
    """Levels at points (..., 2), bilinear; beyond the frame those of its edge."""
    height, width = luma.shape
    x, y = np.clip(at[..., 0] - 0.5, 0.0, width - 1.001), np.clip(at[..., 1] - 0.5, 0.0, height - 1.001)
    column, row = x.astype(np.intp), y.astype(np.intp)
    right, down = (x - column).astype(np.float32), (y - row).astype(np.float32)
    upper = luma[row, column] * (1.0 - right) + luma[row, column + 1] * right
    lower = luma[row + 1, column] * (1.0 - right) + luma[row + 1, column + 1] * right
    return np.asarray(upper * (1.0 - down) + lower * down)


def _correlation(patch: NDArray[np.float32], around: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalised cross-correlation of a patch at every place of a larger one."""
    own, silence = patch - patch.mean(), patch.size * _NOISE
    level = around - around.mean()
    windows = sliding_window_view(level, patch.shape)
    product = windows.reshape(-1, patch.size) @ own.ravel()
    power = _sums(level * level, patch.shape) - _sums(level, patch.shape) ** 2 / patch.size
    scale = np.sqrt((np.maximum(power, 0.0) + silence) * ((own * own).sum() + silence))
    return np.asarray(product.reshape(power.shape) / scale)


def _sums(values: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Of every window of a shape, by a summed-area table (Crow 1984)."""
    table = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    table[1:, 1:] = values.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    rows, columns = shape
    return np.asarray(
        table[rows:, columns:] - table[:-rows, columns:] - table[rows:, :-columns] + table[:-rows, :-columns]
    )


def _vertex(values: NDArray[np.floating], best: int) -> float:
    """Where between its neighbours a peak lies, by a parabola, -0.5..0.5."""
    if not 0 < best < len(values) - 1:
        return 0.0
    before, at, after = values[best - 1 : best + 2]
    bend = before + after - 2.0 * at
    return float(0.5 * (before - after) / bend) if bend < 0.0 else 0.0

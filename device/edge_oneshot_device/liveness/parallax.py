"""The shape of a face from two views, measured on pixels, because the mesh net sees a nose in any picture.

The mesh net was trained on faces only, so in a bent or tilted photo it puts the points where those of a turned head
would be. Therefore its points only say where to search; patches of the first view, found in the second, are measured.
"""

from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.liveness.headshape import HEAD, Movement, movement

# Points of the mesh.
_EYES: Final = ((33, 133), (362, 263))  # corners
_LIDS: Final = ((33, 133, 159, 145), (362, 263, 386, 374))  # corners and middles of the lids
_TIP: Final = 4  # of the nose
# Points that are easy to find again, with their depth behind the corners of the eyes, in distances between the eyes:
# the mean of what the mesh net computes for nine frontal faces.
_DEPTHS: Final = {
    33: 0.01, 133: -0.05, 362: -0.03, 263: 0.07, 105: -0.21, 334: -0.16, 55: -0.30, 285: -0.28, 70: 0.02,
    300: 0.09, 4: -0.70, 129: -0.23, 358: -0.20, 2: -0.41, 168: -0.32, 195: -0.56, 61: -0.06, 291: -0.03,
    0: -0.40, 17: -0.32, 50: -0.09, 280: -0.03, 9: -0.34, 5: -0.66, 127: 0.79, 356: 0.89, 234: 0.87,
    454: 0.96, 93: 0.87, 323: 0.96, 21: 0.43, 251: 0.52, 132: 0.83, 361: 0.91,
}  # fmt: skip

# All lengths are in distances between the eyes of the first view.
_RADIUS: Final = 0.5  # from the tip of the nose to the places around it that it is compared with
_DIRECTIONS: Final = 12
_NEAR: Final = 0.1  # standard deviation of the weights of mesh points for the position of a place
_AROUND: Final = 0.3  # likewise for the affine map of its surroundings
_STEP: Final = 0.03  # between the pixels of a patch
_HALF: Final = 8  # steps from the middle of a patch to its edge
_HEAD_HALF: Final = 6  # likewise in a turn: a larger patch holds more of what lies behind an edge
_REACH: Final = 7  # steps to either side in which a patch is searched
_EYE_STEP: Final = 0.02
_EYE_HALF: Final = (5, 9)  # up and down, to the left and to the right: the opening between the lids
_EYE_REACH: Final = 4
_DISTANCE_COST: Final = 0.01  # of correlation, for a tenth of a distance between the eyes from where the mesh points
_NOISE: Final = 3.2  # levels of contrast of a patch that are noise
_OUTLIER: Final = 0.02  # residual from which a found point is weighted less
_ROUNDS: Final = 4  # of the robust fit


class View:
    """A face in a frame.

    Args:
        frame: Image of mode RGB or L.
        points: float64 (468, 2), the face's mesh in pixels of the frame.

    Attributes:
        eye_distance: Distance between the eyes, in pixels.
        across: float64 (2,), unit vector from the left to the right eye of the image.
        middle: float64 (2,), mean of the mesh, in pixels.
        aside: Distance of the tip of the nose from the middle between the eyes, along the line through the eyes, in
            distances between the eyes.
    """

    def __init__(self, frame: Image.Image, points: NDArray[np.float64]) -> None:
        self.luma = np.asarray(frame.convert("L"), np.float32)
        self.points = points
        left, right = (points[list(corners)].mean(axis=0) for corners in _EYES)
        self.eye_distance = float(np.hypot(*(right - left)))
        self.across = (right - left) / self.eye_distance
        self.middle = points.mean(axis=0)
        self.aside = float((points[_TIP] - (left + right) / 2) @ self.across) / self.eye_distance


class ReferenceView:
    """The frontal view of a face that later views are compared with.

    Its coordinates have their origin at the tip of the nose and their x axis along the line through the eyes; the unit
    is the distance between the eyes.

    Attributes:
        view: As given.
        head: float64 (n, 2), where the places of `headshape.HEAD` are.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        (x, y), distance = view.across, view.eye_distance
        self._axes = distance * np.array([(x, y), (-y, x)])
        self._places = (view.points - view.points[_TIP]) @ np.linalg.inv(self._axes)
        angles = np.pi / _DIRECTIONS * np.arange(_DIRECTIONS)
        half = _RADIUS * np.column_stack([np.cos(angles), np.sin(angles)])
        self._nose = np.concatenate([np.zeros((1, 2)), half, -half])  # the tip, and two opposite places per direction
        self.head = self._places[list(HEAD)]
        self._terms = np.column_stack([self._places, np.ones(len(self._places))])

    def shape(self, view: View) -> tuple[float, float]:
        """Size of a view relative to the reference, by the longer axis, and flatness: shorter by longer axis, 0..1."""
        matrix = _affine(self._places, view.points, np.ones(len(self._places)))
        longer, shorter = np.linalg.svd(matrix[:2] / self.view.eye_distance, compute_uv=False)
        return float(longer), float(shorter / longer)

    def lean(self, view: View) -> float:
        """How far the tip of the nose moved to the right against its surroundings, by the mesh alone.

        That is fast, but a picture can counterfeit it. Of all lines through the tip the one counts on which it moved
        the least against the others; 0 when they disagree about the side.
        """
        weights = self._weights(self._nose, _NEAR)
        moved = weights @ _normalised(self._places, view) / weights.sum(axis=1, keepdims=True)
        return _least(_bumps(moved, np.array([1.0, 0.0])))

    def movement(self, view: View) -> Movement | None:
        """How the places of a head moved; None when too few are found in the view.

        Args:
            view: A later view of the same face.
        """
        found, likeness = self._search(view, self.head, (_HEAD_HALF, _HEAD_HALF), _REACH, _STEP, _DISTANCE_COST)
        return movement(self.head, found, likeness)

    def nearness(self, view: View) -> float:
        """How much more the near parts of a face grew than the far parts, which is how a head comes closer.

        Robust least squares explain the points found in the view by an affine map, the tilt of a plane, a shift in
        proportion to depth, and a growth in proportion to depth; the result is this growth. A flat picture has none.

        Args:
            view: A later, larger view of the same face.

        Returns:
            Growth for each distance between the eyes in depth; by perspective it is that distance times the
            change of one over the distance from the camera.
        """
        chosen = list(_DEPTHS)
        places, depths = self._places[chosen], np.array(list(_DEPTHS.values()))
        found = self._search(view, places, (_HALF, _HALF), _REACH, _STEP, _DISTANCE_COST)[0]
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
            solution = np.linalg.lstsq(rows * weights[:, np.newaxis], wanted * weights, rcond=None)[0]
            weights = 1.0 / np.sqrt(1.0 + ((wanted - rows @ solution) / _OUTLIER) ** 2)
        return -float(solution[-1])

    def eyes(self, view: View) -> float:
        """Likeness of the eyes to those of the reference: the mean of both correlations, -1..1."""
        middles = np.array([self._places[list(lids)].mean(axis=0) for lids in _LIDS])
        return float(self._search(view, middles, _EYE_HALF, _EYE_REACH, _EYE_STEP, 0.0)[1].mean())

    def _weights(self, places: NDArray[np.float64], near: float) -> NDArray[np.float64]:
        """Weight of each point of the mesh for each place (n, 468), 0..1."""
        return np.asarray(np.exp(-((self._places - places[:, np.newaxis]) ** 2).sum(axis=-1) / (2 * near**2)))

    def _search(
        self, view: View, places: NDArray[np.float64], half: tuple[int, int], reach: int, step: float, cost: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The best positions (n, 2) of patches around where the mesh puts them, and the correlations (n,) there."""
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
        costs = cost * (shifts**2).sum(axis=-1) / 0.1**2
        found, likeness = np.empty_like(middles), np.empty(len(places))
        for number, (patch, wider) in enumerate(zip(patches, around, strict=True)):
            alike = _correlation(patch, wider)
            rated = alike - costs
            row, column = np.unravel_index(int(np.argmax(rated)), rated.shape)
            finer = step * np.array([_vertex(rated[row], int(column)), _vertex(rated[:, column], int(row))])
            found[number] = (shifts[row, column] + finer) @ maps[number, :2] + middles[number]
            likeness[number] = alike[row, column]
        return found, likeness


def _bumps(found: NDArray[np.float64], across: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sideways movement of the tip against the two places of each direction, from all positions (n, 2)."""
    one, other = np.split(found[1:], 2)
    return np.asarray((found[0] - (one + other) / 2) @ across)


def _least(bumps: NDArray[np.float64]) -> float:
    """The value nearest to 0; 0 when the values differ in sign."""
    least = float(bumps[np.argmin(np.abs(bumps))])
    return least if (np.sign(bumps) == np.sign(least)).all() else 0.0


def _normalised(places: NDArray[np.float64], view: View) -> NDArray[np.float64]:
    """Points of a view with the line through its eyes as x axis, scaled to the height of the reference."""
    x, y = view.across
    level = view.points @ np.array([(x, -y), (y, x)])
    return np.asarray(level / np.hypot(*_affine(places, level, np.ones(len(places)))[1]))


def _affine(
    places: NDArray[np.float64], points: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The affine map (3, 2) from places to points by weighted least squares; the last row is the translation."""
    terms = np.column_stack([places, np.ones(len(places))])
    weighted = terms * weights[:, np.newaxis]
    return np.asarray(np.linalg.solve(weighted.T @ terms, weighted.T @ points))


def _sample(luma: NDArray[np.float32], at: NDArray[np.float64]) -> NDArray[np.float32]:
    """Levels at points (..., 2), bilinear; outside the frame those of its edge."""
    height, width = luma.shape
    x, y = np.clip(at[..., 0] - 0.5, 0.0, width - 1.001), np.clip(at[..., 1] - 0.5, 0.0, height - 1.001)
    column, row = x.astype(np.intp), y.astype(np.intp)
    right, down = (x - column).astype(np.float32), (y - row).astype(np.float32)
    upper = luma[row, column] * (1.0 - right) + luma[row, column + 1] * right
    lower = luma[row + 1, column] * (1.0 - right) + luma[row + 1, column + 1] * right
    return np.asarray(upper * (1.0 - down) + lower * down)


def _correlation(patch: NDArray[np.float32], around: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalised cross-correlation of a patch at every place of a larger one."""
    own, noise = patch - patch.mean(), patch.size * _NOISE
    level = around - around.mean()
    windows = sliding_window_view(level, patch.shape)
    product = windows.reshape(-1, patch.size) @ own.ravel()
    power = _sums(level * level, patch.shape) - _sums(level, patch.shape) ** 2 / patch.size
    scale = np.sqrt((np.maximum(power, 0.0) + noise) * ((own * own).sum() + noise))
    return np.asarray(product.reshape(power.shape) / scale)


def _sums(values: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Sums over every window of a shape, by a summed-area table (Crow 1984)."""
    table = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    table[1:, 1:] = values.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    rows, columns = shape
    return np.asarray(
        table[rows:, columns:] - table[:-rows, columns:] - table[rows:, :-columns] + table[:-rows, :-columns]
    )


def _vertex(values: NDArray[np.floating], best: int) -> float:
    """Offset of a peak from its sample towards a neighbour, by a parabola, -0.5..0.5."""
    if not 0 < best < len(values) - 1:
        return 0.0
    before, at, after = values[best - 1 : best + 2]
    bend = before + after - 2.0 * at
    return float(0.5 * (before - after) / bend) if bend < 0.0 else 0.0

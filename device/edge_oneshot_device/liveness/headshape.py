"""Whether what turns before the camera has the shape of a head, in many points.

Points of a rigid body that turn before a distant camera move by an affine map of their places plus a shift in
proportion to their depth (Koenderink & van Doorn 1991): what is left of all movements after the affine maps is a matrix
of rank 1 (Tomasi & Kanade 1992), and its profile over the points is the depth of each before or behind a plane. That
profile is compared with a mean head's as a whole, and twice without what surfaces of paper have. What then is left of
a head is what paper lacks: bent, domed, creased or pleated it falls off evenly, and has no sockets behind a bridge, no
cheeks beside a nose and no flanks that fall away. Paper that is folded to half a mask has a nose and flanks; therefore
a head has to explain more of the profile than such a mask does.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

# Points of the mesh with their depth behind the corners of the eyes, in distances between the eyes: the median of what
# the mesh net computes for 150 frontal faces. They are spread over the relief; cheeks in which nothing is found again
# are left out.
HEAD: Final = {
    4: -0.67, 9: -0.35, 10: -0.27, 18: -0.15, 21: 0.45, 24: -0.05, 47: -0.19, 50: -0.03, 53: -0.14, 54: 0.25,
    58: 0.83, 65: -0.27, 67: -0.15, 86: -0.22, 101: -0.11, 102: -0.29, 103: 0.03, 108: -0.30, 124: 0.07, 132: 0.92,
    136: 0.49, 138: 0.44, 143: 0.27, 149: 0.26, 162: 0.67, 167: -0.33, 169: 0.25, 186: -0.08, 189: -0.11, 196: -0.44,
    204: 0.01, 207: -0.02, 208: -0.10, 214: 0.12, 227: 0.55, 234: 0.91, 251: 0.44, 266: -0.16, 273: 0.01, 284: 0.23,
    288: 0.83, 293: -0.10, 295: -0.27, 299: -0.22, 311: -0.19, 322: -0.15, 323: 0.94, 326: -0.35, 332: 0.02,
    338: -0.24, 343: -0.23, 347: -0.04, 356: 0.83, 360: -0.44, 374: -0.07, 377: 0.08, 378: 0.27, 383: 0.17, 389: 0.66,
    397: 0.69, 406: -0.09, 417: -0.25, 427: -0.01, 430: 0.16, 435: 0.56, 467: 0.00,
}  # fmt: skip

# How the limits were chosen is in docs/experiments/liveness.md. Lengths are in distances between the eyes.
_TRUSTED: Final = 0.8  # correlation from which a place counts as found
_LEAST: Final = 30  # places that are found
_OUTLIER: Final = 0.03  # residual from which a found place is weighted less
_ROUNDS: Final = 4  # of the robust fit
_WHOLE: Final = 0.87  # correlation of the profile with a head's
_DETAIL: Final = 0.6  # likewise, without what a surface of the second degree has
_FINE: Final = 0.5  # likewise, without what paper has that is bent upright in any way, or pleated at the nose
_AMOUNT: Final = 0.35  # of a head's detail, where the whole is as deep as a head
_RIGID: Final = 0.85  # share of the movement that is of rank 1
_SIDES: Final = 0.8  # beside the tip of the nose, where the sides of half a mask are folded back
_BEAK: Final = 0.48  # around the tip, where the cone of its nose ends
_TINY: Final = 1e-9

_DEPTHS: Final = np.array(list(HEAD.values()))


class Movement(msgspec.Struct, frozen=True, eq=False):
    """How places of a face moved against the plane that fits them best.

    Attributes:
        moved: float64 (n, 2), in the coordinates of the reference view.
        weights: float64 (n,), 0..1: 0 where a place was not found.
        turn: About the tangent of the angle by which a head turned, if it is one; positive to the right of the frame.
    """

    moved: NDArray[np.float64]
    weights: NDArray[np.float64]
    turn: float


class HeadShape(msgspec.Struct, frozen=True):
    """How like a head a shape is.

    Attributes:
        whole: Correlation of its depths with a head's, planes aside, -1..1.
        detail: Likewise, surfaces of the second degree aside.
        fine: Likewise, what varies from side to side up to the fourth degree and a cone about the nose aside as well.
        amount: How deep its detail is, by how deep the whole is; 1 is a mean head's.
        rigid: Share of all movement that one rigid body explains, 0..1.
        unmasked: Share of the detail that a head explains, less the share that half a mask explains, -1..1.
    """

    whole: float
    detail: float
    fine: float
    amount: float
    rigid: float
    unmasked: float

    @property
    def head(self) -> bool:
        """Whether it is that of a head: each of the six has to say so."""
        alike = self.whole >= _WHOLE and self.detail >= _DETAIL and self.fine >= _FINE
        return alike and self.amount >= _AMOUNT and self.rigid >= _RIGID and self.unmasked > 0.0


def movement(
    places: NDArray[np.float64], found: NDArray[np.float64], likeness: NDArray[np.floating]
) -> Movement | None:
    """How the places of `HEAD` moved; None when fewer than 30 were found.

    Args:
        places: float64 (n, 2), in the reference view, in distances between the eyes.
        found: float64 (n, 2), where each was found in a later view, in pixels.
        likeness: (n,), the correlations there.
    """
    seen = (likeness > _TRUSTED).astype(np.float64)
    if seen.sum() < _LEAST:
        return None
    basis = np.column_stack([_second_degree(places), _DEPTHS])
    kept = seen > 0.0
    plane = np.linalg.lstsq(basis[kept, :3], found[kept], rcond=None)[0]
    moved = (found - plane[0]) @ np.linalg.pinv(plane[1:]) - places
    weights = seen
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)[:, np.newaxis]
        solution = np.linalg.lstsq(basis * root, moved * root, rcond=None)[0]
        weights = seen / (1.0 + (((moved - basis @ solution) / _OUTLIER) ** 2).sum(axis=1))
    rows = _without(basis[:, :3], np.stack([moved[:, 0], _DEPTHS]), weights)
    return Movement(moved, weights, -_agreement(*rows)[1])


def head_shape(places: NDArray[np.float64], movements: Sequence[Movement]) -> HeadShape:
    """The shape that movements tell, all together.

    Args:
        places: As for `movement`.
        movements: One or more, of views that are turned.
    """
    weights = np.sum([one.weights for one in movements], axis=0)
    total = np.sum([-np.sign(one.turn) * one.weights * one.moved[:, 0] for one in movements], axis=0)
    profile, basis = total / np.maximum(weights, _TINY), _second_degree(places)
    both = np.stack([profile, _DEPTHS])
    whole, amount_whole = _agreement(*_without(basis[:, :3], both, weights))
    detail, amount_detail = _agreement(*_without(basis, both, weights))
    x, radius = places[:, 0], np.hypot(*places.T)
    mask = np.column_stack([basis, np.maximum(np.abs(x) - _SIDES, 0.0), np.maximum(_BEAK - radius, 0.0)])
    more, left = (float((_without(known, both[:1], weights) ** 2).sum()) for known in (basis, mask))
    unmasked = detail * abs(detail) - 1.0 + left / max(more, _TINY)
    paper = np.column_stack([basis, x**3, x**4, radius])
    fine, _ = _agreement(*_without(paper, both, weights))
    common = np.min([one.weights for one in movements], axis=0)
    rows = _without(basis[:, :3], np.concatenate([one.moved.T for one in movements]), common)
    powers = np.linalg.svd(rows, compute_uv=False) ** 2
    rigid = float(powers[0] / max(powers.sum(), _TINY))
    return HeadShape(whole, detail, fine, amount_detail / max(amount_whole, _TINY), rigid, unmasked)


def _second_degree(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Terms (n, 6) of surfaces of the second degree; the first three are those of planes."""
    x, y = places.T
    return np.column_stack([np.ones_like(x), x, y, x * x, x * y, y * y])


def _without(
    basis: NDArray[np.float64], rows: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted rows (m, n) without what the columns of the basis explain."""
    root = np.sqrt(weights)
    known = np.linalg.qr(basis * root[:, np.newaxis])[0]
    weighted = rows * root
    return np.asarray(weighted - weighted @ known @ known.T)


def _agreement(profile: NDArray[np.float64], depths: NDArray[np.float64]) -> tuple[float, float]:
    """Correlation of a profile with depths, and how many times as deep it is."""
    product, power = float(profile @ depths), float(depths @ depths)
    return product / max(float(np.sqrt((profile @ profile) * power)), _TINY), product / max(power, _TINY)

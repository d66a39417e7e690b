"""What a calibration fits to scores: the tail of the impostors, and the degree of similarity."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from edge_oneshot_device.bundle.manifest import SimilarityMap, Tail
from edge_oneshot_export.judging.metrics import Scores, thresholds_at
from edge_oneshot_export.judging.protocols import ROUNDING

_KNOTS: Final = 64
_MIN_EXCEEDANCES: Final = 50  # to fit the shape of the tail to
_MAX_EXCEEDANCES: Final = 10_000  # more only cost time
_SHAPES: Final = (-0.5, 0.5)  # outside, the likelihood is not regular or the variance infinite (Smith 1985)


def fit_tail(impostor: Scores, targets: Sequence[float]) -> tuple[dict[float, float], Tail]:
    """Fit the threshold of each target, and the tail beyond the smallest target.

    Args:
        impostor: float32 (m,), at least one.
        targets: Target FARs, falling.

    Returns:
        The threshold of each target, and the tail.
    """
    from scipy.stats import genpareto

    thresholds = dict(zip(targets, thresholds_at(impostor, targets), strict=True))
    smallest = targets[-1]
    enough = [target for target in targets if target * len(impostor) >= _MIN_EXCEEDANCES] or targets[:1]
    start = thresholds[min(enough, key=lambda target: abs(np.log(target / (10 * smallest))))]
    excess = np.sort(impostor[impostor >= start]).astype(np.float64) - start
    if len(excess) > _MAX_EXCEEDANCES:
        excess = excess[np.linspace(0, len(excess) - 1, _MAX_EXCEEDANCES).astype(int)]
    least = ROUNDING * max(1.0, abs(start))
    shape, scale = 0.0, float(excess.mean()) if len(excess) else least
    if len(excess) >= _MIN_EXCEEDANCES and excess[-1] > least:
        shape, _, scale = genpareto.fit(excess, 0.0, floc=0.0, scale=scale)
        if not _SHAPES[0] <= shape <= _SHAPES[1]:
            shape = float(np.clip(shape, *_SHAPES))
            scale = genpareto.fit(excess, fc=shape, floc=0.0, scale=scale)[2]
    # a generalized Pareto tail keeps its shape above any higher threshold
    scale = float(scale + shape * (thresholds[smallest] - start))
    return thresholds, Tail(threshold=thresholds[smallest], far=smallest, scale=max(scale, least), shape=float(shape))


def similarity_map(genuine: Scores, impostor: Scores) -> SimilarityMap:
    """The degree of similarity as a function of the score: the isotonic posterior at equal priors, in at most 64 knots.

    Args:
        genuine: float32 (g,), at least one.
        impostor: float32 (m,), at least one.

    Returns:
        The function as knots, for the manifest.
    """
    from scipy.optimize import isotonic_regression

    values, place = np.unique(np.concatenate([genuine, impostor]), return_inverse=True)
    values = values.astype(np.float64)
    same = np.bincount(place[: len(genuine)], minlength=len(values)) / len(genuine)
    weight = same + np.bincount(place[len(genuine) :], minlength=len(values)) / len(impostor)
    posterior = isotonic_regression(same / weight, weights=weight).x
    starts = np.flatnonzero(np.diff(posterior, prepend=-1.0))
    degrees = posterior[starts]
    knots = np.add.reduceat(values * weight, starts) / np.add.reduceat(weight, starts)
    if len(starts) == 1:
        knots, degrees = np.array([values[0], max(values[-1], values[0] + 1e-6)]), np.repeat(degrees, 2)
    else:
        # the outer steps end where the slope begins
        knots[0], knots[-1] = values[starts[1] - 1], values[starts[-1]]
    wanted = np.linspace(degrees[0], degrees[-1], _KNOTS)
    kept = np.unique([0, len(knots) - 1, *np.abs(degrees - wanted[1:-1, np.newaxis]).argmin(axis=1)])
    return SimilarityMap(scores=tuple(knots[kept].tolist()), degrees=tuple(np.clip(degrees[kept], 0.0, 1.0).tolist()))

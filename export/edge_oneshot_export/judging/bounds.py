"""Confidence bounds of rates whose comparisons share people, and are therefore not independent trials.

Somebody who is easily mistaken is so in every comparison. The variance of a rate is therefore estimated from what each
person contributes to it, and not from the number of comparisons.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.matching.support import pairs_of_people
from edge_oneshot_export.judging.cells import Integers
from edge_oneshot_export.judging.metrics import Scores, Weights, thresholds_at, wilson_interval

_SPLITS: Final = 5


@dataclass(frozen=True, slots=True)
class FarBound:
    """The false accept rate of a threshold on other people than those that it was fitted to.

    Attributes:
        far: The measured false accept rate, 0..1.
        upper_95: Upper 95 % bound of the true false accept rate.
    """

    far: float
    upper_95: float


def far_bounds(
    impostor: Scores,
    sides: Integers,
    targets: Sequence[float],
    rng: np.random.Generator,
    weights: Weights | None = None,
    pairs: int | None = None,
) -> list[FarBound]:
    """Upper bounds of the true false accept rates of thresholds that are fitted to these scores.

    Threshold and rate come from disjoint people (cross-fitting): the people are halved at random several times, and
    the accepts of one half are counted at the threshold of the other. The variance of the rate is that of the jackknife
    for a mean over pairs (Arvesen 1969) in its linear form: the sum over people of the square of what all comparisons
    with them contribute to the rate. It is valid whatever the comparisons of one person have in common. It counts the
    part that is particular to a pair twice, which compensates for a small number of people. The bound is Student's,
    with one degree of freedom fewer than people, on the logarithm of the rate, because rates of rare events are skewed.
    It is at least 3 over the pairs of people (Hanley and Lippman-Hand 1983). docs/experiments/coverage.md has its
    coverage.

    Args:
        impostor: float32 (m,), scores of comparisons of two people.
        sides: Integers (m, 2), the two people of each comparison, 0..people-1.
        targets: Target FARs that the people support, see `edge_oneshot_device.matching.support`.
        rng: Draws the halvings.
        weights: How many comparisons each score stands for, see `edge_oneshot_export.judging.protocols.Pairs`.
        pairs: Number of pairs of people who are compared; None where everybody is compared with everybody.

    Returns:
        The rate and its bound for each target.
    """
    from scipy.stats import t

    one, other = np.ascontiguousarray(sides.T)
    people = int(sides.max()) + 1
    made = np.zeros(people)
    hits = np.zeros((len(targets), people))
    for side in _halvings(people, rng):
        one_in, other_in = side[one], side[other]
        fitted, inside = ~(one_in | other_in), np.flatnonzero(one_in & other_in)
        held_out, first, second = impostor[inside], one[inside], other[inside]
        stands = None if weights is None else weights[inside]
        thresholds = thresholds_at(impostor[fitted], targets, None if weights is None else weights[fitted])
        made += _each(first, second, people, stands)
        for counted, threshold in zip(hits, thresholds, strict=True):
            accepted = held_out >= threshold
            counted += _each(first[accepted], second[accepted], people, None if stands is None else stands[accepted])
    least = 3 / (pairs_of_people(people) if pairs is None else pairs)
    quantile = float(t.ppf(0.95, people - 1))
    bounds = []
    for counted in hits:
        far = float(counted.sum() / made.sum())
        # each comparison was counted for two people
        parts = (counted - far * made) / (made.sum() / 2)
        relative = float(np.linalg.norm(parts)) / far if far else 0.0
        upper = far * math.exp(min(quantile * relative, 700.0))
        bounds.append(FarBound(far, min(max(upper, least), 1.0)))
    return bounds


def rate_interval(rate: float, variance: float, people: int, most: float = np.inf) -> tuple[float, float]:
    """The 95 % interval of a rate whose variance was estimated over people.

    This is Wilson's interval (1927) for the effective sample size (Kish 1965), which is the number of independent
    trials with the same variance, with Student's quantile for the degrees of freedom (Korn and Graubard 1998; Franco et
    al. 2019 compare such intervals). A rate of 0 or 1 shows no variance; each person then counts as one trial.

    Args:
        rate: The rate, 0..1.
        variance: Its variance.
        people: Number of people (or other clusters) that it comes from.
        most: Upper limit of the effective sample size.

    Returns:
        Both ends, 0..1.
    """
    from scipy.stats import t

    if people < 2:
        return 0.0, 1.0
    size = rate * (1.0 - rate) / variance if variance > 0.0 and 0.0 < rate < 1.0 else float(people)
    return wilson_interval(rate, min(size, most), float(t.ppf(0.975, people - 1)))


def mean_interval(
    values: NDArray[np.float64], clusters: Integers, weights: NDArray[np.float64] | None = None
) -> tuple[float, float]:
    """The 95 % interval of a mean of clustered shares.

    The variance is the cluster-robust one (Liang and Zeger 1986), plus one degree of freedom of the variance that the
    mean would have if each cluster counted as one trial: a few clusters without a hard one among them would otherwise
    show too small a variance. The effective sample size is at most that of the weights alone (Kish 1965).

    Args:
        values: float64 (n,), shares in 0..1.
        clusters: Integers (n,), from 0 on: the cluster of each value, such as the identity that it is about.
        weights: float64 (n,) of sum 1; None for equal weights.

    Returns:
        Both ends, 0..1.
    """
    weights = np.full(len(values), 1 / len(values)) if weights is None else weights
    rate = float(weights @ values)
    # rounding of the sum near 0 and 1 is no variance
    rate = next((end for end in (0.0, 1.0) if math.isclose(rate, end, abs_tol=1e-12)), rate)
    parts = np.bincount(clusters, weights * (values - rate))
    count = int(np.count_nonzero(np.bincount(clusters, weights)))
    # of count degrees of freedom, one is rate * (1 - rate) / count; the others are the robust variance
    variance = float((parts**2).sum()) + rate * (1.0 - rate) / count**2
    return rate_interval(rate, variance, count, most=1 / float((weights**2).sum()))


def _each(one: Integers, other: Integers, people: int, weights: Weights | None) -> NDArray[np.float64]:
    """The number of comparisons with each person."""
    both = np.bincount(one, weights, minlength=people) + np.bincount(other, weights, minlength=people)
    return both.astype(np.float64)


def _halvings(people: int, rng: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    """Both halves of each random halving of the people, as bool (people,)."""
    for _ in range(_SPLITS):
        side = rng.permutation(people) < people // 2
        yield side
        yield ~side

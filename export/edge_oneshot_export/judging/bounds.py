"""How far the truth may lie from a measured rate when comparisons share people, who differ from each other.

A comparison is no independent trial: somebody who is easily mistaken is so in every comparison. What a rate varies by
is therefore taken from what each person adds to it, not from the count of comparisons.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_export.judging.cells import Integers
from edge_oneshot_export.judging.metrics import Scores, thresholds_at, wilson_interval

_SPLITS: Final = 5


@dataclass(frozen=True, slots=True)
class FarBound:
    """What a threshold for a wanted false accept rate does on other people than those it comes from.

    Attributes:
        far: False accept rate measured there, 0..1.
        upper_95: Upper 95 % bound of the true one.
    """

    far: float
    upper_95: float


def supports(people: int, far: float) -> bool:
    """Whether so many people support a false accept rate: 3 over their pairs does not exceed it.

    That is the rule of three (Hanley and Lippman-Hand 1983) over pairs of people, since
    comparisons between the same two people are not independent.
    """
    return far * (people * (people - 1) // 2) >= 3 - 1e-9


def people_needed(far: float) -> int:
    """The fewest people that support a false accept rate, see `supports`."""
    people = max(math.ceil(0.5 + math.sqrt(0.25 + 6.0 / far)) - 1, 2)
    return people if supports(people, far) else people + 1


def supported_targets(people: int) -> tuple[float, ...]:
    """Targets 5, 2, 1 a decade, from 0.5 down to the smallest that so many identities support."""
    grid = (float(f"{step}e-{decade}") for decade in range(1, 10) for step in (5, 2, 1))
    return tuple(target for target in grid if supports(people, target))


def far_bounds(impostor: Scores, sides: Integers, targets: Sequence[float], rng: np.random.Generator) -> list[FarBound]:
    """The true false accept rate of thresholds that are fitted to these scores, bounded from above.

    Threshold and count come from disjoint people (cross-fitting): over several random halvings,
    what one half accepts is counted at the threshold of the other. The variance of that rate is
    the jackknife's for a mean over pairs (Arvesen 1969), in its linear form: the sum over people
    of the square of what all comparisons with them add to the rate. It holds whatever the
    comparisons of one person have in common, and counts what a pair has for itself twice, which
    makes up for how few people there are. The bound is Student's, with one degree of freedom
    fewer than people, on the logarithm of the rate, for rates of rare events are skewed; it is at
    least 3 over the pairs of people (Hanley and Lippman-Hand 1983). docs/experiments/coverage.md has its coverage.

    Args:
        impostor: float32 (m,), scores of comparisons of two people.
        sides: Integers (m, 2), the two people of each, 0..people-1.
        targets: Wanted rates that the people support, see `supports`.
        rng: Draws the halvings.
    """
    from scipy.stats import t

    one, other = np.ascontiguousarray(sides.T)
    people = int(sides.max()) + 1
    made = np.zeros(people)
    hits = np.zeros((len(targets), people))
    for side in _halvings(people, rng):
        one_in, other_in = side[one], side[other]
        fitted, inside = impostor[~(one_in | other_in)], np.flatnonzero(one_in & other_in)
        held_out, first, second = impostor[inside], one[inside], other[inside]
        made += _each(first, second, people)
        for counted, threshold in zip(hits, thresholds_at(fitted, targets), strict=True):
            accepted = held_out >= threshold
            counted += _each(first[accepted], second[accepted], people)
    least = 3 / (people * (people - 1) / 2)
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
    """95 % interval of a rate whose variance is known from so many people.

    Wilson's interval (1927) for the effective sample size (Kish 1965), the number of independent
    trials that would vary as much, with Student's quantile for the degrees of freedom (Korn and
    Graubard 1998; Franco et al. 2019 compare such intervals). A rate of 0 or 1 shows no
    variance of its own; each person then counts once.

    Args:
        rate: 0..1.
        variance: Of the rate.
        people: People (or other clusters) that it comes from.
        most: The effective sample size is not larger.
    """
    from scipy.stats import t

    if people < 2:
        return 0.0, 1.0
    size = rate * (1.0 - rate) / variance if variance > 0.0 and 0.0 < rate < 1.0 else float(people)
    return wilson_interval(rate, min(size, most), float(t.ppf(0.975, people - 1)))


def mean_interval(
    values: NDArray[np.float64], clusters: Integers, weights: NDArray[np.float64] | None = None
) -> tuple[float, float]:
    """95 % interval of a mean of shares, 0..1, that come in clusters.

    The variance is the cluster-robust one (Liang and Zeger 1986), joined by one degree of freedom
    of what it were if each cluster counted once: few clusters that happen to have no hard one
    among them show too small a variance, and this is where they would differ most. The effective
    sample size is not larger than that of the weights alone (Kish 1965).

    Args:
        values: (n,).
        clusters: Integers (n,), from 0 on, what makes values alike: whom they show.
        weights: float64 (n,), of sum 1; equal ones unless given.
    """
    weights = np.full(len(values), 1 / len(values)) if weights is None else weights
    rate = float(weights @ values)
    # a sum of shares can miss 0 and 1 by its rounding, which is then no variance
    rate = next((end for end in (0.0, 1.0) if math.isclose(rate, end, abs_tol=1e-12)), rate)
    parts = np.bincount(clusters, weights * (values - rate))
    count = int(np.count_nonzero(np.bincount(clusters, weights)))
    # of count degrees of freedom, one is rate * (1 - rate) / count; the others are the robust variance
    variance = float((parts**2).sum()) + rate * (1.0 - rate) / count**2
    return rate_interval(rate, variance, count, most=1 / float((weights**2).sum()))


def _each(one: Integers, other: Integers, people: int) -> NDArray[np.int64]:
    """How many comparisons there are with each person."""
    return np.bincount(one, minlength=people) + np.bincount(other, minlength=people)


def _halvings(people: int, rng: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    """Each half of the people, as bool (people,), for each of some random halvings."""
    for _ in range(_SPLITS):
        side = rng.permutation(people) < people // 2
        yield side
        yield ~side

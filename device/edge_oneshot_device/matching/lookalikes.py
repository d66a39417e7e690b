"""Look-alikes: pairs of people of whom one would be accepted as the other at a door's thresholds.

Everybody is compared with everybody, a block of people with a block of people at a time: one matrix product gives a
value of every pair of templates, and the few pairs of people that can reach a threshold are then scored as
`decision.scores` and `decision.join` do. So the work grows with the square of the number of templates, and the memory,
beyond the templates, does not grow.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Metric, Rule

_CHUNK: Final = 4096  # pairs of people that are scored at once


class Door(NamedTuple):
    """What a door accepts somebody by.

    Attributes:
        metric: How embeddings are compared, see `decision.scores`.
        rule: How the scores of a person's templates are joined, see `decision.join`.
        verify: The threshold of 1:1 for a person with 1, 2, ... templates.
        identify: The threshold of 1:N, with everybody enrolled.
    """

    metric: Metric
    rule: Rule
    verify: tuple[float, ...]
    identify: float


class AlikePair(NamedTuple):
    """Two people of whom one would be accepted as the other, by one of the templates.

    Attributes:
        first, second: Their numbers; the first is the smaller one.
        score: Of a template of the one against the other person; of the two directions and all templates the one that
            exceeds its threshold by most.
        threshold: That of 1:1 for this direction.
        templates: How many templates the person has who is compared with.
        verify: Whether the score reaches the threshold of 1:1.
        identify: Whether a score of the two reaches the threshold of 1:N.
    """

    first: int
    second: int
    score: float
    threshold: float
    templates: int
    verify: bool
    identify: bool


class AlikePairs(NamedTuple):
    """The look-alikes of a gallery.

    Attributes:
        closest: The pairs that exceed their threshold by most, in descending order.
        total: Number of all pairs.
        identify: How many of them reach the threshold of 1:N.
        people: Number of people who are in at least one pair.
    """

    closest: list[AlikePair]
    total: int
    identify: int
    people: int


class _People(NamedTuple):
    """Templates, float32 (n, d), those of a person side by side; number, first row and count of each person."""

    templates: NDArray[np.float32]
    numbers: NDArray[np.int64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]


class _Scored(NamedTuple):
    """Pairs of people as arrays of k values; see `AlikePair`, and the lead of each score over its threshold."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    scores: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    templates: NDArray[np.int64]
    leads: NDArray[np.float64]
    identify: NDArray[np.bool_]

    def only(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> "_Scored":
        people, values = (self.first[which], self.second[which]), (self.scores[which], self.thresholds[which])
        return _Scored(*people, *values, self.templates[which], self.leads[which], self.identify[which])

    def closest(self, limit: int, numbers: NDArray[np.int64]) -> list[AlikePair]:
        """At most so many pairs, those with the greatest lead first."""
        some = self.only(np.lexsort([self.second, self.first, -self.leads])[:limit])
        columns = [numbers[some.first], numbers[some.second], *some[2:5], some.leads >= 0, some.identify]
        return [AlikePair(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def find_alike(
    owners: NDArray[np.int64],
    templates: NDArray[np.float32],
    door: Door,
    limit: int,
    report: Callable[[int, int], None] | None = None,
    *,
    block: int = 1024,
) -> AlikePairs:
    """Find all pairs of look-alikes among many people.

    Args:
        owners: int64 (n,): the number of the person of each template, in ascending order.
        templates: float32 (n, d), finite; for ``cosine`` of unit length.
        door: The thresholds, for as many templates as anybody has.
        limit: The most pairs to return, at least 1; all of them are counted.
        report: Called with the number of pairs of people compared so far and the number of all.
        block: About how many templates are multiplied with as many others at once.

    Returns:
        The pairs.
    """
    numbers, starts, counts = np.unique(owners, return_index=True, return_counts=True)
    people = _People(templates, numbers, starts, counts)
    edges = np.searchsorted(starts, np.arange(0, len(owners), block)).tolist()
    blocks = [span for span in pairwise([*edges, len(numbers)]) if span[0] < span[1]]
    squared_norms = np.einsum("ij,ij->i", templates, templates, dtype=np.float64)
    least = _least(squared_norms, templates.shape[1], door)
    half_norms = None if door.metric == "cosine" else squared_norms / 2
    closest: list[AlikePair] = []
    total = identify = done = 0
    alike = np.zeros(len(numbers), bool)
    for place, own in enumerate(blocks):
        for other in blocks[place:]:
            first, second = _candidates(people, own, other, least, half_norms)
            for start in range(0, len(first), _CHUNK):
                part = slice(start, start + _CHUNK)
                found = _score(people, first[part], second[part], door)
                total += len(found.first)
                identify += int(found.identify.sum())
                alike[found.first] = alike[found.second] = True
                closest = sorted(closest + found.closest(limit, numbers), key=_order)[:limit]
            size, others = own[1] - own[0], other[1] - other[0]
            done += size * (size - 1) // 2 if own == other else size * others
            if report is not None:
                report(done, len(numbers) * (len(numbers) - 1) // 2)
    return AlikePairs(closest, total, identify, int(alike.sum()))


def compare(first: NDArray[np.float32], second: NDArray[np.float32], door: Door) -> AlikePair | None:
    """Whether two people are look-alikes.

    Args:
        first: Their templates, float32 (k, d), as for `find_alike`.
        second: Those of the other person, float32 (l, d).
        door: The thresholds, for as many templates as either has.

    Returns:
        The pair, as numbers 0 and 1; None where neither would be accepted as the other.
    """
    counts = np.array([len(first), len(second)])
    people = _People(np.concatenate([first, second]), np.arange(2), np.array([0, len(first)]), counts)
    return next(iter(_score(people, np.array([0]), np.array([1]), door).closest(1, people.numbers)), None)


def _order(pair: AlikePair) -> tuple[float, int, int]:
    return pair.threshold - pair.score, pair.first, pair.second


def _least(squared_norms: NDArray[np.float64], size: int, door: Door) -> float:
    """The lowest value of two templates, see `_candidates`, whose owners can be look-alikes."""
    # a joined score is at most the best of the scores that it joins
    lowest = min(*door.verify, door.identify)
    # what rounding of the values to float32 can amount to, four times over, as in `search`
    slack = 4.0 * (size + 16) * 2**-23 * float(squared_norms.max(initial=0.0))
    return (lowest if door.metric == "cosine" else -(min(lowest, 0.0) ** 2) / 2) - slack


def _candidates(
    people: _People,
    own: tuple[int, int],
    other: tuple[int, int],
    least: float,
    half_norms: NDArray[np.float64] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of people of two blocks of which two templates have at least this value.

    The value is the product of the templates; for the Euclidean metric half of each squared norm is subtracted, which
    makes it minus half of the squared distance.
    """
    rows, columns = (_rows_of(people, block) for block in (own, other))
    with np.errstate(over="ignore", invalid="ignore"):
        values = people.templates[rows] @ people.templates[columns].T
        if half_norms is not None:
            values -= half_norms[rows, np.newaxis].astype(np.float32)
            values -= half_norms[columns].astype(np.float32)
        # NaN, from squares that overflow, is a candidate
        places = np.flatnonzero(~(values < least))
    row, column = np.divmod(places, values.shape[1])
    owner = [np.repeat(np.arange(*block), people.counts[slice(*block)]) for block in (own, other)]
    first, second = owner[0][row], owner[1][column]
    keys = np.unique((first * len(people.numbers) + second)[first < second])
    return np.divmod(keys, len(people.numbers))


def _rows_of(people: _People, block: tuple[int, int]) -> slice:
    last = block[1] - 1
    return slice(int(people.starts[block[0]]), int(people.starts[last] + people.counts[last]))


def _score(people: _People, first: NDArray[np.int64], second: NDArray[np.int64], door: Door) -> _Scored:
    """Score pairs of people in both directions, and keep the look-alikes.

    Args:
        people: The templates.
        first: int64 (k,): the place of one person of each pair.
        second: The same for the other.
        door: The thresholds.
    """
    most = int(max(people.counts[first].max(), people.counts[second].max()))
    rows, columns = (_padded(people, which, most) for which in (first, second))
    values = np.stack([_values(people.templates, row, columns, door.metric) for row in rows.T], axis=1)
    to_second = _joined(values, people.counts[second], door.rule)
    to_first = _joined(values.transpose(0, 2, 1), people.counts[first], door.rule)
    verify = np.array(door.verify)
    needed = [verify[people.counts[which] - 1] for which in (second, first)]
    leads = [to_second - needed[0], to_first - needed[1]]
    backward = leads[1] > leads[0]
    scored = _Scored(
        first,
        second,
        np.where(backward, to_first, to_second),
        np.where(backward, needed[1], needed[0]),
        np.where(backward, people.counts[first], people.counts[second]),
        np.maximum(*leads),
        np.maximum(to_first, to_second) >= door.identify,
    )
    return scored.only((scored.leads >= 0) | scored.identify)


def _padded(people: _People, which: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The rows of people, (k, most); of somebody with fewer templates the last one is repeated."""
    return people.starts[which, np.newaxis] + np.minimum(np.arange(most), people.counts[which, np.newaxis] - 1)


def _values(
    templates: NDArray[np.float32], row: NDArray[np.int64], columns: NDArray[np.int64], metric: Metric
) -> NDArray[np.float64]:
    """Scores, as `decision.scores` computes them, of one row (k,) each with several (k, m): (k, m)."""
    probes, others = templates[row][:, np.newaxis], templates[columns]
    if metric == "cosine":
        found: NDArray[np.float32] = np.einsum("kjd,kjd->kj", probes, others)
        return np.clip(found.astype(np.float64), -1.0, 1.0)
    with np.errstate(over="ignore"):
        difference = probes - others
        found = -np.sqrt(np.einsum("kjd,kjd->kj", difference, difference))
    return found.astype(np.float64)


def _joined(values: NDArray[np.float64], counts: NDArray[np.int64], rule: Rule) -> NDArray[np.float64]:
    """The best score of one person's templates against another person, as `decision.join` joins them.

    Args:
        values: (k, m, m): scores of the templates of the one (second axis) with those of the other (third axis).
        counts: (k,): how many templates the other has; beyond them the last is repeated.
        rule: How the other's are joined.

    Returns:
        (k,).
    """
    if rule == "best":
        joined = values.max(axis=2)
    else:
        own = np.arange(values.shape[2]) < counts[:, np.newaxis]
        sums = np.where(own[:, np.newaxis], values, 0.0).sum(axis=2)
        joined = (sums / counts[:, np.newaxis]).astype(np.float32)
    best: NDArray[np.float64] = joined.max(axis=1).astype(np.float64)
    return best

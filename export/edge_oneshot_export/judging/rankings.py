"""One-shot accuracy at every N from one ranking of each query, without drawing tasks for each N."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Metric
from edge_oneshot_export.judging.bounds import mean_interval
from edge_oneshot_export.judging.cells import Cells, Integers, sort_into_cells
from edge_oneshot_export.judging.protocols import ROUNDING, score_matrix

_SCORES_AT_ONCE: Final = 4_000_000
_PRODUCTS: Final = 5_000_000_000  # about so many multiplications for all draws of supports
_MOST_DRAWS: Final = 50


@dataclass(frozen=True, slots=True, eq=False)
class Rankings:
    """The rank of each query's answer among all identities of a pool: those of one group, by one drawer.

    Attributes:
        pool: int64 (r,), the pool of the support.
        identity: int64 (r,), the identity of the query, from 0 on.
        better: int64 (r,), the number of others that score higher than the answer.
        tied: int64 (r,), the number of others with the same score, within `ROUNDING`.
        share: float64 (r,), the probability of this query and support, given the pool.
        pool_size: int64 (pools,), the number of identities in each pool.
        pool_group: int64 (pools,), the group of each.
    """

    pool: NDArray[np.int64]
    identity: NDArray[np.int64]
    better: NDArray[np.int64]
    tied: NDArray[np.int64]
    share: NDArray[np.float64]
    pool_size: NDArray[np.int64]
    pool_group: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The accuracy on N-way tasks.

    Attributes:
        ways: N.
        tasks: Number of tasks, or of the rankings that stand for all tasks.
        share: Share of the tasks that are solved.
        interval: Its 95 % interval.
    """

    ways: int
    tasks: int
    share: float
    interval: tuple[float, float]


def rank(
    embeddings: NDArray[np.float32],
    labels: Integers,
    metric: Metric,
    *,
    seed: int,
    groups: Integers | None = None,
    drawers: Integers | None = None,
) -> Rankings:
    """Rank the answer of every query among one image of each identity of every pool.

    Groups, drawers and queries are those of `one_shot_episodes`. Where a drawer made several images of an identity, or
    where the drawers are unknown, supports are drawn several times.

    Args:
        embeddings: float32 (n, d).
        labels: Integers (n,), the identity of each image.
        metric: How rows are compared.
        seed: Random seed of the supports.
        groups: Integers (n,), the group of each image; None for one group.
        drawers: Integers (n,), who drew each image; None where that is unknown.

    Returns:
        A ranking for each query and each draw of the support.

    Raises:
        ModelError: An identity is in two groups, or an array has another length.
    """
    cells = sort_into_cells(labels, groups, drawers)
    owner_of = np.unique(labels, return_inverse=True)[1]
    pools = sum(len(drawn) for drawn in cells.pools)
    rng = np.random.default_rng(seed)
    columns: list[tuple[NDArray[np.int64], ...]] = []
    shares: list[NDArray[np.float64]] = []
    sizes: list[int] = []
    group_of: list[int] = []
    for group, drawn in enumerate(cells.pools):
        for pool in drawn:
            asked, queries, of_image = _queries(cells, pool, apart=drawers is not None)
            products = len(queries) * len(pool) * embeddings.shape[1]
            alone = int(cells.count[pool].max()) == 1
            draws = 1 if alone else max(1, min(_MOST_DRAWS, _PRODUCTS // (products * pools)))
            for _ in range(draws):
                support = cells.start[pool] + (rng.random(len(pool)) * cells.count[pool]).astype(np.int64)
                # without drawers the query is any image but the one in the support
                kept = np.flatnonzero(of_image != support[asked])
                places, shown = cells.order[queries[kept]], cells.order[support]
                better, tied = _standing(embeddings[places], embeddings[shown], asked[kept], metric)
                columns.append((np.full(len(kept), len(sizes)), owner_of[places], better, tied))
                of_each = np.bincount(asked[kept], minlength=len(pool))
                shares.append(1.0 / (draws * len(pool) * of_each[asked[kept]]))
            sizes.append(len(pool))
            group_of.append(group)
    pool_of, identity, better, tied = (np.concatenate(column) for column in zip(*columns, strict=True))
    share = np.concatenate(shares)
    return Rankings(pool_of, identity, better, tied, share, np.array(sizes, np.int64), np.array(group_of, np.int64))


def accuracies(rankings: Rankings, lowest: int, highest: int) -> list[Accuracy]:
    """The accuracy on all N-way tasks that `one_shot_episodes` could draw, for each N.

    A task holds N - 1 of the K - 1 others of a pool, and each choice is equally likely. With b better others, t tied
    ones, and ties broken at random, the answer wins in
    (C(K - b, N) - C(K - 1 - b - t, N)) / ((t + 1) C(K - 1, N - 1)) of the tasks. Without ties this is the
    hypergeometric probability of none of the b, C(K - 1 - b, N - 1) / C(K - 1, N - 1).
    For the interval, tasks are clustered by the identity of the query, see `mean_interval`.

    Args:
        rankings: The rankings of all queries.
        lowest: The smallest N, at least 2.
        highest: The largest N, at most the size of the largest pool.

    Returns:
        The accuracy for each N from `lowest` to `highest`.
    """
    width = int(rankings.pool_size.max()) + 1
    code = (rankings.pool_size[rankings.pool] * width + rankings.better) * width + rankings.tied
    kinds, kind_of = np.unique(code, return_inverse=True)
    size, better, tied = kinds // width**2, kinds // width % width, kinds % width
    found = []
    for ways in range(lowest, highest + 1):
        large = rankings.pool_size >= ways
        pools_of = np.bincount(rankings.pool_group[large])
        chance = np.zeros(len(large))
        chance[large] = 1 / (np.count_nonzero(pools_of) * pools_of[rankings.pool_group[large]])
        weights = rankings.share * chance[rankings.pool]
        solved = _solved(ways, size, better, tied)[kind_of]
        interval = mean_interval(solved, rankings.identity, weights)
        tasks = int(np.count_nonzero(large[rankings.pool]))
        found.append(Accuracy(ways, tasks, min(float(weights @ solved), 1.0), interval))
    return found


def _queries(
    cells: Cells, pool: NDArray[np.int64], *, apart: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For each query of a pool: the position of its cell, its position in the order, and the support to avoid."""
    counts = cells.owner_count[pool]
    asked = np.repeat(np.arange(len(pool)), counts)
    queries = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts) + cells.owner_start[pool][asked]
    if not apart:
        return asked, queries, queries
    own = queries - cells.start[pool][asked]
    outside = (own < 0) | (own >= cells.count[pool][asked])
    return asked[outside], queries[outside], np.full(int(outside.sum()), -1)


def _standing(
    probes: NDArray[np.float32], templates: NDArray[np.float32], answers: NDArray[np.int64], metric: Metric
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many of the other templates score higher than each probe's answer, and how many are tied with it."""
    better, tied = np.empty_like(answers), np.empty_like(answers)
    step = max(1, _SCORES_AT_ONCE // len(templates))
    for start in range(0, len(probes), step):
        rows = slice(start, start + step)
        alike = score_matrix(probes[rows], templates, metric)
        own = np.take_along_axis(alike, answers[rows, np.newaxis], axis=1)
        least = ROUNDING * np.maximum(1.0, np.abs(own))
        better[rows] = np.count_nonzero(alike > own + least, axis=1)
        tied[rows] = np.count_nonzero(alike >= own - least, axis=1) - better[rows] - 1
    return better, tied


def _solved(
    ways: int, size: NDArray[np.int64], better: NDArray[np.int64], tied: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The share of the tasks that are solved, for each kind of ranking; 0 in pools that are too small."""
    from scipy.special import gammaln

    def choices(among: NDArray[np.int64], take: int) -> NDArray[np.float64]:
        possible = among >= take
        among = np.where(possible, among, take)
        return np.where(possible, gammaln(among + 1) - gammaln(take + 1) - gammaln(among - take + 1), -np.inf)

    every = choices(np.maximum(size, ways) - 1, ways - 1)
    won = np.exp(choices(size - better, ways) - every) - np.exp(choices(size - 1 - better - tied, ways) - every)
    return np.asarray(np.clip(np.where(size >= ways, won / (tied + 1), 0.0), 0.0, 1.0))

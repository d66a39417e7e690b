"""What evaluation works on: labelled images, one-shot episodes, pairs of images, 1:N trials."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Metric, Rule
from edge_oneshot_device.matching.decision import scores
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.judging.cells import Integers, sort_into_cells

PAIR_LIMIT: Final = 4_000_000
"""About how many impostor pairs are kept at most."""

ROUNDING: Final = 1e-6
"""Scores count as equal when they differ by less than this, relative to the larger of them and 1, because a matrix
product rounds equal rows differently at different positions."""

_FLOOR_IMAGES: Final = 200
"""Number of images whose scores say above which score an impostor pair is among the highest."""

_KEYS_AT_ONCE: Final = 4_000_000
"""Number of random keys that are held in memory at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """Preprocessed images, and who or what they show.

    Attributes:
        images: uint8 (n, h, w, c).
        labels: int64 (n,), positions in `names`.
        names: The name of each identity.
        faults: For each image the reason why it has no content, or None; None where no reasons are known.
        groups: int64 (n,), positions in `group_names`: the alphabet of each image, say. None where there are no groups.
        group_names: The name of each group.
        drawers: int64 (n,), who drew each image; None where that is unknown.

    Raises:
        ModelError: The parts do not fit each other.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    faults: tuple[str | None, ...] | None = None
    groups: Integers | None = None
    group_names: tuple[str, ...] = ()
    drawers: Integers | None = None

    def __post_init__(self) -> None:
        """Check that the parts fit each other."""
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            message = f"images of shape {self.images.shape} and type {self.images.dtype}: need (n, h, w, c) of uint8"
            raise ModelError(message, reason="bad_images")
        if self.labels.shape != self.images.shape[:1] or not np.issubdtype(self.labels.dtype, np.integer):
            message = f"labels of shape {self.labels.shape} for {len(self.images)} images: need one integer an image"
            raise ModelError(message, reason="bad_labels")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.names):
            message = f"labels {self.labels.min()}..{self.labels.max()} for {len(self.names)} names: one lies outside"
            raise ModelError(message, reason="bad_labels")
        if self.faults is not None and len(self.faults) != len(self.images):
            message = f"{len(self.faults)} faults for {len(self.images)} images: need one an image, or none at all"
            raise ModelError(message, reason="bad_images")

    def count_faults(self, positions: Integers) -> dict[str, int]:
        """The number of these images by the reason why they have no content, ``no_content`` where none is known."""
        known = self.faults or (None,) * len(self.images)
        return dict(sorted(Counter(known[position] or "no_content" for position in positions.tolist()).items()))


@dataclass(frozen=True, slots=True, eq=False)
class Episodes:
    """One-shot tasks as positions in an array of images.

    Attributes:
        support: int64 (e, n), one image of each of n identities.
        query: int64 (e,), another image of one of them.
        answer: int64 (e,), the column of `support` that shows the query's identity.
    """

    support: NDArray[np.int64]
    query: NDArray[np.int64]
    answer: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Scores of pairs of images of one identity (genuine) and of two (impostor).

    Attributes:
        genuine: float32 (g,).
        impostor: float32 (m,).
        genuine_pairs: int64 (g, 2), positions of the two images.
        impostor_pairs: int64 (m, 2).
        weights: float64 (m,), how many impostor pairs each score stands for, where the highest are all there and the
            others are a sample; None where each stands for one.
    """

    genuine: NDArray[np.float32]
    impostor: NDArray[np.float32]
    genuine_pairs: NDArray[np.int64]
    impostor_pairs: NDArray[np.int64]
    weights: NDArray[np.float64] | None = None

    @property
    def impostors(self) -> int:
        """The number of impostor pairs that the scores stand for."""
        return len(self.impostor) if self.weights is None else round(float(self.weights.sum()))


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """1:N trials against galleries that hold every person, sorted by the person of the probe.

    Attributes:
        joined: float32 (t, people), the score of each person.
        owners: int64 (t,), the person whom the probe shows; from `people` on a stranger, who is in no gallery.
    """

    joined: NDArray[np.float32]
    owners: NDArray[np.int64]

    @property
    def people(self) -> int:
        """Number of people."""
        return int(self.joined.shape[1])

    @property
    def genuine(self) -> NDArray[np.float32]:
        """The scores of the person whom the probe shows, without strangers."""
        own = self.known
        return own.joined[np.arange(len(own.owners)), own.owners]

    @property
    def impostor(self) -> NDArray[np.float32]:
        """The scores of all others."""
        return np.asarray(self.joined[self.owners[:, np.newaxis] != np.arange(self.people)])

    @property
    def known(self) -> "Trials":
        """The trials without those of strangers."""
        own = int(np.searchsorted(self.owners, self.people))
        return Trials(self.joined[:own], self.owners[:own])


def one_shot_episodes(
    labels: Integers,
    ways: int,
    episodes: int,
    seed: int,
    *,
    groups: Integers | None = None,
    drawers: Integers | None = None,
) -> Episodes:
    """Draw N-way one-shot episodes (Lake et al. 2011): one query against one image each of N identities.

    These are drawn uniformly, in this order: the group (alphabet) among those that are large enough, the drawer of the
    support, the N identities and their order, the answer among them, and the image of the query.

    Args:
        labels: Integers (n,), the identity of each image; identities with a single image (or a single drawer) are not
            used.
        ways: N, at least 2.
        episodes: Number of episodes, at least 1.
        seed: Random seed.
        groups: Integers (n,), the group of each image. The N identities then come from one group, and groups that are
            smaller than N are skipped.
        drawers: Integers (n,), who drew each image. The support is then by one drawer and the query by another. Without
            it the query is any other image of its identity.

    Returns:
        The episodes.

    Raises:
        ModelError: `ways` or `episodes` is too small, or no group is large enough.
    """
    if ways < 2 or episodes < 1:
        raise ModelError(f"{ways} ways, {episodes} episodes: at least 2 and 1 are needed", reason="bad_protocol")
    cells = sort_into_cells(labels, groups, drawers)
    pools = [[p for p in drawn if len(p) >= ways] for drawn in cells.pools]
    pools = [drawn for drawn in pools if drawn]
    if not pools:
        unit = "image" if drawers is None else "drawer"
        where = "the data have" if groups is None else "a group has"
        message = f"{ways}-way episodes need {ways} identities with a second {unit}, more than {where}: take fewer ways"
        raise ModelError(message, reason="too_few_identities")
    rng = np.random.default_rng(seed)
    group_of = rng.integers(len(pools), size=episodes)
    drawer_of = rng.random(episodes)
    chosen = np.empty((episodes, ways), dtype=np.int64)
    for group, drawn in enumerate(pools):
        inside = np.flatnonzero(group_of == group)
        pool_of = (drawer_of[inside] * len(drawn)).astype(np.int64)
        for number, pool in enumerate(drawn):
            rows = inside[pool_of == number]
            chosen[rows] = pool[_distinct(rng, len(rows), len(pool), ways)]
    support = cells.start[chosen] + (rng.random(chosen.shape) * cells.count[chosen]).astype(np.int64)
    answer = rng.integers(ways, size=episodes)
    each = np.arange(episodes)
    asked = chosen[each, answer]
    # the query avoids all images of its identity by the drawer of the support, or only the one image
    barred, width = (support[each, answer], 1) if drawers is None else (cells.start[asked], cells.count[asked])
    query = cells.owner_start[asked] + (rng.random(episodes) * (cells.owner_count[asked] - width)).astype(np.int64)
    query += np.where(query >= barred, width, 0)
    return Episodes(cells.order[support], cells.order[query], answer)


def one_shot(
    embeddings: NDArray[np.float32], episodes: Episodes, metric: Metric, *, seed: int = 0
) -> NDArray[np.bool_]:
    """Whether the nearest support image is the answer, for each episode.

    Ties (within `ROUNDING`) are broken at random, so that an encoder that maps everything to one point is at chance.

    Args:
        embeddings: float32 (n, d), one row per image.
        episodes: Positions in `embeddings`.
        metric: How rows are compared.
        seed: Random seed of the ties.

    Returns:
        bool (e,).
    """
    alike = np.empty(episodes.support.shape, dtype=np.float32)
    for row, (support, query) in enumerate(zip(episodes.support, episodes.query, strict=True)):
        alike[row] = scores(embeddings[query], embeddings[support], metric)
    highest = alike.max(axis=1, keepdims=True)
    best = alike >= highest - ROUNDING * np.maximum(1.0, np.abs(highest))
    lots = np.random.default_rng(seed).random(best.shape)
    return np.asarray(np.where(best, lots, -1.0).argmax(axis=1) == episodes.answer)


def genuine_and_impostor(
    embeddings: NDArray[np.float32],
    labels: Integers,
    metric: Metric,
    *,
    seed: int = 0,
    limit: int = PAIR_LIMIT,
    highest: int = 0,
) -> Pairs:
    """Scores of all pairs of images; if there are more than `limit` impostor pairs, the highest and a sample.

    Every pair is scored, so that small false accept rates are those of all pairs; memory grows with the kept ones.

    Args:
        embeddings: float32 (n, d).
        labels: Integers (n,), the identity of each image.
        metric: How rows are compared.
        seed: Random seed of the sample.
        limit: About how many impostor pairs to keep.
        highest: About how many of them are to be those with the highest scores; the others are a random sample of
            the rest, and stand for it by their weights.

    Returns:
        The scores of both kinds of pairs.
    """
    rng = np.random.default_rng(seed)
    images = len(labels)
    sizes = np.unique(labels, return_counts=True)[1]
    total = (images**2 - int((sizes**2).sum())) // 2
    floor, share = np.inf, min(limit / max(total, 1), 1.0)
    if share < 1.0 and highest:
        floor = _floor(embeddings, labels, metric, highest / total, rng)
        share = (limit - highest) / (total - highest)
    alike: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
    seconds: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for first in range(images):
        second = np.arange(first + 1, images)
        found = scores(embeddings[first], embeddings[second], metric)
        if share < 1.0:
            kept = (found >= floor) | (labels[second] == labels[first]) | (rng.random(len(second)) < share)
            found, second = found[kept], second[kept]
        alike.append(found)
        seconds.append(second)
    values = np.concatenate(alike)
    firsts = np.repeat(np.arange(images), [len(second) for second in seconds[1:]])
    pairs = np.stack([firsts, np.concatenate(seconds)], axis=1)
    same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    impostor = values[~same]
    weights = None
    if np.isfinite(floor):
        lower = impostor < floor
        weights = np.where(lower, 1.0 + (total - len(impostor)) / max(int(lower.sum()), 1), 1.0)
    return Pairs(values[same], impostor, pairs[same], pairs[~same], weights)


def _floor(
    embeddings: NDArray[np.float32], labels: Integers, metric: Metric, share: float, rng: np.random.Generator
) -> float:
    """The score that about this share of the impostor pairs reach, by the pairs of some images."""
    chosen = rng.permutation(len(labels))[:_FLOOR_IMAGES]
    found = [scores(embeddings[one], embeddings[labels != labels[one]], metric) for one in chosen]
    return float(np.quantile(np.concatenate(found), 1.0 - share))


def score_matrix(probes: NDArray[np.float32], templates: NDArray[np.float32], metric: Metric) -> NDArray[np.floating]:
    """The scores of many probes against templates, as `edge_oneshot_device.matching.decision.scores` defines them.

    Args:
        probes: float32 (p, d).
        templates: float32 (n, d).
        metric: How rows are compared.

    Returns:
        Floats (p, n).
    """
    if metric == "cosine":
        return np.asarray(np.clip(probes @ templates.T, -1.0, 1.0))
    # centred and in double precision, because the products cancel
    middle = templates.mean(axis=0, dtype=np.float64)
    one, other = probes - middle, templates - middle
    square = np.einsum("ij,ij->i", one, one)[:, np.newaxis] + np.einsum("ij,ij->i", other, other) - 2 * one @ other.T
    return np.asarray(-np.sqrt(np.maximum(square, 0.0)))


def gallery_trials(
    embeddings: NDArray[np.float32],
    people: Sequence[NDArray[np.int64]],
    templates: int,
    metric: Metric,
    rng: np.random.Generator,
    *,
    comparisons: int,
    strangers: Sequence[NDArray[np.int64]] = (),
) -> dict[Rule, Trials]:
    """Compare probes with random galleries in which each person has `templates` templates.

    Scores are those of `edge_oneshot_device.matching.decision`, joined as its `join` does.

    Args:
        embeddings: float32 (n, d).
        people: Positions of the images of each person, more than `templates` of them.
        templates: Number of images of a person that become templates; the others are probes.
        metric: How a probe and a template are compared.
        rng: Draws the galleries.
        comparisons: About how many comparisons of a probe with a person to make, and as many with strangers. Each
            person has at least one probe.
        strangers: Positions of the images of each person who is in no gallery; they are probes.

    Returns:
        The trials for each rule that joins the scores of a person's templates.
    """
    most = max(1, comparisons // len(people) ** 2)
    probes = sum(min(len(own) - templates, most) for own in people)
    galleries = max(1, min(comparisons // (probes * len(people)), min(len(own) for own in people)))
    asked_of = max(1, comparisons // (galleries * max(len(strangers), 1) * len(people)))
    best, mean, owners = [], [], []
    for _ in range(galleries):
        drawn = [rng.permutation(own) for own in people]
        gallery = embeddings[np.concatenate([own[:templates] for own in drawn])]
        asked = [own[templates : templates + most] for own in drawn]
        asked += [rng.permutation(own)[:asked_of] for own in strangers]
        alike = score_matrix(embeddings[np.concatenate(asked)], gallery, metric)
        alike = alike.reshape(-1, len(people), templates)
        best.append(alike.max(axis=2).astype(np.float32))
        mean.append(alike.mean(axis=2, dtype=np.float64).astype(np.float32))
        owners.append(np.repeat(np.arange(len(asked)), [len(own) for own in asked]))
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    return {
        "best": Trials(np.concatenate(best)[order], owner[order]),
        "mean": Trials(np.concatenate(mean)[order], owner[order]),
    }


def _distinct(rng: np.random.Generator, rows: int, size: int, take: int) -> NDArray[np.int64]:
    """`take` distinct numbers below `size` in random order, for each of `rows` rows."""
    result = np.empty((rows, take), dtype=np.int64)
    step = max(1, _KEYS_AT_ONCE // size)
    for start in range(0, rows, step):
        keys = rng.random((min(step, rows - start), size))
        # partitioning leaves an order that depends on the position, so sort by the keys
        smallest = np.argpartition(keys, take - 1, axis=1)[:, :take]
        order = np.take_along_axis(keys, smallest, axis=1).argsort(axis=1)
        result[start : start + step] = np.take_along_axis(smallest, order, axis=1)
    return result

"""Accuracy from rankings is the accuracy on drawn tasks."""

from itertools import combinations

import numpy as np
import pytest

from edge_oneshot_device.matching.decision import scores
from edge_oneshot_export.judging.protocols import one_shot, one_shot_episodes
from edge_oneshot_export.judging.rankings import Rankings, accuracies, rank, score_matrix


def drawings(groups, drawers, *, most=1, seed=0, noise=1.2):
    """Embeddings of unit length of characters of some alphabets, their labels, groups and drawers."""
    rng = np.random.default_rng(seed)
    rows = [
        (group, label, drawer)
        for label, group in enumerate(np.repeat(np.arange(len(groups)), groups))
        for drawer in range(drawers)
        for _ in range(rng.integers(1, most + 1))
    ]
    group, label, drawer = np.array(rows).T
    embeddings = rng.standard_normal((sum(groups), 16))[label] + noise * rng.standard_normal((len(rows), 16))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings.astype(np.float32), label, group, drawer


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("known", [("groups", "drawers"), ("groups",), ()])
def test_every_n_agrees_with_drawn_tasks(metric, most, known):
    embeddings, labels, groups, drawers = drawings((12, 20, 31), 6, most=most)
    given = {name: values for name, values in (("groups", groups), ("drawers", drawers)) if name in known}
    found = accuracies(rank(embeddings, labels, metric, seed=0, **given), 2, 25)
    assert [one.ways for one in found] == list(range(2, 26))
    for ways in (2, 5, 15, 25):
        drawn = one_shot(embeddings, one_shot_episodes(labels, ways, 10_000, 1, **given), metric).mean()
        # four standard errors of the drawn tasks; drawn supports add some
        assert found[ways - 2].share == pytest.approx(drawn, abs=0.02)
        assert found[ways - 2].interval[0] < found[ways - 2].share < found[ways - 2].interval[1]


def test_the_share_of_solved_tasks_is_what_counting_them_all_gives():
    alike = np.array([0.5, 0.9, 0.5, 0.1, 0.5, 0.3, 0.7])  # the first is the answer; two better, two tied
    one = np.zeros(1, dtype=np.int64)
    ranking = Rankings(one, one, one + 2, one + 2, np.ones(1), one + 7, one)
    for found in accuracies(ranking, 2, 7):
        solved = []
        for others in combinations(alike[1:], found.ways - 1):
            best = max(alike[0], *others)
            solved.append((best == alike[0]) / (1 + others.count(alike[0])))
        assert found.share == pytest.approx(np.mean(solved))


def test_a_collapsed_encoder_is_at_chance_for_every_n():
    embeddings, labels, groups, drawers = drawings((4, 9), 3)
    same = np.tile(embeddings[:1], (len(embeddings), 1))
    for metric in ("cosine", "euclidean"):
        for one in accuracies(rank(same, labels, metric, seed=0, groups=groups, drawers=drawers), 2, 9):
            assert one.share == pytest.approx(1 / one.ways)


def test_a_perfect_encoder_solves_every_task():
    embeddings, labels, groups, drawers = drawings((4, 9), 3, noise=0.0)
    for one in accuracies(rank(embeddings, labels, "cosine", seed=0, groups=groups, drawers=drawers), 2, 9):
        assert one.share == pytest.approx(1.0)
        assert one.interval[0] < 1.0 == pytest.approx(one.interval[1])
    assert one.tasks == 9 * 3 * 2


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_many_probes_are_scored_as_the_device_scores_one(metric):
    embeddings = drawings((9, 9), 3)[0]
    alike = score_matrix(embeddings[:20], embeddings, metric)
    for row, probe in zip(alike, embeddings, strict=False):
        assert row == pytest.approx(scores(probe, embeddings, metric), abs=1e-6)

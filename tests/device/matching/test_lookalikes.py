"""Look-alikes: what blocks of products find is what the decision's own scorer finds, pair by pair."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_oneshot_device.matching.decision import join, scores
from edge_oneshot_device.matching.lookalikes import AlikePair, AlikePairs, Door, compare, find_alike
from edge_oneshot_device.matching.rows import Layout
from edge_oneshot_device.matching.search import Index

METRICS = ("cosine", "euclidean")
RULES = ("best", "mean")


def door(metric: Any = "cosine", rule: Any = "best", verify: float = 0.8, identify: float = 0.9) -> Door:
    return Door(metric, rule, (verify, verify + 0.01, verify + 0.02, verify + 0.03, verify + 0.04), identify)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def arrays(people: dict[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Owners and templates, as `Index.everything` returns them."""
    numbers = sorted(people)
    owners = np.repeat(np.array(numbers, np.int64), [len(people[number]) for number in numbers])
    return owners, np.concatenate([people[number] for number in numbers])


def taken_for(probes: np.ndarray, templates: np.ndarray, door: Door) -> float:
    """The best score that a person's templates reach as probes for another person."""
    owners = np.zeros(len(templates), np.int64)
    return max(float(join(scores(probe, templates, door.metric), owners, 1, door.rule)[0]) for probe in probes)


def by_force(people: dict[int, np.ndarray], door: Door) -> list[AlikePair]:
    """All pairs, those first that exceed their threshold by most."""
    found = []
    for first, second in itertools.combinations(sorted(people), 2):
        there = taken_for(people[first], people[second], door), len(people[second])
        back = taken_for(people[second], people[first], door), len(people[first])
        score, count = max(there, back, key=lambda way: way[0] - door.verify[way[1] - 1])
        threshold = door.verify[count - 1]
        verify, identify = score >= threshold, max(there[0], back[0]) >= door.identify
        if verify or identify:
            found.append(AlikePair(first, second, score, threshold, count, verify, identify))
    return sorted(found, key=lambda pair: (pair.threshold - pair.score, pair.first, pair.second))


def drawn(people: int, size: int, seed: int, metric: str) -> dict[int, np.ndarray]:
    """People of one to five templates, of whom every third one has the sibling before."""
    rng = np.random.default_rng(seed)
    middles = rng.standard_normal((people, size))
    middles[2::3] = middles[1 : people - 1 : 3][: len(middles[2::3])] + 0.5 * rng.standard_normal((people // 3, size))
    found = {}
    for number, middle in zip(rng.permutation(people) * 977 - 5000, middles, strict=True):
        vectors = middle + 0.3 * rng.standard_normal((rng.integers(1, 6), size))
        found[int(number)] = unit(vectors) if metric == "cosine" else vectors.astype(np.float32)
    return found


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("metric", METRICS)
def test_the_pairs_among_many_are_those_of_scoring_every_pair(metric: Any, rule: Any) -> None:
    people = drawn(150, 24, 5, metric)
    bars = door(metric, rule) if metric == "cosine" else door(metric, rule, -3.0, -2.5)
    expected = by_force(people, bars)
    found = find_alike(*arrays(people), bars, limit=10_000, block=100)
    assert 0 < sum(pair.identify for pair in expected) < len(expected) < 2000
    assert [pair[:2] for pair in found.closest] == [pair[:2] for pair in expected]
    for pair, other in zip(found.closest, expected, strict=True):
        assert pair.score == pytest.approx(other.score, abs=2e-6)
        assert pair[3:] == other[3:]
    assert found.total == len(expected)
    assert found.identify == sum(pair.identify for pair in expected)
    assert found.people == len({number for pair in expected for number in pair[:2]})


@settings(max_examples=150)
@given(
    values=st.lists(st.lists(st.integers(-8, 8), min_size=4, max_size=4), min_size=1, max_size=25),
    picked=st.data(),
    metric=st.sampled_from(METRICS),
    rule=st.sampled_from(RULES),
    limit=st.integers(1, 30),
)
def test_exact_products_give_exact_answers_ties_included(values, picked, metric, rule, limit):
    # small integers over 16: products and their sums are exact in float32, so nothing may differ
    vectors = np.array(values, np.float32) / 16
    owners = np.array(picked.draw(st.lists(st.integers(-6, 6), min_size=len(vectors), max_size=len(vectors))))
    people = {int(owner): vectors[owners == owner][:5] for owner in np.unique(owners)}
    verify = picked.draw(st.sampled_from([-0.5, 0.125, 0.25] if metric == "cosine" else [-0.75, -0.25, 0.0]))
    bars = door(metric, rule, verify, verify + picked.draw(st.sampled_from([-0.125, 0.0, 0.125])))
    expected = by_force(people, bars)
    found = find_alike(*arrays(people), bars, limit)
    assert found.closest == expected[:limit]
    assert (found.total, found.identify) == (len(expected), sum(pair.identify for pair in expected))


def test_the_count_is_that_of_all_pairs_however_few_are_returned() -> None:
    people = {number: np.array([[1.0, 0.0]], np.float32) for number in range(300)}
    found = find_alike(*arrays(people), door(), limit=3, block=64)
    assert [pair[:2] for pair in found.closest] == [(0, 1), (0, 2), (0, 3)]
    assert (found.total, found.identify, found.people) == (44_850, 44_850, 300)


def test_the_pairs_compared_are_reported_up_to_all_of_them() -> None:
    told: list[tuple[int, int]] = []
    people = {number: unit(np.random.default_rng(number).standard_normal((2, 8))) for number in range(120)}
    find_alike(*arrays(people), door(), 5, lambda done, total: told.append((done, total)), block=50)
    assert len(told) > 1
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (120 * 119 // 2, 120 * 119 // 2)


@pytest.mark.parametrize("people", [{}, {7: np.ones((3, 1), np.float32)}])
def test_nobody_is_alike_where_fewer_than_two_are_enrolled(people: dict[int, np.ndarray]) -> None:
    owners, templates = arrays(people) if people else (np.empty(0, np.int64), np.empty((0, 1), np.float32))
    assert find_alike(owners, templates, door(verify=-1.0), 5) == AlikePairs([], 0, 0, 0)


def test_a_threshold_that_no_distance_reaches_makes_nobody_alike() -> None:
    people = {number: np.zeros((1, 2), np.float32) for number in range(3)}
    assert find_alike(*arrays(people), door("euclidean", verify=0.5, identify=0.5), 5).total == 0


def test_vectors_whose_squares_overflow_are_compared_by_their_difference() -> None:
    far, near = np.array([[1e25, 0.0]], np.float32), np.array([[1e25, 1.0]], np.float32)
    people = {1: far, 2: near, 3: -far}
    found = find_alike(*arrays(people), door("euclidean", verify=-2.0, identify=-0.5), 5)
    assert found.closest == [AlikePair(1, 2, -1.0, -2.0, 1, verify=True, identify=False)]


def test_two_people_compared_alone_are_the_pair_that_is_found_among_others() -> None:
    people = drawn(30, 24, 5, "cosine")
    found = find_alike(*arrays(people), door(), 100)
    assert found.total
    alike = {pair[:2]: pair[2:] for pair in found.closest}
    for first, second in itertools.combinations(sorted(people), 2):
        alone = compare(people[first], people[second], door())
        assert (alone and (alone[:2], alone[3:])) == (
            ((0, 1), alike[first, second][1:]) if (first, second) in alike else None
        )


def test_the_direction_that_exceeds_its_threshold_by_most_is_told() -> None:
    # the mean of two templates is looser than the one alone, and its threshold lower
    one, two = np.array([[0.9, 0.1]], np.float32), np.array([[1.0, 0.0], [0.5, 0.0]], np.float32)
    bars = Door("cosine", "mean", (0.85, 0.6), 0.95)
    pair = compare(one, two, bars)
    assert pair is not None
    assert pair == (0, 1, pytest.approx(0.675), 0.6, 2, True, False)
    assert compare(two, one, bars) == (0, 1, pytest.approx(0.675), 0.6, 2, True, False)


def test_an_index_gives_all_of_its_templates_in_order_of_the_people() -> None:
    index = Index(4, "euclidean", "best", Layout(block=8, batch=4, min_quantized=None))
    assert [part.shape for part in index.everything()] == [(0,), (0, 4)]
    rng = np.random.default_rng(1)
    people = {number: rng.standard_normal((1 + number % 3, 4)).astype(np.float32) for number in range(-5, 15)}
    for number in rng.permutation(list(people)).tolist():
        index.put(number, people[number])
    index.remove(3)
    del people[3]
    owners, templates = index.everything()
    expected = arrays(people)
    np.testing.assert_array_equal(owners, expected[0])
    for number in people:
        own = templates[owners == number]
        assert sorted(own.tolist()) == sorted(people[number].tolist())
    templates[:] = 0
    assert index.search(people[2][0])[0].person == 2

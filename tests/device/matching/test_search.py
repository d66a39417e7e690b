from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.matching.decision import join, scores
from edge_oneshot_device.matching.rows import Layout
from edge_oneshot_device.matching.search import Index, Match
from tests.raising import raises

METRICS = ("cosine", "euclidean")
RULES = ("best", "mean")
NUMKONG = find_spec("numkong") is not None
SCANS = ("float", pytest.param("codes", marks=pytest.mark.skipif(
    not NUMKONG, reason="needs the extra search of the device package")))  # fmt: skip


@pytest.fixture(params=SCANS)
def layout(request: pytest.FixtureRequest) -> Layout:
    """Short blocks, and a scan of float32 products or one of codes from the first template on."""
    return Layout(block=512, batch=200, min_quantized=None if request.param == "float" else 0, cached=700)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def drawn(people: int, size: int, rng: np.random.Generator, *, spread: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """Owners and vectors of people who have one to five templates each, shuffled."""
    owners = np.repeat(rng.permutation(people) * 977 - 5000, rng.integers(1, 6, people))
    own = dict(zip(np.unique(owners).tolist(), rng.standard_normal((people, size)), strict=True))
    vectors = np.array([own[owner] for owner in owners.tolist()])
    vectors = vectors + spread * rng.standard_normal(vectors.shape)
    order = rng.permutation(len(owners))
    return owners[order].astype(np.int64), vectors[order].astype(np.float32)


def by_force(probe: np.ndarray, owners: np.ndarray, vectors: np.ndarray, metric: Any, rule: Any) -> list[Match]:
    """Everybody, best first, of equal ones the lower number first."""
    people, places = np.unique(owners, return_inverse=True)
    joined = join(scores(probe, vectors, metric), places, len(people), rule)
    order = np.lexsort([people, -joined])
    return [Match(int(people[place]), float(joined[place])) for place in order]


def agree(found: tuple[Match, ...], everybody: list[Match], tolerance: float) -> None:
    """The same persons with the same scores, but for what rounding makes of a product in another shape."""
    assert len(found) == min(len(everybody), 2)
    true = {match.person: match.score for match in everybody}
    assert len({match.person for match in found}) == len(found)
    for match, expected in zip(found, everybody, strict=False):
        assert match.score == pytest.approx(expected.score, abs=tolerance)
        assert true[match.person] == pytest.approx(expected.score, abs=tolerance)


def of(index: Index, owners: np.ndarray, vectors: np.ndarray) -> Index:
    index.load([(owners, vectors)])
    return index


def test_nobody_is_found_in_an_empty_index(layout: Layout) -> None:
    index = Index(3, "cosine", "best", layout)
    assert (len(index), index.people) == (0, 0)
    assert index.search(np.ones(3, np.float32)) == ()
    index.load([])
    assert index.search(np.ones(3, np.float32)) == ()
    index.remove(7)
    assert len(index) == 0


def test_one_person_is_found_alone(layout: Layout) -> None:
    index = Index(2, "euclidean", "best", layout)
    index.put(-3, np.array([[3, 4], [0, 2]], np.float32))
    assert index.search(np.zeros(2, np.float32)) == (Match(-3, -2.0),)
    index.put(2**62, np.array([[0, 1]], np.float32))
    assert index.search(np.zeros(2, np.float32)) == (Match(2**62, -1.0), Match(-3, -2.0))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("metric", METRICS)
def test_the_best_two_of_many_are_those_of_scoring_everybody(layout: Layout, metric: Any, rule: Any) -> None:
    rng = np.random.default_rng(3)
    owners, vectors = drawn(600, 32, rng)
    if metric == "cosine":
        vectors = unit(vectors)
    index = of(Index(32, metric, rule, layout), owners, vectors)
    assert (len(index), index.people) == (len(owners), 600)
    probes = np.concatenate([vectors[:60] + 0.1, rng.standard_normal((60, 32))]).astype(np.float32)
    for probe in unit(probes) if metric == "cosine" else probes:
        agree(index.search(probe), by_force(probe, owners, vectors, metric, rule), 2e-6)


@settings(max_examples=150)
@given(
    values=st.lists(st.lists(st.integers(-8, 8), min_size=5, max_size=5), min_size=1, max_size=30),
    picked=st.data(),
    metric=st.sampled_from(METRICS),
    rule=st.sampled_from(RULES),
    coded=st.sampled_from([False, NUMKONG]),
)
def test_exact_products_give_exact_answers_ties_included(values, picked, metric, rule, coded):
    # small integers over 64: products and their sums are exact in float32, so nothing may differ
    vectors = np.array(values, np.float32) / 64
    owners = np.array(picked.draw(st.lists(st.integers(0, 12), min_size=len(vectors), max_size=len(vectors))))
    kept = np.array([np.count_nonzero(owners[:place] == owner) < 5 for place, owner in enumerate(owners)])
    owners, vectors = owners[kept].astype(np.int64), vectors[kept]
    probe = np.array(picked.draw(st.lists(st.integers(-8, 8), min_size=5, max_size=5)), np.float32) / 64
    index = of(Index(5, metric, rule, Layout(min_quantized=0 if coded else None)), owners, vectors)
    assert list(index.search(probe)) == by_force(probe, owners, vectors, metric, rule)[:2]


@settings(max_examples=60)
@given(
    steps=st.lists(st.tuples(st.integers(0, 25), st.integers(0, 5)), min_size=1, max_size=120),
    seed=st.integers(0, 2**32 - 1),
    metric=st.sampled_from(METRICS),
    rule=st.sampled_from(RULES),
)
def test_an_index_kept_in_step_is_that_of_a_fresh_load(steps: Any, seed: int, metric: Any, rule: Any) -> None:
    rng = np.random.default_rng(seed)
    held: dict[int, np.ndarray] = {}
    index = Index(8, metric, rule, Layout(block=16, batch=4, min_quantized=0 if NUMKONG else None))
    for person, count in steps:
        if count:
            held[person] = unit(rng.standard_normal((count, 8)))
            index.put(person, held[person])
        else:
            held.pop(person, None)
            index.remove(person)
        assert (len(index), index.people) == (sum(map(len, held.values())), len(held))
    probe = unit(rng.standard_normal(8))
    if held:
        owners = np.repeat(np.array(list(held), np.int64), [len(own) for own in held.values()])
        everybody = by_force(probe, owners, np.concatenate(list(held.values())), metric, rule)
        agree(index.search(probe), everybody, 2e-6)
    else:
        assert index.search(probe) == ()


@pytest.mark.parametrize("metric", METRICS)
def test_near_ties_far_below_a_step_of_the_codes_are_told_apart(layout: Layout, metric: Any) -> None:
    rng = np.random.default_rng(5)
    middle = unit(rng.standard_normal(128))
    vectors = unit(middle + 1e-4 * rng.standard_normal((3000, 128)))
    owners = rng.permutation(3000)
    index = of(Index(128, metric, "best", layout), owners, vectors)
    for _ in range(20):
        probe = unit(middle + 1e-4 * rng.standard_normal(128))
        exact = vectors.astype(np.float64) @ probe
        if metric == "euclidean":
            exact = -np.linalg.norm(vectors.astype(np.float64) - probe, axis=1)
        order = np.argsort(-exact)
        found = index.search(probe)
        for match, expected in zip(found, order[:2], strict=True):
            place = int(np.flatnonzero(owners == match.person)[0])
            assert exact[place] == pytest.approx(exact[expected], abs=5e-7)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rule", RULES)
def test_of_equal_templates_the_lower_numbers_are_found(layout: Layout, metric: Any, rule: Any) -> None:
    same = unit(np.random.default_rng(0).standard_normal(16))
    index = of(Index(16, metric, rule, layout), np.arange(2000)[::-1] + 5, np.tile(same, (2000, 1)))
    first, second = index.search(same)
    assert (first.person, second.person) == (5, 6)
    assert first.score == second.score
    # on arm64 the product of one row is summed in another order
    assert first.score == pytest.approx(scores(same, same[np.newaxis], metric)[0], abs=2e-7)


@pytest.mark.parametrize("magnitude", [1e-42, 1e-25, 1e-3, 1e3, 1e15])
def test_euclidean_vectors_of_any_length_are_ranked(layout: Layout, magnitude: float) -> None:
    rng = np.random.default_rng(1)
    lengths = np.exp(rng.uniform(-4, 4, (1500, 1)))
    vectors = (rng.standard_normal((1500, 24)) * lengths * magnitude).astype(np.float32)
    owners = np.arange(1500)
    index = of(Index(24, "euclidean", "best", layout), owners, vectors)
    for probe in [*vectors[:15] * np.float32(1.01), np.zeros(24, np.float32)]:
        agree(index.search(probe), by_force(probe, owners, vectors, "euclidean", "best"), 1e-5 * magnitude)


def test_a_vector_of_zeros_and_one_much_longer_than_the_others_change_nothing(layout: Layout) -> None:
    rng = np.random.default_rng(2)
    vectors = unit(rng.standard_normal((800, 16)))
    vectors[17] = 0.0
    vectors[18] *= 50.0
    for metric in METRICS:
        index = of(Index(16, metric, "best", layout), np.arange(800), vectors)
        for probe in [vectors[3], vectors[18] / 50, np.zeros(16, np.float32), -vectors[18] / 50]:
            agree(index.search(probe), by_force(probe, np.arange(800), vectors, metric, "best"), 1e-4)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_finite_number_is_refused_and_changes_nothing(layout: Layout, metric: Any, bad: float) -> None:
    index = Index(2, metric, "best", layout)
    index.put(1, np.array([[0.6, 0.8]], np.float32))
    broken = np.array([0.6, bad], np.float32)
    with raises(MachineError, reason="not_finite"):
        index.search(broken)
    with raises(MachineError, reason="not_finite"):
        index.put(1, np.stack([np.array([1.0, 0.0], np.float32), broken]))
    assert index.search(np.array([0.6, 0.8], np.float32))[0].person == 1
    with raises(MachineError, reason="not_finite"):
        index.load([(np.array([4]), np.array([[0.0, 1.0]], np.float32)), (np.array([5]), broken[np.newaxis])])
    assert len(index) == 0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
# numpy tells of it as well, on some processors
@pytest.mark.filterwarnings("ignore:.* encountered in dot:RuntimeWarning")
def test_a_probe_that_is_no_finite_number_is_refused_among_many(layout: Layout, metric: Any, bad: float) -> None:
    rng = np.random.default_rng(8)
    index = of(Index(16, metric, "best", layout), np.arange(50), unit(rng.standard_normal((50, 16))))
    probe = np.full(16, 0.25, np.float32)
    probe[3] = bad
    with raises(MachineError, reason="not_finite"):
        index.search(probe)


def test_products_beyond_what_a_cosine_can_be_are_ties(layout: Layout) -> None:
    vectors = np.array([[3, 0], [2, 0], [-2, 0], [-3, 0], [0, 1]], np.float32)
    owners = np.array([9, 4, 3, 8, 7])
    index = of(Index(2, "cosine", "best", layout), owners, vectors)
    assert index.search(np.array([1, 0], np.float32)) == (Match(4, 1.0), Match(9, 1.0))
    index = of(Index(2, "cosine", "best", layout), owners[2:4], vectors[2:4])
    index.put(1, np.array([[-1.5, 0]], np.float32))
    assert index.search(np.array([1, 0], np.float32)) == (Match(1, -1.0), Match(3, -1.0))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rule", RULES)
def test_whoever_has_several_templates_is_ranked_by_all_of_them(layout: Layout, metric: Any, rule: Any) -> None:
    # the template that scores best is not the first of them, nor the one of the greatest key alone
    vectors = np.array([[0.6, 0.8], [1, 0], [0, 1], [0.8, 0.6], [-1, 0], [0, -1]], np.float32)
    owners = np.array([1, 1, 2, 2, 3, 4])
    index = of(Index(2, metric, rule, layout), owners, vectors)
    for probe in vectors:
        agree(index.search(probe), by_force(probe, owners, vectors, metric, rule), 1e-6)


def test_templates_longer_than_any_before_are_found_and_so_are_the_others(layout: Layout) -> None:
    rng = np.random.default_rng(9)
    vectors = rng.standard_normal((300, 16)).astype(np.float32)
    vectors[100:] *= np.linspace(1, 30, 200, dtype=np.float32)[:, np.newaxis]
    index = of(Index(16, "euclidean", "best", layout), np.arange(100), vectors[:100])
    for person in range(100, 300):
        index.put(person, vectors[person : person + 1])
    for probe in vectors[::20] * np.float32(1.02):
        agree(index.search(probe), by_force(probe, np.arange(300), vectors, "euclidean", "best"), 1e-3)


def test_a_distance_too_large_for_float32_is_refused_as_it_is_without_an_index(layout: Layout) -> None:
    index = Index(1, "euclidean", "best", layout)
    index.put(1, np.array([[-3e38]], np.float32))
    with raises(MachineError, reason="not_finite"):
        index.search(np.array([3e38], np.float32))


def test_wrong_shapes_and_too_many_templates_are_refused() -> None:
    index = Index(4, "cosine", "best")
    with pytest.raises(ValueError, match="6 templates"):
        index.put(1, np.zeros((6, 4), np.float32))
    with pytest.raises(ValueError, match="0 templates"):
        index.put(1, np.zeros((0, 4), np.float32))
    with pytest.raises(ValueError, match="expected"):
        index.put(1, np.zeros((1, 5), np.float32))
    with pytest.raises(ValueError, match="6 templates"):
        index.load([(np.zeros(6, np.int64), np.zeros((6, 4), np.float32))])
    with pytest.raises(ValueError, match="expected"):
        index.search(np.zeros(3, np.float32))
    assert len(index) == 0


def test_memory_is_at_most_1_4_times_the_vectors_while_people_come_and_go() -> None:
    rng = np.random.default_rng(4)
    index = Index(128, "euclidean", "best")
    index.load((np.arange(start, start + 3500), unit(rng.standard_normal((3500, 128)))) for start in (0, 3500, 7000))
    assert index.nbytes <= 1.4 * 10_500 * 512
    for person in range(500):
        index.put(20_000 + person, unit(rng.standard_normal((5, 128))))
    assert index.nbytes <= 1.4 * 13_000 * 512
    for person in range(8000):
        index.remove(person)
    assert len(index) == 5000
    assert index.nbytes <= 1.4 * 1.25 * 5000 * 512 + 1.4 * 2048 * 512


@pytest.mark.parametrize("metric", METRICS)
def test_room_that_reaches_into_another_block_holds_nobody(layout: Layout, metric: Any) -> None:
    rng = np.random.default_rng(7)
    vectors = unit(rng.standard_normal((511, 16)))
    index = of(Index(16, metric, "best", layout), np.arange(510), vectors[:510])
    index.put(510, vectors[510:])
    same = unit(rng.standard_normal(16))
    for person in range(511):
        index.put(person, np.tile(same, (1, 1)))
    assert (len(index), index.people) == (511, 511)
    # all are tied, so that everybody is scored
    assert [match.person for match in index.search(same)] == [0, 1]


def test_a_gallery_of_more_than_a_block_is_searched_as_it_ships() -> None:
    rng = np.random.default_rng(6)
    vectors = unit(rng.standard_normal((70_000, 32)))
    owners = rng.permutation(70_000) // 2
    for rule in RULES:
        index = of(Index(32, "cosine", rule), owners, vectors)
        for probe in unit(vectors[:10] + 0.05 * rng.standard_normal((10, 32))):
            agree(index.search(probe), by_force(probe, owners, vectors, "cosine", rule), 2e-6)

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_oneshot_device.bundle.manifest import Calibration, EmbeddingSection
from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.matching.decision import Candidate, decide_identify, decide_verify, join, scores
from edge_oneshot_device.matching.thresholds import threshold_for
from tests.raising import raises
from tests.samples.calibrations import calibration

COSINE = EmbeddingSection(size=16, metric="cosine")


@dataclass(frozen=True)
class Origin:
    variant: str = "int8"
    runtime: str = "litert"
    fingerprint: str = "f" * 64
    embedding: EmbeddingSection = COSINE


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.standard_normal(shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


# scores and join


def test_the_cosine_of_a_vector_with_itself_its_opposite_and_a_perpendicular_one() -> None:
    probe = np.array([0.6, 0.8], np.float32)
    templates = np.array([[0.6, 0.8], [-0.6, -0.8], [-0.8, 0.6]], np.float32)
    result = scores(probe, templates, "cosine")
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [1.0, -1.0, 0.0], atol=1e-7)


def test_a_cosine_never_leaves_minus_one_to_one() -> None:
    vectors = unit(np.random.default_rng(0), 2000, 7)
    same = np.array([scores(v, v[np.newaxis], "cosine")[0] for v in vectors])
    assert same.max() == 1.0
    assert same.min() > 0.999999


def test_the_euclidean_score_is_the_negative_distance() -> None:
    result = scores(np.zeros(2, np.float32), np.array([[3, 4], [0, 0]], np.float32), "euclidean")
    assert result.dtype == np.float32
    assert result.tolist() == [-5.0, 0.0]


def test_no_templates_give_no_scores() -> None:
    for metric in ("cosine", "euclidean"):
        assert scores(np.ones(3, np.float32), np.empty((0, 3), np.float32), metric).shape == (0,)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_refused(metric: Any, bad: float) -> None:
    good = np.array([0.6, 0.8], np.float32)
    broken = np.array([0.6, bad], np.float32)
    with pytest.raises(MachineError, match="NaN or infinite"):
        scores(broken, good[np.newaxis], metric)
    with pytest.raises(MachineError, match="NaN or infinite"):
        scores(good, np.stack([good, broken]), metric)


def test_a_distance_too_large_for_float32_is_refused_and_warns_of_nothing() -> None:
    with raises(MachineError, reason="not_finite"):
        scores(np.array([3e38], np.float32), np.array([[-3e38]], np.float32), "euclidean")


def test_the_best_template_stands_for_a_person() -> None:
    joined = join(np.array([0.1, 0.9, 0.4, 0.3], np.float32), np.array([0, 0, 2, 2]), 3)
    assert joined.dtype == np.float32
    np.testing.assert_array_equal(joined, np.array([0.9, -np.inf, 0.4], np.float32))


@given(
    hnp.arrays(np.float32, (12, 5), elements=st.floats(-10, 10, width=32)),
    hnp.arrays(np.float32, 5, elements=st.floats(-10, 10, width=32)),
    st.lists(st.integers(0, 3), min_size=12, max_size=12),
    st.sampled_from(["cosine", "euclidean"]),
)
def test_people_rank_as_in_a_plain_loop(templates: Any, probe: Any, owners: list[int], metric: Any) -> None:
    if metric == "cosine":
        lengths = np.linalg.norm(templates.astype(np.float64), axis=1, keepdims=True)
        templates = (templates / np.where(lengths > 1e-3, lengths, np.inf)).astype(np.float32)
        length = float(np.linalg.norm(probe.astype(np.float64)))
        probe = (probe / (length if length > 1e-3 else np.inf)).astype(np.float32)
    expected = [-math.inf] * 4
    for template, owner in zip(templates.tolist(), owners, strict=True):
        if metric == "cosine":
            score = math.fsum(a * b for a, b in zip(probe.tolist(), template, strict=True))
        else:
            score = -math.dist(probe.tolist(), template)
        expected[owner] = max(expected[owner], score)
    joined = join(scores(probe, templates, metric), np.array(owners), 4)
    np.testing.assert_allclose(joined, expected, rtol=1e-5, atol=1e-5)
    order = np.argsort(-joined, kind="stable")
    in_order = [expected[index] for index in order]
    assert all(a >= b - 1e-5 for a, b in itertools.pairwise(in_order))


def test_the_mean_of_a_persons_templates_counts_each_of_them_and_nobody_without_one() -> None:
    values = np.array([0.2, 0.9, 0.4, -0.5], np.float32)
    owners = np.array([0, 2, 0, 2])
    assert join(values, owners, 3, "mean").tolist() == pytest.approx([0.3, -math.inf, 0.2])
    assert join(values, owners, 3, "mean").dtype == np.float32
    assert join(values, owners, 3, "best").tolist() == pytest.approx([0.4, -math.inf, 0.9])


# decisions


def test_verify_accepts_at_the_threshold_and_not_just_below() -> None:
    made = calibration()
    accepted = decide_verify("ada", 0.7, made, 0.001, Origin())
    assert (accepted.person, accepted.accepted, accepted.reason) == ("ada", True, "match")
    assert accepted.similarity == pytest.approx(0.66)
    assert (accepted.threshold, accepted.target_far, accepted.runner_up) == (0.7, 0.001, None)
    assert (accepted.variant, accepted.runtime, accepted.fingerprint) == ("int8", "litert", "f" * 64)
    rejected = decide_verify("ada", math.nextafter(0.7, 0), made, 0.001, Origin())
    assert (rejected.person, rejected.accepted, rejected.reason) == (None, False, "below_threshold")


def identify(person_scores: list[float], made: Calibration | None = None, target: float = 0.01) -> Any:
    names = ["ada", "alan", "grace"][: len(person_scores)]
    return decide_identify(names, np.array(person_scores, np.float32), made or calibration(), target, Origin())


def test_identify_names_the_best_and_tells_the_runner_up() -> None:
    decision = identify([0.2, 0.8, 0.5])
    assert (decision.person, decision.accepted, decision.reason) == ("alan", True, "match")
    assert decision.score == np.float32(0.8)
    assert decision.runner_up == Candidate("grace", 0.5)
    assert decision.threshold == threshold_for(calibration(), "cosine", 0.01, 3).value
    assert decision.target_far == 0.01


def test_identify_holds_the_best_against_the_threshold_for_so_many_people() -> None:
    at_one = threshold_for(calibration(), "cosine", 0.01, 1).value
    score = at_one + 0.01
    assert identify([score]).accepted
    rejected = identify([score, 0.0, 0.0])
    assert (rejected.person, rejected.accepted, rejected.reason) == (None, False, "below_threshold")
    assert rejected.runner_up == Candidate("alan", 0.0)


def test_a_lead_smaller_than_the_margin_is_ambiguous() -> None:
    close = identify([0.9, 0.875, 0.0])
    assert (close.person, close.accepted, close.reason) == (None, False, "ambiguous")
    assert identify([0.9, 0.75, 0.0]).reason == "match"
    just = calibration(margin=0.125)
    assert identify([0.875, 0.75], just).reason == "match"
    assert identify([0.875, 0.7500001], just).reason == "ambiguous"


def test_a_tie_is_ambiguous_even_without_a_margin() -> None:
    assert identify([0.9, 0.9], calibration(margin=0.0)).reason == "ambiguous"
    assert identify([0.9, 0.8999], calibration(margin=0.0)).reason == "match"


def test_below_the_threshold_comes_before_ambiguous() -> None:
    assert identify([0.1, 0.1]).reason == "below_threshold"


def test_one_person_has_no_runner_up_and_needs_no_lead() -> None:
    decision = identify([0.9])
    assert (decision.accepted, decision.runner_up) == (True, None)


def test_an_empty_gallery_rejects_with_nothing_to_score() -> None:
    decision = identify([])
    assert (decision.person, decision.accepted, decision.reason) == (None, False, "empty_gallery")
    assert decision.score is None
    assert decision.similarity is None
    assert decision.runner_up is None


def test_more_people_than_the_data_supports_make_the_decision_provisional() -> None:
    assert identify([0.9, 0.1, 0.1], target=0.001).provisional is True
    assert identify([0.9, 0.1, 0.1], target=0.01).provisional is False


@given(hnp.arrays(np.float32, st.integers(1, 6), elements=st.floats(-1, 1, width=32)))
def test_whoever_is_accepted_is_the_best_clears_the_threshold_and_leads(person_scores: Any) -> None:
    names = [f"p{index}" for index in range(len(person_scores))]
    decision = decide_identify(names, person_scores, calibration(), 0.01, Origin())
    ranked = sorted(person_scores.tolist(), reverse=True)
    assert decision.score == ranked[0]
    leads = len(ranked) == 1 or (ranked[0] - ranked[1] >= 0.05 and ranked[0] > ranked[1])
    assert decision.accepted == (ranked[0] >= decision.threshold and leads)
    assert (decision.runner_up.score if decision.runner_up else None) == (ranked[1] if len(ranked) > 1 else None)
    if decision.accepted:
        assert person_scores[names.index(decision.person)] == ranked[0]

import itertools
import math
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_oneshot_device.bundle.manifest import Calibration, OperatingPoint, SimilarityMap, Tail
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.matching.decision import (
    Candidate,
    Threshold,
    calibration_for,
    decide_identify,
    decide_verify,
    join,
    scores,
    similarity,
    threshold_for,
)


@dataclass(frozen=True)
class Origin:
    variant: str = "int8"
    runtime: str = "litert"
    fingerprint: str = "f" * 64


def calibration(
    points: tuple[tuple[float, float], ...] = ((0.1, 0.2), (0.01, 0.4), (0.001, 0.7)),
    *,
    target_far: float | None = None,
    tail: tuple[float, float, float, float] = (0.5, 0.005, 0.1, 0.0),
    **changed: Any,
) -> Calibration:
    """Points as (target_far, threshold), the tail as (threshold, far, scale, shape)."""
    made = Calibration(
        variant="int8",
        rule="best",
        templates=1,
        points=tuple(
            OperatingPoint(target_far=far, threshold=threshold, far=far, far_upper_95=far, frr=0.0)
            for far, threshold in points
        ),
        target_far=points[-1][0] if target_far is None else target_far,
        tail=Tail(threshold=tail[0], far=tail[1], scale=tail[2], shape=tail[3]),
        margin=0.05,
        similarity=SimilarityMap(scores=(0.0, 0.5, 1.0), degrees=(0.1, 0.5, 0.9)),
        genuine=100,
        impostor=1000,
        people=20,
        failures_to_enrol=0,
        failures_to_acquire=0,
        data="made up",
        provisional=False,
    )
    return msgspec.structs.replace(made, **changed)


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
    with pytest.raises(MachineError, match="no finite number"):
        scores(broken, good[np.newaxis], metric)
    with pytest.raises(MachineError, match="no finite number"):
        scores(good, np.stack([good, broken]), metric)


def test_a_distance_too_large_for_float32_is_refused_and_warns_of_nothing() -> None:
    with pytest.raises(MachineError) as refused:
        scores(np.array([3e38], np.float32), np.array([[-3e38]], np.float32), "euclidean")
    assert refused.value.reason == "not_finite"


def test_the_best_template_stands_for_a_person() -> None:
    joined = join(np.array([0.1, 0.9, 0.4, 0.3], np.float32), np.array([0, 0, 2, 2]), 3)
    assert joined.dtype == np.float32
    np.testing.assert_array_equal(joined, np.array([0.9, -np.inf, 0.4], np.float32))


@settings(deadline=None)
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


# the threshold


def test_a_calibrated_target_takes_its_own_threshold() -> None:
    for target, threshold in ((0.1, 0.2), (0.01, 0.4), (0.001, 0.7)):
        assert threshold_for(calibration(), target) == Threshold(pytest.approx(threshold), provisional=False)


def test_between_two_points_the_threshold_is_linear_in_the_logarithm_of_the_rate() -> None:
    assert threshold_for(calibration(), 10**-1.5).value == pytest.approx(0.3)
    assert threshold_for(calibration(), 10**-2.25).value == pytest.approx(0.475)


def test_a_target_above_the_largest_takes_the_threshold_of_the_largest() -> None:
    assert threshold_for(calibration(), 0.9) == Threshold(0.2, provisional=False)


def test_ten_people_share_the_target_between_them() -> None:
    assert threshold_for(calibration(), 0.1, people=10) == Threshold(pytest.approx(0.4), provisional=False)


def test_below_what_the_data_supports_the_exponential_tail_is_inverted_and_provisional() -> None:
    # 0.005 * exp(-(s - 0.5) / 0.1) = 1e-5 at s = 0.5 + 0.1 * ln(500)
    assert threshold_for(calibration(), 1e-5) == Threshold(pytest.approx(0.5 + 0.1 * math.log(500)), provisional=True)


@pytest.mark.parametrize("shape", [-0.4, -1e-6, 1e-6, 0.3])
def test_at_the_extrapolated_threshold_the_tail_has_just_the_rate_asked_for(shape: float) -> None:
    made = calibration(((0.1, 0.2), (0.01, 0.3)), tail=(0.5, 0.005, 0.1, shape))
    threshold = threshold_for(made, 1e-3, people=20)
    rate = 0.005 * (1 + shape * (threshold.value - 0.5) / 0.1) ** (-1 / shape)
    assert rate == pytest.approx(1e-3 / 20, rel=1e-5)
    assert threshold.provisional


def test_the_extrapolation_never_falls_below_the_last_calibrated_threshold() -> None:
    made = calibration(tail=(0.1, 0.0009, 0.001, 0.0))
    assert threshold_for(made, 0.0005) == Threshold(0.7, provisional=True)


def test_points_smaller_than_the_supported_target_are_not_trusted_but_bound_the_tail() -> None:
    made = calibration(target_far=0.01)
    assert threshold_for(made, 0.01).provisional is False
    assert threshold_for(made, 0.009) == Threshold(0.7, provisional=True)


def test_a_provisional_calibration_gives_provisional_thresholds() -> None:
    assert threshold_for(calibration(provisional=True), 0.1).provisional is True


def test_the_rarest_of_targets_in_the_heaviest_of_tails_still_gives_a_number() -> None:
    made = calibration(tail=(0.5, 0.005, 1e300, 50.0))
    value = threshold_for(made, 5e-324, people=10**9).value
    assert math.isfinite(value)
    assert value > 1e300


@pytest.mark.parametrize("target", [0.0, 1.0, -0.1, 1.5, math.nan, math.inf])
def test_a_target_outside_0_to_1_is_refused(target: float) -> None:
    with pytest.raises(InputError) as refused:
        threshold_for(calibration(), target)
    assert refused.value.reason == "bad_target_far"


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    size = draw(st.integers(1, 8))
    targets = sorted(draw(st.sets(st.floats(1e-7, 0.9), min_size=size, max_size=size)), reverse=True)
    thresholds = sorted(draw(st.lists(st.floats(-50, 50), min_size=size, max_size=size)))
    tail = (
        draw(st.floats(-60, 60)),
        draw(st.floats(1e-7, 0.99)),
        draw(st.floats(1e-6, 10)),
        draw(st.floats(-2, 2) | st.sampled_from([0.0, 1e-13, -1e-11])),
    )
    supported = draw(st.sampled_from(targets))
    return calibration(tuple(zip(targets, thresholds, strict=True)), target_far=supported, tail=tail)


@settings(deadline=None)
@given(calibrations(), st.floats(1e-12, 0.999), st.floats(1e-12, 0.999), st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_smaller_target_or_more_people_never_lower_the_threshold(
    made: Calibration, target: float, other: float, people: int, more: int
) -> None:
    small, large = sorted((target, other))
    few, many = sorted((people, more))
    assert threshold_for(made, small, few).value >= threshold_for(made, large, few).value
    assert threshold_for(made, small, many).value >= threshold_for(made, small, few).value


# the calibration used


def test_the_mean_of_a_persons_templates_counts_each_of_them_and_nobody_without_one() -> None:
    values = np.array([0.2, 0.9, 0.4, -0.5], np.float32)
    owners = np.array([0, 2, 0, 2])
    assert join(values, owners, 3, "mean").tolist() == pytest.approx([0.3, -math.inf, 0.2])
    assert join(values, owners, 3, "mean").dtype == np.float32
    assert join(values, owners, 3, "best").tolist() == pytest.approx([0.4, -math.inf, 0.9])


def test_the_calibration_used_is_that_of_the_manifests_rule(make_bundle: Any) -> None:
    manifest = _manifest(make_bundle(rule="mean"))
    assert calibration_for(manifest, "int8", 3).rule == "mean"
    other = msgspec.structs.replace(manifest, rule="best")
    with pytest.raises(InputError) as refused:
        calibration_for(other, "int8", 3)
    assert refused.value.reason == "uncalibrated"


def test_a_count_between_two_calibrated_ones_takes_the_next_one_up(make_bundle: Any) -> None:
    manifest = _manifest(make_bundle())
    found = {count: calibration_for(manifest, "int8", count).templates for count in (1, 2, 3, 4, 5)}
    assert found == {1: 1, 2: 3, 3: 3, 4: 5, 5: 5}
    assert calibration_for(manifest, "float32", 1).variant == "float32"


def test_for_the_mean_a_count_between_two_calibrated_ones_takes_the_next_one_down_from_the_fewest(
    make_bundle: Any,
) -> None:
    manifest = _manifest(make_bundle(rule="mean"))
    found = {count: calibration_for(manifest, "int8", count).templates for count in (1, 2, 3, 4, 5)}
    assert found == {1: 1, 2: 1, 3: 3, 4: 3, 5: 5}
    assert calibration_for(manifest, "int8", 5, 4).templates == 3
    assert calibration_for(manifest, "int8", 5, 1).templates == 1
    best = _manifest(make_bundle(rule="best"))
    assert calibration_for(best, "int8", 4, 1).templates == 5
    with pytest.raises(InputError, match="calibrated for more than 2 templates a person") as refused:
        calibration_for(_manifest(make_bundle(rule="mean", counts=(3, 5))), "int8", 3, 2)
    assert refused.value.reason == "uncalibrated"


@pytest.mark.parametrize(
    ("calibrated", "count", "reason"),
    [(True, 6, "too_many_templates"), (False, 1, "uncalibrated"), (True, 5, "uncalibrated")],
)
def test_without_a_calibration_for_the_count_there_is_no_decision(
    make_bundle: Any, calibrated: bool, count: int, reason: str
) -> None:
    manifest = _manifest(make_bundle(calibrated=calibrated, counts=(1, 3)))
    with pytest.raises(InputError) as refused:
        calibration_for(manifest, "int8", count)
    assert refused.value.reason == reason


def _manifest(path: Any) -> Any:
    from edge_oneshot_device import Bundle

    return Bundle.open(path).manifest


def test_similarity_is_linear_between_the_knots_and_constant_outside() -> None:
    made = calibration()
    assert [similarity(made, s) for s in (-3.0, 0.0, 0.25, 0.5, 9.0)] == pytest.approx([0.1, 0.1, 0.3, 0.5, 0.9])


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
    assert decision.threshold == threshold_for(calibration(), 0.01, 3).value
    assert decision.target_far == 0.01


def test_identify_holds_the_best_against_the_threshold_for_so_many_people() -> None:
    at_one = threshold_for(calibration(), 0.01, 1).value
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


@settings(deadline=None)
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

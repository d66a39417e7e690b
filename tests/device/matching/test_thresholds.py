import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_oneshot_device import Bundle
from edge_oneshot_device.bundle.manifest import Calibration
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.matching.thresholds import (
    EXTRAPOLATED,
    AcceptanceThreshold,
    calibration_for,
    highest_score,
    likeness,
    outlook,
    similarity,
    threshold_for,
)
from tests.raising import raises
from tests.samples.calibrations import calibration


def found(made: Calibration, target: float, people: int = 1) -> AcceptanceThreshold:
    return threshold_for(made, "cosine", target, people)


def test_a_calibrated_target_takes_its_own_threshold() -> None:
    for target, threshold in ((0.1, 0.2), (0.01, 0.4), (0.001, 0.7)):
        answer = found(calibration(), target)
        assert (answer.value, answer.provisional) == (pytest.approx(threshold), False)


def test_between_two_points_the_threshold_is_linear_in_the_logarithm_of_the_rate() -> None:
    assert found(calibration(), 10**-1.5).value == pytest.approx(0.3)
    assert found(calibration(), 10**-2.25).value == pytest.approx(0.475)


def test_a_target_above_the_largest_takes_the_threshold_of_the_largest() -> None:
    assert (found(calibration(), 0.9).value, found(calibration(), 0.9).provisional) == (0.2, False)


def test_ten_people_share_the_target_between_them() -> None:
    answer = found(calibration(), 0.1, 10)
    assert (answer.value, answer.provisional, answer.kept_far) == (pytest.approx(0.4), False, 0.1)


def test_below_what_the_data_supports_the_exponential_tail_is_inverted_and_provisional() -> None:
    made = calibration(((0.1, 0.2), (0.01, 0.3), (0.005, 0.5)))
    # 0.005 * exp(-(s - 0.5) / 0.1) = 0.001 at s = 0.5 + 0.1 * ln(5)
    answer = found(made, 0.001)
    assert (answer.value, answer.provisional) == (pytest.approx(0.5 + 0.1 * math.log(5)), True)


@pytest.mark.parametrize("shape", [-0.4, -1e-6, 1e-6, 0.3])
def test_at_the_extrapolated_threshold_the_tail_has_just_the_rate_asked_for(shape: float) -> None:
    made = calibration(((0.1, 0.2), (0.01, 0.3), (0.005, 0.5)), tail=(0.5, 0.005, 0.1, shape))
    threshold = found(made, 0.02, 20)
    rate = 0.005 * (1 + shape * (threshold.value - 0.5) / 0.1) ** (-1 / shape)
    assert rate == pytest.approx(0.02 / 20, rel=1e-5)
    assert threshold.provisional


def test_the_extrapolation_never_falls_below_the_last_calibrated_threshold() -> None:
    answer = found(calibration(tail=(0.1, 0.0009, 0.001, 0.0)), 0.0005)
    assert (answer.value, answer.provisional) == (0.7, True)


def test_points_below_the_default_target_were_measured_as_well_and_are_used() -> None:
    made = calibration(target_far=0.01)
    assert (found(made, 0.001).value, found(made, 0.001).provisional) == (0.7, False)
    assert found(made, 0.01, 10) == found(made, 0.01, 10)
    assert found(made, 0.01, 10).provisional is False


def test_a_provisional_calibration_gives_provisional_thresholds() -> None:
    assert found(calibration(provisional=True), 0.1).provisional is True


@pytest.mark.parametrize("target", [0.0, 1.0, -0.1, 1.5, math.nan, math.inf])
def test_a_target_outside_0_to_1_is_refused(target: float) -> None:
    with raises(InputError, reason="bad_target_far"):
        found(calibration(), target)


# what cannot be reached, and what cannot be promised


def test_with_more_people_than_the_tail_is_trusted_for_the_threshold_stays_and_the_rate_grows() -> None:
    made = calibration(tail=(0.7, 0.001, 0.05, 0.0))
    strictest = 0.7 + 0.05 * math.log(EXTRAPOLATED)
    kept, more = found(made, 0.002, 20), found(made, 0.002, 40)
    assert (kept.value, kept.kept_far) == (pytest.approx(strictest), 0.002)
    assert (more.value, more.kept_far) == (pytest.approx(strictest), pytest.approx(0.004))
    assert kept.most_people == more.most_people == 20
    assert found(made, 0.002, 10**9).kept_far == 1.0


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.4])
def test_an_enrolled_image_itself_is_accepted_however_many_people_there_are(shape: float) -> None:
    # from twenty people on the tail alone would ask for more than a cosine can be
    made = calibration(((0.1, 0.5), (0.01, 0.9)), tail=(0.9, 0.01, 0.2, shape))
    for people in (1, 20, 187, 10**6):
        answer = found(made, 0.01, people)
        assert answer.value <= highest_score("cosine") < 1.0 - 4e-7
        assert answer.kept_far >= 0.01


def test_where_the_scale_ends_before_the_tail_does_the_kept_rate_is_that_of_its_end() -> None:
    made = calibration(((0.1, 0.5), (0.01, 0.9)), tail=(0.9, 0.01, 0.2, 0.0))
    at_the_end = 0.01 * math.exp(-(highest_score("cosine") - 0.9) / 0.2)
    answer = found(made, 0.01, 10)
    assert answer.value == pytest.approx(highest_score("cosine"))
    assert answer.kept_far == pytest.approx(10 * at_the_end)
    assert answer.most_people == int(0.01 / at_the_end)


def test_a_distance_of_nothing_is_the_strictest_threshold_of_the_euclidean_metric() -> None:
    made = calibration(((0.1, -0.9), (0.01, -0.1)), tail=(-0.1, 0.01, 0.2, 0.3))
    assert threshold_for(made, "euclidean", 0.01, 10**6).value == 0.0


def test_a_calibrated_point_that_no_score_reaches_is_not_used_nor_the_tail_beyond_it() -> None:
    made = calibration(((0.1, 0.5), (0.01, 0.9), (0.001, math.nextafter(1.0, 2.0))), tail=(1.0, 0.001, 0.01, 0.0))
    answer = found(made, 0.01, 5)
    assert (answer.value, answer.provisional, answer.most_people) == (0.9, True, 1)
    assert answer.kept_far == pytest.approx(0.05)
    assert found(made, 0.001).most_people == 0


def test_where_all_points_are_out_of_reach_nobody_is_let_in() -> None:
    made = calibration(((0.1, 1.0), (0.01, math.nextafter(1.0, 2.0))))
    answer = found(made, 0.1)
    assert answer.value > 1.0
    assert (answer.provisional, answer.most_people) == (True, 0)


def test_one_pair_that_cannot_be_told_apart_does_not_lock_everybody_out_of_a_fake_tail() -> None:
    made = calibration(tail=(0.7, 0.001, 1e300, 50.0))
    answer = found(made, 5e-324, 10**9)
    assert answer.value <= highest_score("cosine")
    assert answer.kept_far == 1.0


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    size = draw(st.integers(1, 8))
    targets = sorted(draw(st.sets(st.floats(1e-7, 0.9), min_size=size, max_size=size)), reverse=True)
    thresholds = sorted(draw(st.lists(st.floats(-50, 1.5), min_size=size, max_size=size)))
    tail = (
        draw(st.floats(-60, 60)),
        draw(st.floats(1e-7, 0.99)),
        draw(st.floats(1e-6, 10)),
        draw(st.floats(-2, 2) | st.sampled_from([0.0, 1e-13, -1e-11])),
    )
    supported = draw(st.sampled_from(targets))
    return calibration(tuple(zip(targets, thresholds, strict=True)), target_far=supported, tail=tail)


@given(
    calibrations(),
    st.sampled_from(["cosine", "euclidean"]),
    st.floats(1e-12, 0.999),
    st.floats(1e-12, 0.999),
    st.integers(1, 10**6),
    st.integers(1, 10**6),
)
def test_a_smaller_target_or_more_people_never_lower_the_threshold_nor_leave_what_can_be_reached(
    made, metric, target, other, people, more
):
    small, large = sorted((target, other))
    few, many = sorted((people, more))
    assert threshold_for(made, metric, small, few).value >= threshold_for(made, metric, large, few).value
    assert threshold_for(made, metric, small, many).value >= threshold_for(made, metric, small, few).value
    answer = threshold_for(made, metric, small, many)
    assert small <= answer.kept_far <= 1.0
    if many <= answer.most_people:
        assert answer.kept_far == small
    if made.points[0].threshold <= highest_score(metric):
        assert answer.value <= highest_score(metric)


def test_the_outlook_says_what_is_kept_and_how_many_are_turned_away() -> None:
    made = calibration(tail=(0.7, 0.001, 0.05, 0.0))
    few = outlook(made, "cosine", 0.01, 2)
    assert (few.people, few.kept_far, few.most_people, few.provisional) == (2, 0.01, 100, False)
    assert 0.1 < few.frr < 0.2  # between the second point and the third
    many = outlook(made, "cosine", 0.01, 1000)
    assert (many.kept_far, many.provisional, many.frr) == (pytest.approx(0.1), True, pytest.approx(0.2))
    assert outlook(made, "cosine", 0.01, 0).people == 0


# the calibration used


def test_the_calibration_used_is_that_of_the_manifests_rule(make_bundle: Any) -> None:
    manifest = _manifest(make_bundle(rule="mean"))
    assert calibration_for(manifest, "int8", 3).rule == "mean"
    other = msgspec.structs.replace(manifest, rule="best")
    with raises(InputError, reason="uncalibrated"):
        calibration_for(other, "int8", 3)


def test_a_count_between_two_calibrated_ones_takes_the_next_one_up(make_bundle: Any) -> None:
    manifest = _manifest(make_bundle())
    found = {count: calibration_for(manifest, "int8", count).templates for count in (1, 2, 3, 4, 5)}
    assert found == {1: 1, 2: 3, 3: 3, 4: 5, 5: 5}
    assert calibration_for(manifest, "float32", 1).variant == "float32"


def test_for_the_mean_a_count_between_two_calibrated_ones_takes_the_next_one_down_from_the_fewest(make_bundle):
    manifest = _manifest(make_bundle(rule="mean"))
    found = {count: calibration_for(manifest, "int8", count).templates for count in (1, 2, 3, 4, 5)}
    assert found == {1: 1, 2: 1, 3: 3, 4: 3, 5: 5}
    assert calibration_for(manifest, "int8", 5, 4).templates == 3
    assert calibration_for(manifest, "int8", 5, 1).templates == 1
    best = _manifest(make_bundle(rule="best"))
    assert calibration_for(best, "int8", 4, 1).templates == 5
    with raises(InputError, match="calibrated for more than 2 templates a person", reason="uncalibrated"):
        calibration_for(_manifest(make_bundle(rule="mean", counts=(3, 5))), "int8", 3, 2)


@pytest.mark.parametrize(
    ("calibrated", "count", "reason"),
    [(True, 6, "too_many_templates"), (False, 1, "uncalibrated"), (True, 5, "uncalibrated")],
)
def test_without_a_calibration_for_the_count_there_is_no_decision(make_bundle, calibrated, count, reason):
    manifest = _manifest(make_bundle(calibrated=calibrated, counts=(1, 3)))
    with raises(InputError, reason=reason):
        calibration_for(manifest, "int8", count)


def _manifest(path: Any) -> Any:
    return Bundle.open(path).manifest


def test_similarity_is_linear_between_the_knots_and_constant_outside() -> None:
    made = calibration()
    assert [similarity(made, s) for s in (-3.0, 0.0, 0.25, 0.5, 9.0)] == pytest.approx([0.1, 0.1, 0.3, 0.5, 0.9])


@pytest.mark.parametrize(
    ("metric", "points", "scores"),
    [
        ("cosine", ((0.1, 0.2), (0.01, 0.6)), (-1.0, 0.2, 0.6, 1.0)),
        ("euclidean", ((0.1, -8.0), (0.01, -4.0)), (-50.0, -8.0, -4.0, -0.0)),
    ],
)
def test_likeness_is_the_score_on_a_scale_from_0_to_100_whatever_the_metric(metric, points, scores):
    shown = [likeness(calibration(points), metric, score) for score in scores]
    assert shown == pytest.approx([0.0, 0.0, 50.0, 100.0], abs=1e-3)
    assert math.copysign(1.0, shown[0]) == 1.0


def test_likeness_of_a_calibration_that_lets_nobody_in_is_none_or_all() -> None:
    made = calibration(((0.1, 1.0), (0.01, 1.0)))
    assert [likeness(made, "cosine", score) for score in (0.2, 0.99, 1.0)] == [0.0, 0.0, 100.0]

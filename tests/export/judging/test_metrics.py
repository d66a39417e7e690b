"""Rates, curves and intervals against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm

from edge_oneshot_export.judging.metrics import eer, far_at, frr_at, proportion_interval, roc, threshold_at, tpr_at_fpr

some_scores = hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-1, 1, width=16))


def scores(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_a_score_at_the_threshold_is_accepted():
    assert far_at(scores(0.1, 0.2, 0.3, 0.4), 0.3) == 0.5
    assert frr_at(scores(0.1, 0.2, 0.3, 0.4), float(np.float32(0.3))) == 0.5


def test_eer_of_separated_scores_is_zero_and_of_swapped_ones_is_one():
    assert eer(scores(0.8, 0.9), scores(0.1, 0.2, 0.3)) == 0.0
    assert eer(scores(0.1, 0.2), scores(0.8, 0.9, 0.95)) == 1.0


def test_eer_of_identical_scores_is_a_half():
    assert eer(scores(0.5, 0.5, 0.5), scores(0.5, 0.5)) == 0.5


def test_eer_where_one_of_four_crosses_over_is_a_quarter():
    assert eer(scores(0.2, 0.7, 0.8, 0.9), scores(0.1, 0.15, 0.3, 0.75)) == 0.25


def test_eer_between_two_thresholds_is_interpolated():
    # at 0.5 the rates (far, frr) are (0, 1/3), just below 0.4 (1/2, 1/3): they meet at 1/3
    assert eer(scores(0.3, 0.5, 0.6), scores(0.2, 0.4)) == pytest.approx(1 / 3)


def test_eer_of_two_gaussians_is_what_theory_says():
    rng = np.random.default_rng(0)
    genuine = rng.normal(2.0, 1.0, 200_000).astype(np.float32)
    impostor = rng.normal(0.0, 1.0, 200_000).astype(np.float32)
    assert eer(genuine, impostor) == pytest.approx(norm.cdf(-1.0), abs=0.002)
    assert tpr_at_fpr(genuine, impostor, 0.01) == pytest.approx(norm.sf(norm.isf(0.01) - 2.0), abs=0.01)


def test_tpr_at_fpr_counts_only_what_lies_above_the_refused_impostors():
    genuine, impostor = scores(0.1, 0.5, 0.6, 0.7), scores(0.0, 0.2, 0.4, 0.5, 0.65)
    assert tpr_at_fpr(genuine, impostor, 0.0) == 0.25
    assert tpr_at_fpr(genuine, impostor, 0.2) == 0.5
    assert tpr_at_fpr(genuine, impostor, 0.4) == 0.75
    assert tpr_at_fpr(genuine, impostor, 1.0) == 1.0


def test_tied_impostors_are_refused_together():
    impostor = scores(0.1, 0.5, 0.5, 0.5)
    assert far_at(impostor, threshold_at(impostor, 0.5)) == 0.0
    assert far_at(impostor, threshold_at(impostor, 0.75)) == 0.75


def test_a_rate_that_floating_point_cannot_hold_is_not_lost():
    impostor = np.arange(100, dtype=np.float32)
    assert far_at(impostor, threshold_at(impostor, 0.29)) == 0.29  # 0.29 * 100 is 28.999...


def test_a_threshold_from_no_scores_is_refused():
    with pytest.raises(ValueError, match="no impostor"):
        threshold_at(scores(), 0.1)


@given(some_scores, st.floats(0.0, 0.999))
def test_the_threshold_is_the_lowest_that_keeps_the_rate(impostor, rate):
    threshold = threshold_at(impostor, rate)
    assert far_at(impostor, threshold) <= rate + 1e-9
    assert far_at(impostor, float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))) > rate


@given(some_scores, some_scores)
def test_the_curve_runs_from_nobody_to_everybody_and_never_back(genuine, impostor):
    curve = roc(genuine, impostor)
    assert (curve.far[0], curve.frr[0]) == (0.0, 1.0)
    assert (curve.far[-1], curve.frr[-1]) == (1.0, 0.0)
    assert (np.diff(curve.thresholds) < 0).all()
    assert (np.diff(curve.far) >= 0).all()
    assert (np.diff(curve.frr) <= 0).all()
    for threshold, far, frr in zip(curve.thresholds, curve.far, curve.frr, strict=True):
        assert far == pytest.approx(far_at(impostor, threshold))
        assert frr == pytest.approx(frr_at(genuine, threshold))


@given(some_scores, some_scores)
def test_the_equal_error_rate_lies_between_the_rates_around_the_crossing(genuine, impostor):
    curve = roc(genuine, impostor)
    rate = eer(genuine, impostor)
    after = int(np.argmax(curve.far >= curve.frr))
    assert curve.far[after - 1] - 1e-12 <= rate <= curve.far[after] + 1e-12
    assert curve.frr[after] - 1e-12 <= rate <= curve.frr[after - 1] + 1e-12


@given(some_scores, some_scores)
def test_the_equal_error_rate_depends_on_the_order_of_scores_alone(genuine, impostor):
    assert eer(genuine * 4 - 1, impostor * 4 - 1) == eer(genuine, impostor)


def test_wilson_intervals_are_the_published_ones():
    assert proportion_interval(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert proportion_interval(0, 20) == pytest.approx((0.0, 0.1611252), abs=1e-6)
    low, high = proportion_interval(368, 400)  # 8 % errors in the official trials
    assert high - low == pytest.approx(0.054, abs=0.001)


def test_an_interval_of_no_trials_is_refused():
    for successes, trials in ((0, 0), (2, 1), (-1, 3)):
        with pytest.raises(ValueError, match="have no interval"):
            proportion_interval(successes, trials)

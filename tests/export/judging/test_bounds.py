"""Bounds and intervals hold what they promise, where independent comparisons would not."""

import numpy as np
import pytest
from scipy.stats import binom

from edge_oneshot_device.matching.support import supports
from edge_oneshot_export.judging.bounds import far_bounds, mean_interval, rate_interval
from edge_oneshot_export.judging.metrics import far_at, proportion_interval, threshold_at
from edge_oneshot_export.judging.protocols import genuine_and_impostor, one_shot, one_shot_episodes
from tests.campaigns import coverage as campaign


@pytest.fixture(scope="module")
def everybody():
    return campaign.truth(1, people=3000)


def test_three_over_the_pairs_of_people_is_the_smallest_supported_rate():
    assert supports(25, 1e-2)
    assert not supports(24, 1e-2)
    assert supports(78, 1e-3)
    assert not supports(77, 1e-3)


def test_bounds_and_intervals_cover_the_truth_of_ten_people_who_differ(everybody):
    simulations = 120
    found = {(one.what, one.rate): one for one in campaign.simulate(10, simulations, 0, everybody)}
    bound, interval = found[campaign.CALIBRATION, 0.1], found[campaign.EER, None]
    # what covers 93 % falls below this in one of ten thousand campaigns
    least = binom.ppf(1e-4, simulations, 0.93) / simulations
    assert bound.covered >= least
    assert interval.covered >= least
    assert bound.true_rate < bound.stated <= 3 * bound.true_rate


def test_a_bound_that_takes_comparisons_as_independent_would_not(everybody):
    simulations = 120
    covered = 0
    labels = np.repeat(np.arange(10), 10)
    for number in range(simulations):
        embeddings = campaign.draw(10, 10, np.random.default_rng((0, 10, number))).reshape(100, -1)
        impostor = genuine_and_impostor(embeddings, labels, "cosine").impostor
        threshold = threshold_at(impostor, 0.1)
        accepted = round(far_at(impostor, threshold) * len(impostor))
        covered += everybody.far_at(threshold) <= proportion_interval(accepted, len(impostor))[1]
    assert covered < binom.ppf(1e-4, simulations, 0.93)


def test_forty_people_need_disjoint_people_and_what_comparisons_share(everybody):
    simulations, labels = 60, np.repeat(np.arange(40), 4)
    held, alone = 0, 0
    for number in range(simulations):
        rng = np.random.default_rng((0, 40, number))
        pairs = genuine_and_impostor(campaign.draw(40, 4, rng).reshape(160, -1), labels, "cosine")
        threshold = threshold_at(pairs.impostor, 0.1)
        true = everybody.far_at(threshold)
        held += true <= far_bounds(pairs.impostor, labels[pairs.impostor_pairs], [0.1], rng)[0].upper_95
        # the same people for threshold and count, and each comparison for itself
        accepted = round(far_at(pairs.impostor, threshold) * len(pairs.impostor))
        alone += true <= proportion_interval(accepted, len(pairs.impostor))[1]
    least = binom.ppf(1e-4, simulations, 0.93)
    assert held >= least
    assert alone < least


def test_accuracy_on_tasks_about_few_identities_needs_what_tasks_share():
    true = campaign.true_accuracies(1, people=3000)
    assert true[2] > true[5] > true[20]
    simulations, labels = 60, np.repeat(np.arange(10), 10)
    found = {one.what: one for one in campaign.simulate_tasks(10, simulations, 0, {5: true[5]})}
    least = binom.ppf(1e-4, simulations, 0.93)
    for what in (campaign.ALL_TASKS, campaign.DRAWN_TASKS):
        assert found[what.format(5)].covered * simulations >= least
    alone = 0
    for number in range(simulations):
        embeddings = campaign.draw(10, 10, np.random.default_rng((0, 10, number))).reshape(100, -1)
        solved = one_shot(embeddings, one_shot_episodes(labels, 5, 1000, number), "cosine")
        low, high = proportion_interval(int(solved.sum()), 1000)
        alone += low <= true[5] <= high
    assert alone < least


def test_a_bound_is_above_the_rate_and_the_rule_of_three():
    rng = np.random.default_rng(0)
    one, other = np.triu_indices(40, 1)
    sides = np.stack([one, other], axis=1)
    scores = rng.standard_normal(len(sides)).astype(np.float32)
    targets = (0.5, 0.1, 1e-2)
    bounds = far_bounds(scores, sides, targets, rng)
    for target, bound in zip(targets, bounds, strict=True):
        assert bound.far == pytest.approx(target, rel=0.5)
        assert max(bound.far, 3 / 780) <= bound.upper_95 <= 1.0
    nobody = far_bounds(np.zeros_like(scores), sides, targets, rng)
    assert [bound.far for bound in nobody] == [0.0] * 3
    assert all(bound.upper_95 == pytest.approx(3 / 780) for bound in nobody)


def test_people_who_differ_more_have_a_higher_bound():
    rng = np.random.default_rng(0)
    sides = np.stack(np.triu_indices(60, 1), axis=1)
    noise, easy = rng.standard_normal(len(sides)), rng.standard_normal(60)
    uppers = []
    for effect in (0.0, 0.5, 1.0):
        scores = (noise + effect * easy[sides].sum(axis=1)).astype(np.float32)
        uppers.append(far_bounds(scores, sides, [0.05], np.random.default_rng(1))[0].upper_95)
    assert uppers == sorted(uppers)
    assert uppers[2] > 1.2 * uppers[0]


def test_independent_tasks_have_wilsons_interval():
    solved = np.random.default_rng(0).random(3000) < 0.9
    found = mean_interval(solved.astype(np.float64), np.arange(3000))
    assert found == pytest.approx(proportion_interval(int(solved.sum()), 3000), abs=1e-4)


def test_tasks_that_are_solved_or_not_by_identity_count_as_so_many_identities():
    solved = np.repeat(np.random.default_rng(0).random(100) < 0.8, 30)
    low, high = mean_interval(solved.astype(np.float64), np.repeat(np.arange(100), 30))
    alone = proportion_interval(int(solved.sum()) // 30, 100)
    assert (low, high) == pytest.approx(alone, abs=0.005)


def test_tasks_all_of_which_are_solved_count_as_their_identities():
    low, high = mean_interval(np.ones(3000), np.repeat(np.arange(100), 30))
    assert low == pytest.approx(proportion_interval(100, 100)[0], abs=0.002)
    assert high == 1.0


def test_weights_whose_sum_rounds_below_one_are_no_variance():
    clusters = np.repeat(np.arange(100), 30)
    weights = np.full(3000, (1 - 1e-14) / 3000)
    assert mean_interval(np.ones(3000), clusters, weights) == pytest.approx(mean_interval(np.ones(3000), clusters))
    assert mean_interval(np.ones(3000), clusters, weights)[0] < 0.97


def test_one_person_says_nothing_of_others():
    assert rate_interval(0.5, 0.01, people=1) == (0.0, 1.0)

"""The curve of verification and its intervals."""

import numpy as np
import pytest

from edge_oneshot_export.judging.metrics import far_at, frr_at, threshold_at
from edge_oneshot_export.judging.protocols import genuine_and_impostor
from edge_oneshot_export.judging.verification import verification_rates


def people(count, images, seed=0):
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((count, 1, 8)) + 0.5 * rng.standard_normal((count, images, 8))
    embeddings = (embeddings / np.linalg.norm(embeddings, axis=2, keepdims=True)).astype(np.float32)
    return embeddings.reshape(count * images, 8), np.repeat(np.arange(count), images)


@pytest.fixture(scope="module")
def judged():
    embeddings, labels = people(80, 6)
    pairs = genuine_and_impostor(embeddings, labels, "cosine")
    return pairs, verification_rates(pairs, labels)


def test_the_curve_runs_from_strict_to_lax_and_ends_at_everybody(judged):
    _, rates = judged
    far, tpr = np.array([(point.far, point.tpr) for point in rates.roc]).T
    assert 80 <= len(far) <= 101
    assert (np.diff(far) > 0).all()
    assert (np.diff(tpr) >= 0).all()
    assert (far[-1], tpr[-1]) == (1.0, 1.0)
    for point in rates.roc:
        assert point.interval[0] <= point.tpr <= point.interval[1]


def test_each_point_has_the_rates_of_one_threshold(judged):
    pairs, rates = judged
    for point in rates.roc[::10]:
        threshold = threshold_at(pairs.impostor, point.far)
        assert far_at(pairs.impostor, threshold) == pytest.approx(point.far)
        assert 1 - frr_at(pairs.genuine, threshold) == pytest.approx(point.tpr)


def test_the_rates_of_the_keys_are_points_of_the_curve(judged):
    _, rates = judged
    for name, tpr in rates.tpr_at_fpr.items():
        point = max((point for point in rates.roc if point.far <= float(name) + 1e-12), key=lambda point: point.far)
        assert point.tpr == tpr
        assert point.interval == rates.intervals[name]


def test_a_rate_that_the_people_do_not_support_has_no_bound(judged):
    _, rates = judged
    assert rates.far_upper_95["1e-2"] > 1e-2
    assert rates.far_upper_95["1e-3"] > 1e-3
    assert rates.far_upper_95["1e-4"] is None


def test_more_people_have_narrower_intervals_and_more_pairs_of_the_same_do_not_pretend_to():
    def width(count, images):
        embeddings, labels = people(count, images, seed=1)
        low, high = verification_rates(genuine_and_impostor(embeddings, labels, "cosine"), labels).intervals["1e-2"]
        return high - low

    assert width(200, 4) < 0.6 * width(25, 4)
    # thirty times the pairs, but the same people
    assert width(25, 20) > 0.5 * width(25, 4)


def test_two_people_with_a_genuine_pair_each_are_judged():
    embeddings, labels = people(2, 2)
    rates = verification_rates(genuine_and_impostor(embeddings, labels, "cosine"), labels)
    assert rates.far_upper_95 == dict.fromkeys(["1e-2", "1e-3", "1e-4", "1e-5"])
    for low, high in rates.intervals.values():
        assert 0.0 <= low <= high <= 1.0

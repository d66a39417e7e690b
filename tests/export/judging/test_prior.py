"""A few people never loosen the thresholds that a bundle has."""

import msgspec
import numpy as np
import pytest

from edge_oneshot_device.matching.support import people_needed, supports
from edge_oneshot_device.matching.thresholds import threshold_for
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.judging.calibration import CalibrationSettings, calibrate_embeddings
from edge_oneshot_export.judging.metrics import far_at
from edge_oneshot_export.judging.prior import combine, lead, smallest_target
from edge_oneshot_export.judging.protocols import genuine_and_impostor
from edge_oneshot_export.judging.sampling import Sample
from tests.export.judging.test_calibration import gaussian_people

RATES = np.geomspace(0.5, 2e-4, 60)


def calibrated(embeddings, labels, metric="cosine", prior=(), counts=(1,), **options):
    settings = CalibrationSettings("made-up people", counts=counts, **options)
    return calibrate_embeddings(
        embeddings, Sample.whole(labels), metric, variant="int8", settings=settings, prior=prior
    )


@pytest.fixture(scope="module")
def bundle():
    """What a bundle has: calibrations on 100 people, which support 0.001."""
    return calibrated(*gaussian_people(100, 6, seed=1), counts=(1, 3))


def near(people, images, seed):
    """People of one family: their centres scatter half as much around one of their own."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((1, 1, 16)) + 0.7 * rng.standard_normal((people, 1, 16))
    embeddings = (centres + 0.6 * rng.standard_normal((people, images, 16))).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings.reshape(people * images, 16), np.repeat(np.arange(people), images)


@pytest.mark.parametrize("people", [4, 5, 8, 10, 20, 40])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_few_people_keep_the_default_and_loosen_no_threshold_at_any_rate(people, metric):
    normalised = metric == "cosine"
    had = calibrated(*gaussian_people(100, 4, seed=1, normalised=normalised), metric)
    for seed in range(4):
        found = calibrated(*gaussian_people(people, 4, seed=50 + seed, normalised=normalised), metric, prior=had)
        for before, after in zip(had, found, strict=True):
            assert (after.target_far, after.people, after.provisional) == (before.target_far, people, True)
            assert after.margin >= before.margin
            for rate in RATES:
                if not supports(people, rate / 10):
                    value = threshold_for(after, metric, rate).value
                    assert value >= threshold_for(before, metric, rate).value, rate


def test_the_rate_of_fresh_people_stays_below_the_promise(bundle):
    fresh, labels = gaussian_people(900, 2, seed=99)
    impostor = genuine_and_impostor(fresh, labels, "cosine").impostor
    for people in (4, 10, 40):
        rates = [
            far_at(impostor, threshold_for(found, "cosine", found.target_far).value) / found.target_far
            for seed in range(10)
            for found in calibrated(*gaussian_people(people, 4, seed=200 + seed), prior=bundle)[:1]
        ]
        assert max(rates) <= 1.0


def test_people_who_are_more_alike_raise_the_threshold_by_their_lead(bundle):
    before = bundle[0]
    for seed in range(5):
        family = near(10, 4, seed)
        own, after = calibrated(*family)[0], calibrated(*family, prior=bundle)[0]
        ahead = lead(own, before, "cosine")
        assert ahead > 0.1
        ordinary = calibrated(*gaussian_people(10, 4, seed=seed), prior=bundle)[0]
        assert threshold_for(after, "cosine", 1e-3).value > threshold_for(ordinary, "cosine", 1e-3).value
        for point in before.points:
            if not supports(10, point.target_far / 10):
                assert threshold_for(after, "cosine", point.target_far).value >= min(point.threshold + ahead, 1 - 1e-6)


def test_ample_people_loosen_a_threshold_only_as_far_as_their_own_bound(bundle):
    strict = [raised(one, 0.2) for one in bundle]
    people = gaussian_people(100, 6, seed=7)
    own, after = calibrated(*people)[0], calibrated(*people, prior=strict)[0]
    fresh, labels = gaussian_people(900, 2, seed=99)
    impostor = genuine_and_impostor(fresh, labels, "cosine").impostor
    for point in strict[0].points:
        found = threshold_for(after, "cosine", point.target_far).value
        if supports(100, point.target_far / 10):
            assert threshold_for(own, "cosine", point.target_far).value <= found < point.threshold
            assert far_at(impostor, found) <= point.target_far
        else:
            assert found >= point.threshold
    assert not after.provisional


def raised(calibration, by):
    points = tuple(msgspec.structs.replace(one, threshold=one.threshold + by) for one in calibration.points)
    tail = msgspec.structs.replace(calibration.tail, threshold=points[-1].threshold)
    return msgspec.structs.replace(calibration, points=points, tail=tail)


def test_it_is_provisional_until_the_people_support_the_default(bundle):
    needed = people_needed(bundle[0].target_far)
    for people, provisional in ((needed - 1, True), (needed, False)):
        found = calibrated(*gaussian_people(people, 2, seed=3), prior=bundle)[0]
        assert (found.provisional, found.target_far) == (provisional, bundle[0].target_far)


def test_people_who_support_a_smaller_rate_make_it_the_default(bundle):
    found = calibrated(*gaussian_people(250, 2, seed=3), prior=bundle)[0]
    assert found.target_far == 1e-4 < bundle[0].target_far
    assert not found.provisional


def test_calibrating_again_with_the_same_few_people_changes_no_threshold(bundle):
    people = gaussian_people(8, 4, seed=5)
    once = calibrated(*people, prior=bundle)[0]
    again = calibrated(*people, prior=[once])[0]
    for one, other in zip(once.points, again.points, strict=True):
        assert other.threshold == pytest.approx(one.threshold, abs=1e-6)


def test_a_wanted_rate_needs_a_threshold_of_the_bundle_or_enough_people(bundle):
    few = gaussian_people(8, 4, seed=5)
    assert calibrated(*few, prior=bundle, target_far=0.002)[0].target_far == 0.002
    with pytest.raises(
        ModelError, match=r"has 8, which support 0\.2, and with what the bundle knows 0\.001: give more people"
    ) as refused:
        calibrated(*few, prior=bundle, target_far=1e-5)
    assert refused.value.reason == "unsupported_target"


def test_a_number_of_templates_that_the_bundle_has_no_thresholds_for_needs_enough_people(bundle):
    few = gaussian_people(8, 8, seed=5)
    assert {one.templates for one in calibrated(*few, prior=bundle, counts=(1, 3, 5))} == {1, 3}
    assert {one.templates for one in calibrated(*few, counts=(1, 3, 5))} == {1, 3, 5}


def test_a_number_of_templates_that_the_images_cannot_give_keeps_its_raised_thresholds(bundle):
    family = near(10, 2, seed=1)
    found = {(one.rule, one.templates): one for one in calibrated(*family, prior=bundle, counts=(1, 3))}
    assert set(found) == {(one.rule, one.templates) for one in bundle}
    for before in bundle:
        after = found[before.rule, before.templates]
        assert (after.provisional, after.target_far) == (True, before.target_far)
        if before.templates == 3:
            assert after.people == before.people
            for rate in RATES:
                ahead = threshold_for(after, "cosine", rate).value - threshold_for(before, "cosine", rate).value
                assert ahead > 0.05
    asked = calibrated(*family, prior=bundle, counts=(1, 3), target_far=0.004)
    assert {one.target_far for one in asked} == {0.004}


def test_without_a_bundles_calibration_everything_is_as_before():
    assert smallest_target(()) == 1.0
    found = calibrated(*gaussian_people(8, 4, seed=5))[0]
    assert (found.target_far, found.provisional) == (0.2, False)


def test_a_bundle_that_accepts_nobody_keeps_on_doing_so():
    nobody = calibrated(np.full((48, 4), 0.5, np.float32), np.repeat(np.arange(12), 4))
    own = calibrated(*gaussian_people(8, 4, seed=5))[0]
    found = combine(own, nobody[0], "cosine", nobody[0].target_far, lambda threshold: float(threshold < 1))
    thresholds = [point.threshold for point in found.points]
    assert thresholds == sorted(thresholds)
    assert min(thresholds) >= nobody[0].points[0].threshold

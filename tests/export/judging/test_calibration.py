"""Calibration keeps its promises on people it has never seen."""

import dataclasses
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from edge_oneshot_device.bundle.manifest import Calibration, EmbeddingSection, TensorSpec
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.fake import FakeModel
from edge_oneshot_device.matching.decision import decide_identify, join, scores
from edge_oneshot_device.matching.support import people_needed, supported_targets, supports
from edge_oneshot_device.matching.thresholds import similarity, threshold_for
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.judging.calibration import CalibrationSettings, better_rule, calibrate, calibrate_embeddings
from edge_oneshot_export.judging.metrics import far_at
from edge_oneshot_export.judging.protocols import LabelledImages, genuine_and_impostor
from edge_oneshot_export.judging.sampling import Sample
from edge_oneshot_export.judging.score_fits import similarity_map


def gaussian_people(people, images, *, seed, noise=0.6, size=16, normalised=True):
    """Embeddings that scatter around a centre for each person, and their labels."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((people, 1, size))
    embeddings = (centres + noise * rng.standard_normal((people, images, size))).astype(np.float32)
    if normalised:
        embeddings /= np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings.reshape(people * images, size), np.repeat(np.arange(people), images)


def calibrated(embeddings, labels, metric="cosine", rule="best", empty=None, **options):
    sample = Sample.whole(labels)
    if empty is not None:
        sample = dataclasses.replace(sample, empty=empty)
    made = CalibrationSettings("made-up people", **options)
    found = calibrate_embeddings(embeddings, sample, metric, variant="int8", settings=made)
    return [calibration for calibration in found if calibration.rule == rule]


@pytest.fixture(scope="module")
def sixty():
    """Calibrations on 60 people with 8 images each."""
    return calibrated(*gaussian_people(60, 8, seed=1))


@pytest.mark.parametrize(
    ("people", "smallest", "targets"),
    [(4, 0.5, 1), (5, 0.5, 1), (6, 0.2, 2), (40, 5e-3, 7), (170, 5e-4, 10), (246, 1e-4, 12), (1000, 1e-5, 15)],
)
def test_the_smallest_target_is_the_rule_of_three_over_pairs_of_people(people, smallest, targets):
    found = supported_targets(people)
    assert found[-1] == smallest
    assert len(found) == targets
    assert smallest * people * (people - 1) / 2 >= 3
    assert found == tuple(sorted(found, reverse=True))


def test_three_people_support_no_target():
    assert supported_targets(3) == ()


def test_each_count_says_what_it_rests_on(sixty):
    assert [c.templates for c in sixty] == [1, 3, 5]
    for calibration in sixty:
        assert calibration.people == 60
        assert calibration.impostor == calibration.genuine * 59
        assert calibration.variant == "int8"
        assert calibration.rule == "best"
        assert calibration.data == "made-up people"
        assert not calibration.provisional
        assert calibration.target_far == calibration.points[-1].target_far == 2e-3
    assert calibrated(*gaussian_people(5, 3, seed=0), counts=(1,), provisional=True)[0].provisional


def test_a_calibration_survives_the_manifest_unchanged(sixty):
    for calibration in sixty:
        assert msgspec.json.decode(msgspec.json.encode(calibration), type=Calibration) == calibration


def test_stricter_targets_have_thresholds_at_least_as_high_and_reject_at_least_as_many(sixty):
    for calibration in sixty:
        points = calibration.points
        assert [p.target_far for p in points] == sorted((p.target_far for p in points), reverse=True)
        assert [p.threshold for p in points] == sorted(p.threshold for p in points)
        assert [p.frr for p in points] == sorted(p.frr for p in points)


def test_the_bound_is_never_below_the_rate_nor_the_rule_of_three(sixty):
    for calibration in sixty:
        for point in calibration.points:
            assert point.far <= point.far_upper_95 <= 1.0
            assert point.far_upper_95 >= 3 / (60 * 59 / 2)
            assert point.far == pytest.approx(point.target_far, rel=0.25)


def test_more_templates_a_person_need_a_higher_threshold_and_reject_fewer(sixty):
    one, three, five = (c.points[-1] for c in sixty)
    assert one.threshold < three.threshold < five.threshold
    assert one.frr > three.frr > five.frr


def test_the_rates_hold_on_fresh_people_within_their_bound(sixty):
    fresh, labels = gaussian_people(1200, 2, seed=99)
    pairs = genuine_and_impostor(fresh, labels, "cosine")
    for point in sixty[0].points:
        rate = far_at(pairs.impostor, point.threshold)
        assert rate <= point.far_upper_95
        assert rate >= point.target_far / 2
        assert np.mean(pairs.genuine < point.threshold) == pytest.approx(point.frr, abs=0.1)


def test_the_bound_covers_fresh_people_in_nearly_all_repetitions():
    fresh, labels = gaussian_people(400, 2, seed=99)
    impostor = genuine_and_impostor(fresh, labels, "cosine").impostor
    covered = []
    for seed in range(12):
        calibration = calibrated(*gaussian_people(20, 5, seed=seed), counts=(1,))[0]
        covered += [far_at(impostor, p.threshold) <= p.far_upper_95 for p in calibration.points]
    assert np.mean(covered) >= 0.95


def test_rates_for_three_templates_hold_on_fresh_galleries(sixty):
    fresh, _ = gaussian_people(300, 4, seed=98)
    by_person = fresh.reshape(300, 4, -1)
    owners = np.repeat(np.arange(300), 3)
    gallery = by_person[:, :3].reshape(900, -1)
    joined = np.stack([join(scores(probe, gallery, "cosine"), owners, 300) for probe in by_person[:, 3]])
    impostor = joined[~np.eye(300, dtype=bool)]
    for point in sixty[1].points:
        assert far_at(impostor, point.threshold) <= point.far_upper_95


def test_two_templates_joined_by_their_mean_keep_the_rate_at_the_threshold_of_one_and_not_at_that_of_three():
    mean = calibrated(*gaussian_people(60, 8, seed=1), rule="mean")
    fresh, _ = gaussian_people(300, 3, seed=98)
    by_person = fresh.reshape(300, 3, -1)
    owners = np.repeat(np.arange(300), 2)
    gallery = by_person[:, :2].reshape(600, -1)
    joined = np.stack([join(scores(probe, gallery, "cosine"), owners, 300, "mean") for probe in by_person[:, 2]])
    impostor = joined[~np.eye(300, dtype=bool)]
    for one, three in zip(mean[0].points, mean[1].points, strict=True):
        assert far_at(impostor, one.threshold) <= one.far_upper_95
        if one.target_far < 0.1:
            assert far_at(impostor, three.threshold) > three.target_far


def test_the_extrapolated_tail_is_near_the_truth_a_decade_below_the_data(sixty):
    fresh, labels = gaussian_people(1200, 2, seed=99)
    impostor = genuine_and_impostor(fresh, labels, "cosine").impostor
    threshold = threshold_for(sixty[0], "cosine", sixty[0].target_far, people=10)
    assert threshold.provisional
    assert far_at(impostor, threshold.value) == pytest.approx(sixty[0].target_far / 10, rel=0.7)


def test_thresholds_run_on_into_the_tail_without_a_step(sixty):
    for calibration in sixty:
        smallest = calibration.points[-1]
        assert calibration.tail.threshold == smallest.threshold
        assert calibration.tail.far == smallest.target_far
        below = threshold_for(calibration, "cosine", smallest.target_far * 0.999)
        assert below.value == pytest.approx(smallest.threshold, abs=1e-3)
        assert below.value >= smallest.threshold


@pytest.mark.parametrize("images", [2, 12])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_every_rate_down_to_a_billionth_has_a_threshold(images, metric):
    world = gaussian_people(12, images, seed=4, normalised=metric == "cosine")
    for calibration in calibrated(*world, metric):
        rates = np.geomspace(calibration.target_far, 1e-9, 40)
        thresholds = [threshold_for(calibration, metric, float(rate)).value for rate in rates]
        assert all(map(math.isfinite, thresholds))
        assert thresholds == sorted(thresholds)
        assert -0.5 <= calibration.tail.shape <= 0.5


def test_euclidean_rates_hold_on_fresh_people():
    calibration = calibrated(*gaussian_people(60, 8, seed=1, normalised=False), "euclidean", counts=(1,))[0]
    fresh, labels = gaussian_people(600, 2, seed=99, normalised=False)
    impostor = genuine_and_impostor(fresh, labels, "euclidean").impostor
    for point in calibration.points:
        assert point.threshold < 0.0
        assert far_at(impostor, point.threshold) <= point.far_upper_95


def test_similarity_of_gaussian_scores_is_the_analytic_posterior():
    rng = np.random.default_rng(0)
    genuine = rng.normal(0.6, 0.15, 20_000).astype(np.float32)
    impostor = rng.normal(0.1, 0.15, 400_000).astype(np.float32)
    mapped = similarity_map(genuine, impostor)
    score = np.linspace(0.1, 0.6, 101)
    same, other = norm.pdf(score, 0.6, 0.15), norm.pdf(score, 0.1, 0.15)
    assert np.interp(score, mapped.scores, mapped.degrees) == pytest.approx(same / (same + other), abs=0.04)


two_kinds = st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=300)


@given(two_kinds, two_kinds)
@settings(max_examples=200)
def test_a_degree_of_similarity_never_falls_and_has_few_knots(genuine, impostor):
    mapped = similarity_map(np.array(genuine, dtype=np.float32), np.array(impostor, dtype=np.float32))
    assert 2 <= len(mapped.scores) == len(mapped.degrees) <= 64
    assert all(low < high for low, high in zip(mapped.scores, mapped.scores[1:], strict=False))
    assert all(low <= high for low, high in zip(mapped.degrees, mapped.degrees[1:], strict=False))
    assert mapped.degrees[0] >= 0.0
    assert mapped.degrees[-1] <= 1.0


def test_many_steps_are_thinned_to_the_knots_that_matter():
    score = np.linspace(0, 1, 1001).astype(np.float32)
    genuine, impostor = np.repeat(score, np.arange(1001)), np.repeat(score, np.arange(1001)[::-1])
    mapped = similarity_map(genuine, impostor)
    assert len(mapped.scores) == 64
    assert np.interp(score, mapped.scores, mapped.degrees) == pytest.approx(score, abs=0.004)


def test_separated_scores_go_from_nought_to_one_in_the_gap():
    mapped = similarity_map(np.array([0.7, 0.9], np.float32), np.array([0.1, 0.3], np.float32))
    assert mapped.scores == pytest.approx((0.3, 0.7))
    assert mapped.degrees == (0.0, 1.0)


def test_similarity_rises_from_impostors_to_genuine_probes(sixty):
    for calibration in sixty:
        assert similarity(calibration, -1.0) < 0.02
        assert similarity(calibration, 1.0) > 0.98


def test_the_margin_stops_twins_whom_the_threshold_lets_through():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 1, 32))
    centres[1] = centres[0] + 0.05 * rng.standard_normal((1, 32))

    def drawn(images):
        faces = (centres + 0.25 * rng.standard_normal((40, images, 32))).astype(np.float32)
        return faces / np.linalg.norm(faces, axis=-1, keepdims=True)

    known = drawn(20).reshape(800, 32)
    twins = calibrated(known, np.repeat(np.arange(40), 20), counts=(1,))[0]
    assert twins.margin > 0.004
    kept = threshold_for(twins, "cosine", twins.target_far, people=40).kept_far
    gallery, probes = drawn(1)[:, 0], drawn(50)
    names = [str(person) for person in range(40)]
    wrong = {0.0: 0, twins.margin: 0}
    for margin in wrong:
        judged = msgspec.structs.replace(twins, margin=margin)
        for name, own in zip(names, probes, strict=True):
            for probe in own:
                alike = scores(probe, gallery, "cosine")
                decision = decide_identify(names, alike, judged, twins.target_far, FakeOrigin)
                wrong[margin] += decision.accepted and decision.person != name
    assert wrong[twins.margin] <= kept * 2000 < wrong[0.0]


class FakeOrigin:
    variant, runtime, fingerprint = "int8", "fake", "0" * 64
    embedding = EmbeddingSection(size=32, metric="cosine")


def test_people_whom_the_threshold_tells_apart_need_no_more_margin_than_rounding():
    calibration = calibrated(*gaussian_people(20, 8, seed=0, noise=0.05, size=64), counts=(1,))[0]
    assert calibration.margin == pytest.approx(1e-6)


def test_the_same_seed_gives_the_same_calibration_and_another_one_another():
    people = gaussian_people(10, 4, seed=0)
    first, again, other = (calibrated(*people, counts=(1,), seed=seed)[0] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_names_of_labels_do_not_matter():
    embeddings, labels = gaussian_people(10, 4, seed=0)
    assert calibrated(embeddings, labels * 7 + 3, counts=(1,)) == calibrated(embeddings, labels, counts=(1,))


def test_a_count_that_the_images_cannot_give_is_left_out():
    assert [c.templates for c in calibrated(*gaussian_people(8, 4, seed=0))] == [1, 3]
    assert [c.templates for c in calibrated(*gaussian_people(8, 2, seed=0))] == [1]


def test_people_with_too_few_images_for_a_count_are_strangers_of_that_count():
    embeddings, labels = gaussian_people(12, 6, seed=0)
    kept = ~((labels >= 5) & (np.arange(len(labels)) % 6 >= 2))
    one, three, five = calibrated(embeddings[kept], labels[kept])
    assert (one.people, three.people, five.people) == (12, 12, 12)
    assert three.impostor > 4 * three.genuine
    assert (one.failures_to_enrol, three.failures_to_enrol) == (0, 0)


def test_images_that_show_nothing_are_failures_and_count_in_the_false_reject_rate():
    embeddings, labels = gaussian_people(12, 6, seed=0)
    plain = calibrated(embeddings, labels, counts=(1, 5))
    empty = np.zeros(12, np.int64)
    empty[0] = 6  # of the first every second image
    lacking = ~((labels == 1) & (np.arange(len(labels)) % 6 >= 3))
    empty[1] = 3  # of the second half of six
    one, five = calibrated(embeddings[lacking], labels[lacking], empty=empty, counts=(1, 5))
    assert (one.people, one.failures_to_enrol, one.failures_to_acquire) == (12, 0, 9)
    assert (five.people, five.failures_to_enrol, five.failures_to_acquire) == (11, 1, 6)
    assert plain[1].points[0].frr == 0.0
    # 11 of 12 can be enrolled, 66 of 72 images of theirs are probes
    assert five.points[0].frr == pytest.approx(1 - 11 / 12 * 66 / 72)


def test_a_target_that_the_people_do_not_support_is_refused_with_how_many_would_be_needed():
    people = gaussian_people(40, 2, seed=0)
    with pytest.raises(
        ModelError, match=r"0\.0001 needs at least 246 identities.*has 40, which support 0\.005"
    ) as refused:
        calibrated(*people, target_far=1e-4)
    assert (refused.value.reason, refused.value.exit_code) == ("unsupported_target", 2)
    found = calibrated(*people, target_far=0.03)[0]
    assert found.target_far == 0.03
    assert [point.target_far for point in found.points] == [0.5, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005]


@pytest.mark.parametrize("far", [0.5, 0.1, 1e-2, 5e-3, 1e-3, 1e-4, 1e-6, 0.0123])
def test_the_people_needed_are_the_fewest_that_support_a_target(far):
    people = people_needed(far)
    assert supports(people, far)
    assert not supports(people - 1, far)


def test_the_mean_of_templates_has_thresholds_of_its_own_and_the_better_rule_is_taken(sixty):
    mean = calibrated(*gaussian_people(60, 8, seed=1), rule="mean")
    assert [c.rule for c in mean] == ["mean"] * 3
    assert mean[0].points == sixty[0].points
    assert all(m.points[-1].threshold < b.points[-1].threshold for m, b in zip(mean[1:], sixty[1:], strict=True))
    # the mean of Gaussian images is nearer to their centre than any of them
    assert better_rule([*sixty, *mean]) == "mean"
    worse = [
        msgspec.structs.replace(c, points=tuple(msgspec.structs.replace(p, frr=1.0) for p in c.points)) for c in mean
    ]
    assert better_rule([*sixty, *worse]) == "best"
    assert better_rule(sixty[:1]) == "best"


def test_a_collapsed_encoder_accepts_nobody():
    embeddings = np.full((48, 4), 0.5, dtype=np.float32)
    calibration = calibrated(embeddings, np.repeat(np.arange(12), 4), counts=(1,))[0]
    for point in calibration.points:
        assert point.frr == 1.0
        assert point.far == 0.0
        assert point.far_upper_95 == pytest.approx(3 / 66)
    assert set(calibration.similarity.degrees) == {0.5}
    assert threshold_for(calibration, "cosine", 1e-9).value >= calibration.points[-1].threshold


@pytest.mark.parametrize(("people", "images"), [(0, 0), (1, 9), (3, 9), (9, 1)])
def test_too_few_people_or_images_are_refused_in_one_plain_line(people, images, encoder):
    labels = np.repeat(np.arange(people), images)
    names = tuple(map(str, range(people)))
    with pytest.raises(
        ModelError, match="needs at least 4 identities with at least 2 images each that have content"
    ) as refused:
        calibrate(
            encoder,
            LabelledImages(np.zeros((len(labels), 8, 8, 1), np.uint8), labels, names),
            CalibrationSettings("none"),
        )
    assert refused.value.reason == "too_few_people"
    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)


def test_counts_that_nobody_can_give_are_refused():
    with pytest.raises(ModelError, match="calibration for 3 templates a person needs at least 4 identities"):
        calibrated(*gaussian_people(8, 3, seed=0), counts=(3, 5))


@pytest.fixture
def encoder(section):
    small = msgspec.structs.replace(section, height=8, width=8)
    model = FakeModel(
        TensorSpec(dtype="int8", shape=(1, 8, 8, 1), scale=1 / 127.5, zero_point=0),
        TensorSpec(dtype="int8", shape=(1, 16), scale=0.02, zero_point=3),
    )
    return Encoder(model, small, EmbeddingSection(size=16, metric="cosine"), variant="int8", fingerprint="ab" * 32)


def test_an_encoder_is_calibrated_on_what_it_says_of_the_images(encoder):
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (9, 1, 8, 8, 1))
    pixels = np.clip(base + rng.integers(-60, 61, (9, 30, 8, 8, 1)), 0, 255).astype(np.uint8).reshape(270, 8, 8, 1)
    people = LabelledImages(pixels, np.repeat(np.arange(9), 30), tuple(map(str, range(9))))
    seen = []
    found = calibrate(encoder, people, CalibrationSettings("patterns"), progress=seen.append)
    assert seen == list(range(1, 9 * 25 + 1))  # no more than 25 images a person
    assert [(c.templates, c.rule) for c in found] == [(n, rule) for n in (1, 3, 5) for rule in ("best", "mean")]
    for calibration in found:
        assert (calibration.variant, calibration.data, calibration.people) == ("int8", "patterns", 9)
        assert calibration.points[-1].frr < 0.05


def test_strangers_support_smaller_rates_for_more_templates():
    embeddings, labels = gaussian_people(400, 6, seed=5)
    kept = np.concatenate([np.flatnonzero(labels < 40), np.flatnonzero(labels >= 40)[::6]])
    (few,) = calibrated(*gaussian_people(40, 6, seed=5), counts=(3,))
    (found,) = calibrated(embeddings[kept], labels[kept], counts=(3,))
    assert (few.people, few.target_far) == (40, 5e-3)
    assert (found.people, found.target_far) == (400, 2e-4)
    assert found.points[-1].far_upper_95 >= 3 / (40 * 39 / 2 + 40 * 360)  # pairs of people
    assert (found.impostor - 39 * found.genuine) % (360 * 40) == 0  # each stranger at each gallery


def test_thresholds_with_strangers_hold_on_fresh_people():
    embeddings, labels = gaussian_people(400, 6, seed=5)
    kept = np.concatenate([np.flatnonzero(labels < 40), np.flatnonzero(labels >= 40)[::6]])
    (found,) = calibrated(embeddings[kept], labels[kept], counts=(3,))
    fresh = gaussian_people(300, 4, seed=98)[0].reshape(300, 4, -1)
    gallery, owners = fresh[:, :3].reshape(900, -1), np.repeat(np.arange(300), 3)
    joined = np.stack([join(scores(probe, gallery, "cosine"), owners, 300) for probe in fresh[:, 3]])
    impostor = joined[~np.eye(300, dtype=bool)]
    for point in found.points:
        assert far_at(impostor, point.threshold) <= point.far_upper_95

"""Judging through the device's encoder, on tasks whose outcome is known beforehand."""

import dataclasses
import json

import msgspec
import numpy as np
import pytest

from edge_oneshot_device.bundle.manifest import EmbeddingSection, TensorSpec
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.fake import FakeModel
from edge_oneshot_device.matching.decision import scores
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.judging.evaluation import (
    evaluate_episodes,
    evaluate_range,
    evaluate_runs,
    evaluate_verification,
)
from edge_oneshot_export.judging.metrics import eer, proportion_interval, tpr_at_fpr
from edge_oneshot_export.judging.protocols import LabelledImages, genuine_and_impostor

SIDE, SIZE = 8, 24
KEYS = ["protocol", "ways", "episodes", "accuracy", "error", "interval", "alphabets", "seed"]
ORIGIN = ["variant", "runtime", "fingerprint"]


class ConstantModel(FakeModel):
    """Says the same of every image, up to nothing."""

    def run(self, values):
        return super().run(np.zeros_like(values)) + np.float32(1.0)


def make_encoder(section, kind=FakeModel, metric="cosine"):
    small = msgspec.structs.replace(section, height=SIDE, width=SIDE)
    model = kind(TensorSpec(dtype="float32", shape=(1, SIDE, SIDE, 1)), TensorSpec(dtype="float32", shape=(1, SIZE)))
    embedding = EmbeddingSection(size=SIZE, metric=metric)
    return Encoder(model, small, embedding, variant="float32", fingerprint="ab" * 32)


@pytest.fixture
def encoder(section):
    return make_encoder(section)


@pytest.fixture
def constant(section):
    return make_encoder(section, ConstantModel)


def made_of(identities, images, noise, seed=0):
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (identities, 1, SIDE, SIDE, 1))
    pixels = base + np.rint(noise * rng.standard_normal((identities, images, SIDE, SIDE, 1)))
    pixels = np.clip(pixels, 0, 255).astype(np.uint8).reshape(-1, SIDE, SIDE, 1)
    return LabelledImages(pixels, np.repeat(np.arange(identities), images), tuple(map(str, range(identities))))


def runs_of(people, ways, images, runs, rng):
    """Runs in which the queries come in a random order."""
    pixels = people.images.reshape(-1, images, SIDE, SIDE, 1)
    made = []
    for run in range(runs):
        own = pixels[run * ways : (run + 1) * ways]
        answers = rng.permutation(ways)
        made.append((own[:, 0], own[answers, 1], answers))
    return made


def test_runs_of_clear_images_are_all_solved(encoder):
    runs = runs_of(made_of(60, 2, noise=2), 20, 2, 3, np.random.default_rng(1))
    seen = []
    result = evaluate_runs(encoder, runs, alphabets=("Glagolitic", "Tengwar"), progress=seen.append)
    assert seen == list(range(1, 121))
    assert (result.protocol, result.ways, result.episodes, result.seed) == ("lake", 20, 60, None)
    assert (result.accuracy, result.error, result.pixel_accuracy, result.chance) == (1.0, 0.0, 1.0, 0.05)
    assert result.alphabets == ("Glagolitic", "Tengwar")
    assert result.interval == proportion_interval(60, 60)
    assert (result.variant, result.runtime, result.fingerprint) == ("float32", "fake", "ab" * 32)


def test_a_run_with_wrong_answers_is_counted_as_such(encoder):
    (support, queries, answers), *_ = runs_of(made_of(20, 2, noise=2), 20, 2, 1, np.random.default_rng(1))
    swapped = answers.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    result = evaluate_runs(encoder, [(support, queries, swapped)])
    assert (result.accuracy, result.error) == (0.9, 0.1)
    assert result.pixel_accuracy == 0.9


def test_runs_are_judged_by_the_devices_scores(encoder):
    runs = runs_of(made_of(60, 2, noise=70), 20, 2, 3, np.random.default_rng(1))
    right = 0
    for support, queries, answers in runs:
        templates = np.stack([encoder.embed(pixels) for pixels in support])
        for pixels, answer in zip(queries, answers, strict=True):
            right += scores(encoder.embed(pixels), templates, "cosine").argmax() == answer
    assert 0 < right < 60
    assert evaluate_runs(encoder, runs).accuracy == right / 60


def test_a_collapsed_encoder_is_at_chance_while_pixels_are_not(constant):
    people = made_of(200, 4, noise=2)
    runs = runs_of(people, 20, 4, 10, np.random.default_rng(1))
    assert evaluate_runs(constant, runs).accuracy == pytest.approx(0.05, abs=0.05)
    (result,) = evaluate_episodes(constant, people, protocol="random", ways=[5], episodes=2000, seed=0)
    assert result.accuracy == pytest.approx(0.2, abs=0.03)
    assert result.pixel_accuracy == 1.0
    assert evaluate_verification(constant, made_of(8, 3, noise=2)).eer == pytest.approx(0.5, abs=0.02)


def test_runs_of_different_sizes_are_refused(encoder):
    first, second = (runs_of(made_of(9, 2, noise=2), ways, 2, 1, np.random.default_rng(1))[0] for ways in (4, 5))
    with pytest.raises(ModelError, match="runs with 4, 5 support images"):
        evaluate_runs(encoder, [first, second])
    with pytest.raises(ModelError, match="runs with no support images"):
        evaluate_runs(encoder, [])


@pytest.mark.parametrize("answers", [[0, 1, 2, 4], [0, 1, 2, -1], [0, 1, 2]])
def test_answers_outside_the_support_are_refused(encoder, answers):
    support, queries, _ = runs_of(made_of(4, 2, noise=2), 4, 2, 1, np.random.default_rng(1))[0]
    with pytest.raises(ModelError, match="answers of a run must be 4 places among its 4 support images"):
        evaluate_runs(encoder, [(support, queries, np.array(answers))])


def three_alphabets():
    """Drawings of 24 identities by four drawers, in three groups."""
    people = made_of(24, 4, noise=90)
    names = ("one", "two", "three")
    return dataclasses.replace(people, groups=people.labels // 8, group_names=names, drawers=np.tile(np.arange(4), 24))


def test_episodes_are_judged_for_each_n_on_one_embedding_of_each_image(encoder):
    seen = []
    results = evaluate_episodes(
        encoder,
        three_alphabets(),
        protocol="within-alphabet",
        ways=[2, 5, 8],
        episodes=400,
        seed=3,
        progress=seen.append,
    )
    assert seen == list(range(1, 97))
    assert [r.ways for r in results] == [2, 5, 8]
    assert [r.chance for r in results] == [0.5, 0.2, 0.125]
    assert results[0].accuracy > results[1].accuracy > results[2].accuracy > 0.125
    for result in results:
        assert (result.protocol, result.episodes, result.seed) == ("within-alphabet", 400, 3)
        assert result.error == pytest.approx(1 - result.accuracy)
        assert result.interval[0] < result.accuracy < result.interval[1]
        assert result.alphabets == ("one", "two", "three")


def test_a_range_is_judged_on_one_embedding_of_each_image_and_agrees_with_drawn_tasks(encoder):
    people = three_alphabets()
    options = {"protocol": "within-alphabet", "seed": 3}
    seen = []
    results = evaluate_range(encoder, people, lowest=2, highest=None, progress=seen.append, **options)
    assert seen == list(range(1, 97))
    assert [r.ways for r in results] == list(range(2, 9))
    for result in (results[0], results[3], results[-1]):
        (drawn,) = evaluate_episodes(encoder, people, ways=[result.ways], episodes=4000, **options)
        # four standard errors of the drawn tasks
        allowed = 4 * np.sqrt(0.25 / 4000)
        assert result.accuracy == pytest.approx(drawn.accuracy, abs=allowed)
        assert result.pixel_accuracy == pytest.approx(drawn.pixel_accuracy, abs=allowed)
        assert result.error == pytest.approx(1 - result.accuracy)
        assert result.interval[0] < result.accuracy < result.interval[1]
        assert (result.protocol, result.episodes, result.seed) == ("within-alphabet", 24 * 4 * 3, 3)


def test_a_range_beyond_the_largest_group_is_refused(encoder):
    people = made_of(12, 4, noise=10)
    grouped = dataclasses.replace(people, groups=people.labels // 6)
    options = {"lowest": 2, "seed": 0}
    assert evaluate_range(encoder, grouped, protocol="random", highest=12, **options)[-1].ways == 12
    with pytest.raises(ModelError, match="2- to 7-way tasks: the data allow 2 to 6 ways"):
        evaluate_range(encoder, grouped, protocol="within-alphabet", highest=7, **options)
    with pytest.raises(ModelError, match="need the group of each image"):
        evaluate_range(encoder, people, protocol="within-alphabet", lowest=2, highest=None, seed=0)
    for highest in (0, 2):
        with pytest.raises(ModelError, match=f"3- to {highest}-way tasks: the data allow 2 to 12 ways"):
            evaluate_range(encoder, people, protocol="random", lowest=3, highest=highest, seed=0)
    with pytest.raises(ModelError, match="2-way tasks: the data allow none"):
        evaluate_range(encoder, made_of(12, 1, noise=10), protocol="random", lowest=2, highest=None, seed=0)


def test_tasks_that_ask_for_the_same_few_identities_have_a_wider_interval(encoder):
    many, few = made_of(400, 2, noise=70), made_of(10, 2, noise=70)
    for people, wider in ((many, 1.0), (few, 2.0)):
        (result,) = evaluate_episodes(encoder, people, protocol="random", ways=[5], episodes=2000, seed=0)
        low, high = proportion_interval(round(result.accuracy * 2000), 2000)
        assert result.interval[1] - result.interval[0] >= wider * (high - low)


def test_the_same_seed_gives_the_same_result(encoder):
    people = made_of(20, 4, noise=60)
    first, again, other = (
        evaluate_episodes(encoder, people, protocol="random", ways=[5], episodes=300, seed=seed)[0]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert (first.accuracy, first.pixel_accuracy) != (other.accuracy, other.pixel_accuracy)


def test_random_episodes_cross_groups_and_within_alphabet_ones_do_not(encoder):
    people = made_of(12, 4, noise=10)
    people = dataclasses.replace(people, groups=people.labels // 6)
    options = {"ways": [12], "episodes": 10, "seed": 0}
    assert evaluate_episodes(encoder, people, protocol="random", **options)[0].ways == 12
    with pytest.raises(ModelError, match="12-way"):
        evaluate_episodes(encoder, people, protocol="within-alphabet", **options)


def test_within_alphabet_needs_alphabets(encoder):
    with pytest.raises(ModelError, match="need the group of each image"):
        evaluate_episodes(encoder, made_of(8, 4, noise=2), protocol="within-alphabet", ways=[5], episodes=9, seed=0)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_verification_reports_the_metrics_of_all_pairs(section, metric):
    encoder = make_encoder(section, metric=metric)
    people = made_of(30, 6, noise=70)
    pairs = genuine_and_impostor(encoder.embed_many(people.images), people.labels, metric)
    result = evaluate_verification(encoder, people)
    assert result.eer == eer(pairs.genuine, pairs.impostor)
    assert 0.02 < result.eer < 0.4
    for name, tpr in result.tpr_at_fpr.items():
        assert tpr == pytest.approx(tpr_at_fpr(pairs.genuine, pairs.impostor, float(name)))
    assert (result.genuine, result.impostor, result.people) == (30 * 15, 180 * 179 // 2 - 450, 30)
    assert result.failures_to_acquire == 0
    for name, value in {"eer": result.eer, **result.tpr_at_fpr}.items():
        low, high = result.intervals[name]
        assert low <= value <= high
        assert high - low < 0.5
    assert 1e-2 < result.far_upper_95["1e-2"] < 0.05
    assert (result.far_upper_95["1e-3"], result.far_upper_95["1e-4"]) == (None, None)  # need 3,000 pairs of people


def test_separated_people_are_verified_without_an_error(encoder):
    result = evaluate_verification(encoder, made_of(10, 4, noise=1))
    assert result.eer == 0.0
    assert result.tpr_at_fpr == {"1e-2": 1.0, "1e-3": 1.0, "1e-4": 1.0, "1e-5": 1.0}
    # ten people without an error are no proof that there is none: each counts once
    least = 1 / (1 + 2.262**2 / 10)
    assert result.intervals["eer"] == pytest.approx((0.0, 1 - least), abs=1e-3)
    for name in result.tpr_at_fpr:
        assert result.intervals[name] == pytest.approx((least, 1.0), abs=1e-3)


def test_intervals_cover_the_rate_of_the_population(encoder):
    everybody = evaluate_verification(encoder, made_of(300, 3, noise=70)).eer
    covered = 0
    for seed in range(10):
        low, high = evaluate_verification(encoder, made_of(25, 3, noise=70, seed=seed + 1)).intervals["eer"]
        covered += low <= everybody <= high
    assert covered >= 8


def test_images_without_content_are_left_out_and_counted(encoder):
    people = made_of(6, 4, noise=10)
    blank = people.images.copy()
    blank[[0, 9]] = 200
    result = evaluate_verification(encoder, LabelledImages(blank, people.labels, people.names))
    assert result.failures_to_acquire == 2
    assert result.genuine == 4 * 6 + 2 * 3


@pytest.mark.parametrize(("identities", "images"), [(0, 0), (1, 5), (5, 1)])
def test_verification_without_pairs_is_refused(encoder, identities, images):
    with pytest.raises(ModelError, match="verification needs two identities and two images of one") as refused:
        evaluate_verification(encoder, made_of(identities, images, noise=2))
    assert refused.value.exit_code == 2


def test_images_that_show_nothing_are_counted_by_reason(encoder):
    people = made_of(12, 4, noise=20)
    pixels = people.images.copy()
    pixels[[0, 5, 9]] = 0
    faults = [None] * len(pixels)
    faults[5] = "face_blurred"
    named = LabelledImages(pixels, people.labels, people.names, tuple(faults))
    found = evaluate_verification(encoder, named)
    assert (found.failures_to_acquire, found.failures_by_reason) == (3, {"face_blurred": 1, "no_content": 2})
    with pytest.raises(ModelError, match="1 faults for 48 images"):
        LabelledImages(pixels, people.labels, people.names, (None,))


def test_what_the_gate_refuses_is_left_out_and_judged_apart(encoder):
    people = made_of(30, 4, noise=70)
    faults = [None] * 120
    faults[3] = faults[7] = "face_blurred"
    named = LabelledImages(people.images, people.labels, people.names, tuple(faults))
    found, every = evaluate_verification(encoder, named), evaluate_verification(encoder, people)
    assert (found.images, found.failures_to_acquire, found.failures_by_reason) == (118, 2, {"face_blurred": 2})
    assert found.genuine == 30 * 6 - 2 * 3
    assert (found.ungated.images, found.ungated.failures_to_acquire) == (120, 0)
    assert found.ungated.tpr_at_fpr == every.tpr_at_fpr
    assert every.ungated is None


def test_another_variant_is_judged_beside_on_the_same_images(encoder, section):
    people = made_of(90, 4, noise=70)
    same = evaluate_verification(encoder, people, beside=encoder)
    assert same.beside.tpr_at_fpr == same.tpr_at_fpr
    assert list(same.changes) == ["eer", "1e-2", "1e-3"]  # 90 people support no 1e-4
    for change in same.changes.values():
        assert change.difference == 0.0
        assert 0.0 < change.interval[1] < 0.01
    worse = evaluate_verification(make_encoder(section, ConstantModel), people, beside=encoder)
    assert worse.changes["1e-2"].difference == pytest.approx(worse.tpr_at_fpr["1e-2"] - same.tpr_at_fpr["1e-2"])
    assert worse.changes["1e-2"].interval[1] < 0.0


def test_results_print_as_json_with_the_keys_of_the_design(encoder):
    people = made_of(12, 4, noise=20)
    (episodes,) = evaluate_episodes(encoder, people, protocol="random", ways=[5], episodes=20, seed=0)
    printed = json.loads(json.dumps(dataclasses.asdict(episodes), allow_nan=False))
    assert list(printed) == [*KEYS, *ORIGIN, "chance", "pixel_accuracy", "passed_over"]
    assert len(printed["interval"]) == 2
    printed = json.loads(json.dumps(dataclasses.asdict(evaluate_verification(encoder, people)), allow_nan=False))
    counts = ["genuine", "impostor", "people", "images", "failures_to_acquire", "failures_by_reason"]
    more = ["passed_over", "beside", "changes", "ungated"]
    assert list(printed) == ["eer", "tpr_at_fpr", "intervals", "far_upper_95", "roc", *counts, *ORIGIN, *more]
    assert list(printed["tpr_at_fpr"]) == list(printed["far_upper_95"]) == ["1e-2", "1e-3", "1e-4", "1e-5"]
    assert printed["roc"][0].keys() == {"far", "tpr", "interval"}

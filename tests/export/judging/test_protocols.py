"""Episodes, pairs and trials: who is compared with whom, checked against naive loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_oneshot_device.matching.decision import join, scores
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.judging.protocols import (
    Episodes,
    LabelledImages,
    gallery_trials,
    genuine_and_impostor,
    one_shot,
    one_shot_episodes,
)
from edge_oneshot_export.judging.verification import verification_rates
from tests.raising import raises


def alphabets(sizes=(6, 9, 14), drawings=4):
    """Labels, groups and drawers of characters that each drawer drew once, in a mixed order."""
    characters = sum(sizes)
    labels = np.repeat(np.arange(characters), drawings)
    groups = np.repeat(np.arange(len(sizes)), np.array(sizes) * drawings)
    drawers = np.tile(np.arange(drawings), characters)
    order = np.random.default_rng(5).permutation(len(labels))
    return labels[order], groups[order], drawers[order]


def unit(*shape, seed=0):
    vectors = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@given(seed=st.integers(0, 2**31), ways=st.integers(2, 9), grouped=st.booleans(), drawn=st.booleans())
@settings(max_examples=60)
def test_an_episode_asks_for_one_of_n_identities_with_another_image_of_it(seed, ways, grouped, drawn):
    labels, groups, drawers = alphabets()
    tasks = one_shot_episodes(
        labels, ways, 40, seed, groups=groups if grouped else None, drawers=drawers if drawn else None
    )
    assert tasks.support.shape == (40, ways)
    assert all(len(set(row)) == ways for row in labels[tasks.support])
    answers = tasks.support[np.arange(40), tasks.answer]
    assert (labels[answers] == labels[tasks.query]).all()
    assert (answers != tasks.query).all()
    if grouped:
        assert all(len(set(row)) == 1 for row in groups[tasks.support])
    if drawn:
        assert all(len(set(row)) == 1 for row in drawers[tasks.support])
        assert (drawers[tasks.query] != drawers[tasks.support[:, 0]]).all()


def test_the_same_seed_gives_the_same_episodes_and_another_one_others():
    labels, groups, drawers = alphabets()
    first, again, other = (one_shot_episodes(labels, 5, 30, seed, groups=groups, drawers=drawers) for seed in (1, 1, 2))
    assert (first.support == again.support).all()
    assert (first.query == again.query).all()
    assert (first.answer == again.answer).all()
    assert (first.support != other.support).any()


def test_alphabets_smaller_than_n_are_skipped_and_the_others_equally_likely():
    labels, groups, drawers = alphabets()
    tasks = one_shot_episodes(labels, 8, 4000, 0, groups=groups, drawers=drawers)
    asked = np.bincount(groups[tasks.query], minlength=3)
    assert asked[0] == 0
    assert asked[1] == pytest.approx(2000, abs=150)


def test_characters_drawers_and_positions_are_equally_likely():
    labels, groups, drawers = alphabets(sizes=(10,))
    tasks = one_shot_episodes(labels, 5, 6000, 3, groups=groups, drawers=drawers)
    for shown in (labels[tasks.query], tasks.answer, drawers[tasks.query], drawers[tasks.support[:, 0]]):
        counts = np.bincount(shown)
        expected = 6000 / len(counts)
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    first_column = np.bincount(labels[tasks.support[:, 0]])
    assert np.abs(first_column - 600).max() < 125


def test_no_alphabet_of_n_characters_is_refused():
    labels, groups, drawers = alphabets()
    with raises(ModelError, match="15-way episodes need 15", reason="too_few_identities"):
        one_shot_episodes(labels, 15, 10, 0, groups=groups, drawers=drawers)
    assert one_shot_episodes(labels, 15, 10, 0).support.shape == (10, 15)


@pytest.mark.parametrize(("ways", "episodes"), [(1, 10), (5, 0)])
def test_episodes_without_a_choice_are_refused(ways, episodes):
    with pytest.raises(ModelError, match="at least 2 and 1 are needed"):
        one_shot_episodes(alphabets()[0], ways, episodes, 0)


def test_an_identity_with_one_image_is_never_asked_for():
    labels = np.array([0, 0, 1, 1, 2, 2, 3])
    tasks = one_shot_episodes(labels, 3, 200, 0)
    assert 6 not in tasks.support
    assert 6 not in tasks.query
    with pytest.raises(ModelError, match="4-way"):
        one_shot_episodes(labels, 4, 1, 0)


def test_a_character_by_one_drawer_only_is_never_asked_for():
    labels = np.array([0, 0, 1, 1, 2, 2])
    drawers = np.array([0, 1, 0, 1, 0, 0])
    tasks = one_shot_episodes(labels, 2, 200, 0, drawers=drawers)
    assert set(labels[tasks.support].ravel()) == {0, 1}


def test_an_identity_in_two_groups_is_refused():
    with pytest.raises(ModelError, match="two groups"):
        one_shot_episodes(np.array([0, 0, 1, 1]), 2, 1, 0, groups=np.array([0, 1, 0, 0]))


def test_groups_of_another_length_are_refused():
    with pytest.raises(ModelError, match="groups of shape"):
        one_shot_episodes(np.array([0, 0, 1, 1]), 2, 1, 0, groups=np.array([0]))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_nearest_support_image_wins(metric):
    embeddings = unit(200, 6)
    labels = np.repeat(np.arange(50), 4)
    tasks = one_shot_episodes(labels, 7, 300, 0)
    correct = one_shot(embeddings, tasks, metric)
    for row in range(300):
        alike = scores(embeddings[tasks.query[row]], embeddings[tasks.support[row]], metric)
        assert correct[row] == (alike.argmax() == tasks.answer[row])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("place", [0, 4, None])
def test_a_collapsed_encoder_scores_at_chance_wherever_the_answer_stands(metric, place):
    labels = np.repeat(np.arange(30), 4)
    tasks = one_shot_episodes(labels, 5, 4000, 0)
    if place is not None:
        tasks = Episodes(tasks.support, tasks.query, np.full(4000, place))
    same = np.tile(unit(1, 8), (len(labels), 1))
    assert one_shot(same, tasks, metric).mean() == pytest.approx(0.2, abs=0.03)


def test_a_tie_of_two_is_won_half_the_time():
    embeddings = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], dtype=np.float32)
    tasks = Episodes(np.tile([0, 1, 2], (2000, 1)), np.full(2000, 3), np.zeros(2000, dtype=np.int64))
    assert one_shot(embeddings, tasks, "cosine").mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_all_pairs_are_scored_once_as_the_device_scores_them(metric):
    embeddings, labels = unit(40, 8), np.random.default_rng(0).integers(0, 7, 40)
    pairs = genuine_and_impostor(embeddings, labels, metric)
    found = {}
    for values, places, same in (
        (pairs.genuine, pairs.genuine_pairs, True),
        (pairs.impostor, pairs.impostor_pairs, False),
    ):
        for value, (one, other) in zip(values, places, strict=True):
            assert (labels[one] == labels[other]) == same
            found[one, other] = value
    assert sorted(found) == [(one, other) for one in range(40) for other in range(one + 1, 40)]
    for (one, other), value in found.items():
        assert value == pytest.approx(scores(embeddings[one], embeddings[other : other + 1], metric)[0], abs=1e-6)


def test_too_many_impostor_pairs_are_sampled_and_all_genuine_ones_kept():
    embeddings, labels = unit(300, 4), np.repeat(np.arange(100), 3)
    every = genuine_and_impostor(embeddings, labels, "cosine")
    some = genuine_and_impostor(embeddings, labels, "cosine", seed=1, limit=10_000)
    assert len(every.genuine) == len(some.genuine) == 300
    assert len(every.impostor) == 300 * 299 // 2 - 300
    assert len(some.impostor) == pytest.approx(10_000, rel=0.05)
    assert len(np.unique(some.impostor_pairs, axis=0)) == len(some.impostor)
    assert some.impostor.mean() == pytest.approx(every.impostor.mean(), abs=0.02)


@pytest.mark.parametrize("templates", [1, 3])
def test_trials_compare_every_probe_with_every_person_as_the_device_does(templates):
    embeddings = unit(60, 16)
    people = [np.arange(start, start + 6) for start in range(0, 60, 6)]
    trials = gallery_trials(embeddings, people, templates, "cosine", np.random.default_rng(0), comparisons=2000)["best"]
    assert trials.joined.shape == (len(trials.owners), 10)
    assert (np.diff(trials.owners) >= 0).all()
    probes = (6 - templates) * 10
    assert len(trials.owners) == probes * min(2000 // (probes * 10), 6)
    # a template is never its own probe: that would score 1
    assert trials.genuine.max() < 0.999
    assert len(trials.impostor) == len(trials.owners) * 9
    # each score is that of the best of some templates of the person
    for row, owner in zip(trials.joined[:20], trials.owners[:20], strict=True):
        possible = [scores(embeddings[probe], embeddings, "cosine") for probe in people[owner]]
        for person, score in enumerate(row):
            assert min(np.abs(alike[people[person]] - score).min() for alike in possible) < 1e-6


def test_one_gallery_of_two_people_is_what_a_hand_makes_of_it():
    embeddings = np.array([[1, 0], [0.6, 0.8], [0, 1], [0.8, 0.6]], dtype=np.float32)
    people = [np.array([0, 1]), np.array([2, 3])]
    trials = gallery_trials(embeddings, people, 1, "cosine", np.random.default_rng(0), comparisons=1)["best"]
    possible = []
    for first in (0, 1):
        for second in (2, 3):
            gallery = embeddings[[first, second]]
            rows = [
                join(scores(embeddings[probe], gallery, "cosine"), np.array([0, 1]), 2)
                for probe in (1 - first, 5 - second)
            ]
            possible.append(np.stack(rows))
    assert any(np.allclose(trials.joined, rows) for rows in possible)
    assert trials.owners.tolist() == [0, 1]


def test_more_people_than_comparisons_still_get_a_probe_each():
    people = [np.arange(start, start + 4) for start in range(0, 40, 4)]
    trials = gallery_trials(unit(40, 8), people, 1, "cosine", np.random.default_rng(0), comparisons=20)["best"]
    assert np.bincount(trials.owners).tolist() == [1] * 10


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("rule", ["best", "mean"])
def test_trials_join_templates_as_the_device_does(rule, metric):
    embeddings = unit(24, 16)
    people = [np.arange(start, start + 4) for start in range(0, 24, 4)]

    class InOrder:
        """A generator that leaves everything where it is: the first three images become the templates."""

        def permutation(self, values):
            return values

    trials = gallery_trials(embeddings, people, 3, metric, InOrder(), comparisons=1)[rule]
    gallery = np.concatenate([embeddings[own[:3]] for own in people])
    expected = [
        join(scores(embeddings[own[3]], gallery, metric), np.repeat(np.arange(6), 3), 6, rule) for own in people
    ]
    np.testing.assert_allclose(trials.joined, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "labels", "names", "reason"),
    [
        (np.zeros((2, 8, 8), np.uint8), np.zeros(2, int), ("a",), "bad_images"),
        (np.zeros((2, 8, 8, 1), np.float32), np.zeros(2, int), ("a",), "bad_images"),
        (np.zeros((2, 8, 8, 1), np.uint8), np.zeros(3, int), ("a",), "bad_labels"),
        (np.zeros((2, 8, 8, 1), np.uint8), np.zeros(2), ("a",), "bad_labels"),
        (np.zeros((2, 8, 8, 1), np.uint8), np.array([0, 1]), ("a",), "bad_labels"),
        (np.zeros((2, 8, 8, 1), np.uint8), np.array([-1, 0]), ("a",), "bad_labels"),
    ],
)
def test_labelled_images_that_do_not_fit_are_refused(images, labels, names, reason):
    with raises(ModelError, reason=reason) as refused:
        LabelledImages(images, labels, names)
    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)


def test_the_highest_of_many_impostor_pairs_are_all_there_and_a_sample_stands_for_the_rest():
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((600, 8)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    labels = np.repeat(np.arange(200), 3)
    every = genuine_and_impostor(embeddings, labels, "cosine")
    some = genuine_and_impostor(embeddings, labels, "cosine", limit=20_000, highest=10_000)
    assert some.impostors == len(every.impostor) == 179_100
    assert 15_000 < len(some.impostor) < 25_000
    assert some.genuine.tolist() == every.genuine.tolist()
    whole, part = verification_rates(every, labels), verification_rates(some, labels)
    assert part.tpr_at_fpr == whole.tpr_at_fpr
    for name in ("1e-2", "1e-3"):
        assert part.far_upper_95[name] == pytest.approx(whole.far_upper_95[name], rel=0.03)
    for name, interval in whole.intervals.items():
        assert part.intervals[name] == pytest.approx(interval, abs=2e-3)
    assert part.eer == pytest.approx(whole.eer, abs=3e-3)

"""Verification in folds: thresholds come from the other folds, and what shows nothing is an error."""

import msgspec
import numpy as np
import pytest

from edge_oneshot_device.bundle.manifest import EmbeddingSection, TensorSpec
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.fake import FakeModel
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.judging.folds import FoldedPairs, best_threshold, evaluate_folds
from tests.raising import raises


def floats(*values):
    return np.array(values, np.float32)


def test_the_best_threshold_lies_in_the_middle_of_the_gap():
    assert best_threshold(floats(0.7, 0.9), floats(0.1, 0.3)) == pytest.approx(0.5)


def test_of_several_the_one_with_the_most_room_is_taken():
    # at 0.15 an impostor pair is wrong, at 0.8 a genuine one
    assert best_threshold(floats(0.2, 0.9), floats(0.1, 0.7)) == pytest.approx(0.8)


@pytest.fixture
def pairs():
    """Two folds of two pairs of a kind, of eight images: those of a pair lie side by side."""
    pairs = np.arange(16).reshape(8, 2)
    same = np.array([True, True, False, False] * 2)
    return pairs, same, np.repeat([0, 1], 4)


class FirstPixel(FakeModel):
    """Says how light the first pixel is."""

    def run(self, values):
        return np.array([[values.ravel()[0], 0.0]], np.float32)


@pytest.fixture
def judged(section, pairs):
    """Judges images of one level each; every other argument as it is left or given."""
    small = msgspec.structs.replace(section, height=8, width=8)
    model = FirstPixel(TensorSpec(dtype="float32", shape=(1, 8, 8, 1)), TensorSpec(dtype="float32", shape=(1, 2)))
    encoder = Encoder(model, small, EmbeddingSection(size=2, metric="euclidean"), variant="float32", fingerprint="f")

    def judge(shown, apart=APART, folds=pairs[2], faults=(None,) * 16):
        levels = np.array([level for distance in apart for level in (0, distance)], np.uint8)
        images = np.tile(levels[:, np.newaxis, np.newaxis, np.newaxis], (1, 8, 8, 1))
        return evaluate_folds(encoder, FoldedPairs(images, shown, faults, *pairs[:2], folds, people=8))

    return judge


# so many levels the second image of each pair lies from the first
APART = (10, 20, 100, 110, 10, 30, 90, 20)


def test_each_fold_is_judged_at_the_threshold_of_the_other(judged):
    found = judged(np.ones(16, bool))
    # each at 60 levels, where the last pair of the second is taken for one of the same person
    assert found.folds == [1.0, 0.75]
    assert found.accuracy == found.accuracy_acquired == 0.875
    assert found.standard_error == pytest.approx(0.125)
    assert (found.genuine, found.impostor, found.people) == (4, 4, 8)


def test_a_pair_that_shows_nothing_is_an_error(judged):
    shown = np.ones(16, bool)
    shown[0] = shown[5] = False  # one of a genuine pair, one of an impostor pair
    found = judged(shown)
    assert found.folds == [0.5, 0.75]
    assert found.accuracy_acquired == 0.875
    assert (found.failures_to_acquire, found.pairs_lost) == (2, 2)


def test_rates_that_the_pairs_do_not_support_are_not_given(judged):
    assert judged(np.ones(16, bool)).tpr_at_fpr == {}


def test_a_genuine_pair_that_shows_nothing_is_rejected(judged):
    shown = np.ones(16, bool)
    before = judged(shown, (10, 10, 100, 100) * 2)
    shown[0] = False
    after = judged(shown, (10, 10, 100, 100) * 2)
    assert before.eer == 0.0
    assert 0.0 < after.eer <= 0.25


def test_one_fold_has_no_other_to_take_a_threshold_from(judged):
    with raises(ModelError, match="1 folds: at least 2 are needed", reason="bad_protocol"):
        judged(np.ones(16, bool), folds=np.zeros(8, int))


def test_a_fold_of_which_nothing_is_shown_is_refused(judged):
    shown = np.ones(16, bool)
    shown[:8] = False
    with raises(ModelError, match="fold 1: too few pairs have content", reason="too_few_people"):
        judged(shown)


def test_the_gate_counts_what_it_refuses_and_leaves_it_out(judged):
    faults = [None] * 16
    faults[14] = "face_blurred"  # in the pair of the second fold that is taken for one of the same person
    found = judged(np.ones(16, bool), faults=tuple(faults))
    assert (found.accuracy, found.refused) == (0.875, {"face_blurred": 1})
    assert (found.gated.accuracy, found.gated.accuracy_acquired, found.gated.pairs_lost) == (0.875, 1.0, 1)
    assert judged(np.ones(16, bool)).gated is None

from contextlib import closing

import numpy as np

from edge_oneshot.data.loading import default_input
from edge_oneshot.training.augmentation import DRAWINGS, PHOTOS
from edge_oneshot.training.batches import batches, classes_of, make_batch

SECTION = default_input("glyphs", 24)


def test_a_batch_is_a_function_of_seed_and_step(glyphs):
    first = make_batch(glyphs, SECTION, DRAWINGS, size=8, seed=1, step=5)
    again = make_batch(glyphs, SECTION, DRAWINGS, size=8, seed=1, step=5)
    other = make_batch(glyphs, SECTION, DRAWINGS, size=8, seed=2, step=5)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])
    assert first[0].shape == (8, 24, 24, 1)
    assert first[0].dtype == np.float32
    assert first[0].min() >= 0.0
    assert first[0].max() <= 1.0


def test_the_stream_starts_at_any_step(glyphs):
    with closing(batches(glyphs, SECTION, DRAWINGS, size=8, seed=1, first=3)) as stream:
        for step in (3, 4, 5):
            images, classes = next(stream)
            expected = make_batch(glyphs, SECTION, DRAWINGS, size=8, seed=1, step=step)
            assert np.array_equal(images, expected[0])
            assert np.array_equal(classes, expected[1])


def test_every_image_comes_once_before_any_comes_again(glyphs):
    few = glyphs.only(glyphs.group_names[:1])
    total = len(few.labels)
    labels = np.concatenate(
        [make_batch(few, SECTION, PHOTOS, size=total // 4, seed=0, step=step)[1] for step in range(4)]
    )
    assert np.array_equal(np.bincount(labels), np.bincount(few.labels))


def test_quarter_turns_are_classes_of_their_own(glyphs):
    assert classes_of(glyphs, DRAWINGS) == 4 * len(glyphs.identities)
    assert classes_of(glyphs, PHOTOS) == len(glyphs.identities)
    _, classes = make_batch(glyphs, SECTION, DRAWINGS, size=400, seed=0, step=0)
    assert set(classes % 4) == {0, 1, 2, 3}
    assert classes.max() < classes_of(glyphs, DRAWINGS)

import dataclasses
from contextlib import closing

import numpy as np
import pytest

from edge_oneshot.data.loading import default_input
from edge_oneshot.training.augmentation import DRAWINGS, PHOTOS
from edge_oneshot.training.batches import Source, batches

SECTION = default_input("glyphs", 24)
MIRRORED = dataclasses.replace(DRAWINGS, orientations=8)


@pytest.fixture
def source(glyphs):
    return Source(glyphs, SECTION, MIRRORED, size=8, seed=1)


def test_a_batch_is_a_function_of_seed_and_step(source):
    first, again = source.batch(5), source.batch(5)
    other = dataclasses.replace(source, seed=2).batch(5)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])
    assert first[0].shape == (8, 24, 24, 1)
    assert first[0].dtype == np.float32
    assert first[0].min() >= 0.0
    assert first[0].max() <= 1.0


def test_the_stream_starts_at_any_step(source):
    with closing(batches(source, first=3)) as stream:
        for step in (3, 4, 5):
            images, classes = next(stream)
            expected = source.batch(step)
            assert np.array_equal(images, expected[0])
            assert np.array_equal(classes, expected[1])


def test_every_image_comes_once_before_any_comes_again(glyphs):
    few = glyphs.only(glyphs.group_names[:1])
    source = Source(few, SECTION, PHOTOS, size=len(few.labels) // 4, seed=0)
    labels = np.concatenate([source.batch(step)[1] for step in range(4)])
    assert np.array_equal(np.bincount(labels), np.bincount(few.labels))


def test_orientations_are_classes_of_their_own(glyphs, source):
    assert source.classes == 8 * len(glyphs.identities)
    assert dataclasses.replace(source, augmentation=PHOTOS).classes == len(glyphs.identities)
    _, classes = dataclasses.replace(source, size=400).batch(0)
    assert set(classes % 8) == set(range(8))
    assert classes.max() < source.classes


@pytest.mark.parametrize("size", [32, 30])
def test_images_of_a_class_come_together_with_others_of_its_alphabet(glyphs, size):
    source = Source(glyphs, SECTION, MIRRORED, size=size, seed=0, images_per_class=4)
    _, classes = source.batch(0)
    assert len(classes) == size
    groups = classes.reshape(-1, 4)[: size // 4] if size % 4 == 0 else classes[: size // 4 * 4].reshape(-1, 4)
    assert (groups == groups[:, :1]).all()
    together = groups[:8, 0]
    assert len(set(together)) == len(together)
    assert len(set(together % 8)) == 1  # one orientation
    alphabets = glyphs.groups[np.searchsorted(glyphs.labels, together // 8)]
    assert len(set(alphabets)) == 1


def test_people_of_a_folder_who_are_groups_of_their_own_come_together_too(glyphs):
    people = dataclasses.replace(glyphs, groups=glyphs.labels, group_names=glyphs.identities)
    _, classes = Source(people, SECTION, PHOTOS, size=32, seed=0, images_per_class=2).batch(0)
    assert len(set(classes)) == 16


def test_fewer_identities_than_a_batch_holds_come_again(glyphs):
    three = glyphs.only(glyphs.group_names[:1])
    three = three._take(three.labels < 3)
    _, classes = Source(three, SECTION, PHOTOS, size=32, seed=0, images_per_class=4).batch(0)
    assert set(classes) == {0, 1, 2}


def test_workers_make_equal_parts_of_the_same_batch(source):
    whole = source.batch(2)
    parts = [dataclasses.replace(source, part=(number, 2)).batch(2) for number in (0, 1)]
    assert np.array_equal(np.concatenate([classes for _, classes in parts]), whole[1])
    assert [len(images) for images, _ in parts] == [4, 4]

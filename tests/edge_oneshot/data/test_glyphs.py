"""Made-up alphabets: always the same for a seed, distinct, legible, and not too easy."""

import msgspec
import numpy as np
import pytest

from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.glyphs import draw_alphabet, load_glyphs
from edge_oneshot.data.loading import default_input, load_data
from edge_oneshot_export.judging.protocols import one_shot, one_shot_episodes

SECTION = default_input("glyphs")
SMALL = default_input("glyphs", size=24)


@pytest.fixture(scope="module")
def glyphs() -> Dataset:
    return load_data("glyphs", SECTION)


def test_the_glyphs_are_laid_out_as_omniglot_is(glyphs: Dataset) -> None:
    assert glyphs.name == "glyphs"
    assert glyphs.images.shape == (24 * 20 * 20, 48, 48, 1)
    assert (len(glyphs.identities), len(glyphs.group_names)) == (480, 24)
    assert glyphs.identities[21] == "alphabet02/character02"
    assert np.bincount(glyphs.labels).tolist() == [20] * 480
    assert np.bincount(glyphs.groups).tolist() == [400] * 24
    alphabets = [glyphs.identities[label].split("/")[0] for label in glyphs.labels]
    assert alphabets == [glyphs.group_names[group] for group in glyphs.groups]
    assert glyphs.drawers is not None
    assert glyphs.drawers.reshape(480, 20).tolist() == [list(range(1, 21))] * 480
    assert glyphs.labels.dtype == glyphs.groups.dtype == glyphs.drawers.dtype == np.int64


def test_a_seed_draws_the_same_however_many_alphabets_are_asked_for(glyphs: Dataset) -> None:
    calls: list[tuple[int, int]] = []
    first = load_glyphs(SECTION, alphabets=2, progress=lambda done, total: calls.append((done, total)))
    np.testing.assert_array_equal(first.images, glyphs.images[:800])
    assert first.identities == glyphs.identities[:40]
    assert calls == [(400, 800), (800, 800)]


def test_another_seed_draws_other_alphabets() -> None:
    one, other = (load_glyphs(SMALL, alphabets=1, seed=seed).images for seed in (0, 1))
    assert (one != other).any(axis=(1, 2, 3)).mean() > 0.99


def test_these_are_the_drawings_that_the_published_figures_come_from() -> None:
    # within a little: how OpenCV smooths a line, and the last bit of a cosine, differ between builds
    ink = (draw_alphabet(0) == 0).sum((2, 3)).mean(1)
    np.testing.assert_allclose(ink[:5], [753.05, 863.75, 658.2, 876.5, 886.55], rtol=0.02)


def test_drawings_are_black_on_white_with_a_margin_and_never_empty() -> None:
    drawings = draw_alphabet(3)
    assert drawings.shape == (20, 20, 105, 105)
    assert np.unique(drawings).tolist() == [0, 255]
    ink = (drawings == 0).sum((2, 3))
    assert ink.min() > 40
    assert ink.max() < 105 * 105 / 4
    for edge in (drawings[..., 0], drawings[..., -1], drawings[..., 0, :], drawings[..., -1, :]):
        assert (edge == 255).all()


def test_every_drawing_has_the_contrast_that_its_input_asks_for(glyphs: Dataset) -> None:
    assert np.ptp(glyphs.images, axis=(1, 2, 3)).min() > 4 * SECTION.min_contrast


def test_no_drawing_comes_twice(glyphs: Dataset) -> None:
    assert len(np.unique(glyphs.images.reshape(len(glyphs.images), -1), axis=0)) == len(glyphs.images)


def test_pixels_tell_characters_apart_far_better_than_chance_and_far_from_well(glyphs: Dataset) -> None:
    # Omniglot's background set gives 0.50 with the same code; chance is 0.05
    episodes = one_shot_episodes(glyphs.labels, 20, 2000, 0, groups=glyphs.groups, drawers=glyphs.drawers)
    pixels = glyphs.images.reshape(len(glyphs.images), -1).astype(np.float32)
    assert 0.2 < one_shot(pixels, episodes, "euclidean").mean() < 0.6


def test_characters_of_an_alphabet_are_distinct_shapes(glyphs: Dataset) -> None:
    # what a drawing's pixels do not tell, half the drawers' mean tells of the other half's
    pixels = glyphs.images.reshape(24, 20, 20, -1).astype(np.float32)
    one, other = pixels[:, :, :10].mean(2), pixels[:, :, 10:].mean(2)
    distances = np.linalg.norm(one[:, :, None] - other[:, None], axis=-1)
    assert (distances.argmin(2) == np.arange(20)).mean() > 0.98


def test_drawers_have_a_hand_of_their_own() -> None:
    # the size of a drawer's characters varies less than sizes do between drawers
    drawings = draw_alphabet(5) == 0
    heights = drawings.any(3).sum(2) / drawings.any(3).sum(2).mean(1, keepdims=True)
    assert heights.mean(0).std() > 2 * (heights - heights.mean(0)).std() / np.sqrt(20)


def test_glyphs_are_prepared_by_the_devices_preprocessing() -> None:
    colour = msgspec.structs.replace(SMALL, colour="rgb", mean=(0.0,) * 3, scale=(1.0,) * 3)
    images = load_glyphs(colour, alphabets=1).images
    assert images.shape == (400, 24, 24, 3)
    np.testing.assert_array_equal(images[..., :1], load_glyphs(SMALL, alphabets=1).images)

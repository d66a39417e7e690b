import dataclasses

import numpy as np
import pytest

from edge_oneshot.training.augmentation import DRAWINGS, PHOTOS, Augmentation, augment

STILL = dataclasses.replace(DRAWINGS, degrees=0.0, zoom=0.0, shear=0.0, shift=0.0, elastic=0.0, stroke=0.0)


def vary(image: np.ndarray, how: Augmentation, seed: int, orientation: int = 0) -> np.ndarray:
    return augment(image[None], np.array([orientation]), how, np.random.default_rng(seed))[0]


def drawing() -> np.ndarray:
    image = np.full((64, 64, 1), 255, np.uint8)
    image[20:44, 30:34] = 0
    return image


def test_without_variation_an_image_is_averaged_down_to_half_its_size():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 1)).astype(np.uint8)
    expected = image.reshape(32, 2, 32, 2).mean((1, 3))
    assert np.abs(vary(image, STILL, 0)[..., 0] - expected).max() <= 0.5


@pytest.mark.parametrize("orientation", range(8))
def test_an_orientation_is_a_quarter_turn_of_the_image_or_of_its_mirror_image(orientation):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 1)).astype(np.uint8)
    upright = vary(image, STILL, 0)
    mirrored = upright[:, ::-1] if orientation >= 4 else upright
    turned = vary(image, STILL, 0, orientation)
    matches = [k for k in range(4) if np.abs(np.rot90(mirrored, k).astype(int) - turned).max() <= 1]
    assert matches == [-orientation % 4 if orientation >= 4 else orientation]


def ink(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns from the first to the last that are drawn on, as their middle and extent."""
    places = np.argwhere(image[..., 0] < 128)
    return (places.min(0) + places.max(0)) / 2, np.ptp(places, axis=0) + 1


def test_from_the_ninth_orientation_on_a_drawing_is_turned_by_45_degrees_and_framed_anew():
    how = dataclasses.replace(STILL, orientations=16)
    upright, turned = vary(drawing(), how, 0), vary(drawing(), how, 0, 8)
    (before, upright_extent), (after, turned_extent) = ink(upright), ink(turned)
    assert tuple(upright_extent) == (12, 2)
    # the diagonal's box would be framed at 12, its mass, which spreads as before, at 8.5
    assert tuple(turned_extent) == (10, 10)
    assert np.abs(before - after).max() <= 0.5


def test_images_of_a_batch_vary_each_in_its_own_way():
    images = np.repeat(drawing()[None], 8, axis=0)
    varied = augment(images, np.zeros(8, np.int64), DRAWINGS, np.random.default_rng(0))
    assert len(np.unique(varied.reshape(8, -1), axis=0)) == 8


def test_the_same_state_gives_the_same_variation_and_another_state_another():
    first, again, other = (vary(drawing(), DRAWINGS, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_stroke_width_both_grows_and_shrinks():
    how = dataclasses.replace(STILL, stroke=1.0)
    still = (255.0 - vary(drawing(), STILL, 0)).sum()
    ink = [(255.0 - vary(drawing(), how, seed)).sum() for seed in range(40)]
    assert min(ink) < still < max(ink)


def test_what_a_drawing_is_shifted_away_from_is_paper():
    how = dataclasses.replace(STILL, shift=0.3)
    image = np.zeros((64, 64, 1), np.uint8)  # all ink: whatever comes in from outside shows
    corners = [vary(image, how, seed) for seed in range(20)]
    assert max(int(corner.max()) for corner in corners) == 255


def test_a_photo_goes_on_at_its_edges():
    how = dataclasses.replace(PHOTOS, light=0.0, mirror=False)
    image = np.full((64, 64, 3), 90, np.uint8)
    assert np.array_equal(vary(image, how, 3), np.full((32, 32, 3), 90, np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
def test_photos_vary_in_light_and_stay_in_range(channels):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, channels)).astype(np.uint8)
    means = [vary(image, PHOTOS, seed).mean() for seed in range(20)]
    assert max(means) - min(means) > 20
    assert vary(image, PHOTOS, 0).shape == (32, 32, channels)

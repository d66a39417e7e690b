"""Boxes, points and chips: what needs no net."""

import numpy as np
import pytest
from PIL import Image

from edge_oneshot_device.faces.alignment import cut_chip, cut_square, similarity_transform
from edge_oneshot_device.faces.detection import Detection, anchors, logistic, overlaps, suppress


def box(left, upper, right, lower):
    return np.array([(left, upper), (right, lower)], dtype=float)


def test_the_short_range_has_two_anchors_a_cell_of_8_pixels_and_six_of_16():
    centres = anchors("blazeface-short")
    assert centres.shape == (896, 2)
    assert centres[0].tolist() == centres[1].tolist() == [4, 4]
    assert centres[2].tolist() == [12, 4]  # x first
    assert centres[512].tolist() == centres[517].tolist() == [8, 8]


def test_the_full_range_has_one_anchor_a_cell_of_4_pixels():
    centres = anchors("blazeface-full")
    assert centres.shape == (2304, 2)
    assert centres[-1].tolist() == [190, 190]


def test_the_logistic_function_does_not_overflow():
    assert logistic(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


def test_an_overlap_is_the_intersection_over_the_union():
    found = overlaps(box(0, 0, 2, 2), np.stack([box(0, 0, 2, 2), box(1, 0, 3, 2), box(5, 5, 6, 6)]))
    assert found == pytest.approx([1.0, 1 / 3, 0.0])


def test_boxes_that_overlap_become_their_mean_weighted_by_their_scores():
    points = np.stack([box(0, 0, 10, 10), box(2, 0, 12, 10), box(50, 50, 60, 60), box(0, 0, 10, 10)])
    (first, found), (second, other) = suppress(np.array([0.6, 0.9, 0.7, 0.4]), points, 0.5, 0.3)
    assert (first, second) == (0.9, 0.7)
    assert found == pytest.approx(box(1.2, 0, 11.2, 10))
    assert other == pytest.approx(box(50, 50, 60, 60))


def test_an_empty_box_is_no_face():
    assert suppress(np.array([0.9]), box(5, 5, 5, 9)[np.newaxis], 0.5, 0.3) == []


def test_the_eye_distance_is_that_of_the_first_two_points():
    assert (
        Detection(0.9, box(0, 0, 9, 9), np.array([(1, 1), (4, 5), (0, 0), (0, 0), (0, 0), (0, 0)], float)).eye_distance
        == 5
    )


def test_a_similarity_transform_is_found_again():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5, 2))
    turn = 1.7 * np.array([(np.cos(0.4), -np.sin(0.4)), (np.sin(0.4), np.cos(0.4))])
    matrix = similarity_transform(points, points @ turn.T + (3, -2))
    assert matrix == pytest.approx(np.column_stack([turn, (3, -2)]))


def test_what_no_similarity_explains_is_met_by_least_squares():
    points = np.array([(0, 0), (1, 0), (0, 1)], float)
    places = np.array([(0, 0), (2, 0), (0, 1)], float)
    matrix = similarity_transform(points, places)
    error = points @ matrix[:, :2].T + matrix[:, 2] - places
    for nearby in (1e-3, -1e-3):
        other = matrix + np.array([(nearby, 0, 0), (0, nearby, 0)])  # another scale
        assert np.square(error).sum() < np.square(points @ other[:, :2].T + other[:, 2] - places).sum()


@pytest.fixture(scope="module")
def slope():
    """An image whose colour says where it is: red grows by one a column, green by one a row."""
    rows, columns = np.indices((100, 120))
    return Image.fromarray(np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8))


def test_a_chip_of_the_same_scale_is_a_part_of_the_image(slope):
    chip = cut_chip(slope, np.array([(1.0, 0, -20), (0, 1.0, -30)]), 40, 50)
    assert chip.tolist() == np.asarray(slope)[30:80, 20:60].tolist()


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0])
def test_a_chip_of_another_scale_shows_the_same_place(slope, scale):
    width, height = round(80 * scale), round(64 * scale)
    chip = cut_chip(slope, np.array([(scale, 0, -20 * scale), (0, scale, -30 * scale)]), width, height)
    middle = chip[height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1].mean(axis=(0, 1))
    assert middle == pytest.approx((59.5, 61.5, 0), abs=0.5)  # between two pixels


def test_beyond_the_image_a_chip_is_black(slope):
    chip = cut_chip(slope, np.array([(1.0, 0, 30), (0, 1.0, 0)]), 60, 60)
    assert not chip[:, :29].any()
    assert chip[:, 31:].any()
    assert not cut_chip(slope, np.array([(1.0, 0, 900), (0, 1.0, 0)]), 60, 60).any()


@pytest.mark.parametrize("corner", [(-20.0, -10.0), (10.5, 20.25), (70.0, 60.0)])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_a_square_shows_what_a_chip_of_the_same_place_shows(slope, corner, scale):
    corner = np.array(corner)
    square = cut_square(slope, corner, scale, 64).astype(int)
    chip = cut_chip(slope, np.column_stack([np.eye(2) * scale, -corner * scale]), 64, 64)
    both = (square > 0).any(axis=-1) & (chip > 0).any(axis=-1)
    assert both.sum() > 64
    inner = both & np.roll(both, 3, (0, 1)) & np.roll(both, -3, (0, 1))
    assert np.abs(square - chip)[inner].max() <= 2


def test_a_square_beside_the_image_is_black(slope):
    assert not cut_square(slope, np.array([500.0, 0.0]), 1.0, 64).any()


def test_shrinking_does_not_alias():
    stripes = Image.fromarray((np.indices((400, 400))[1] % 2 * 255).astype(np.uint8)).convert("RGB")
    chip = cut_chip(stripes, np.array([(0.25, 0, 0), (0, 0.25, 0)]), 100, 100)
    assert np.ptp(chip[10:-10, 10:-10]) <= 2

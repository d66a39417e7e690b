"""Boxes, points and chips: what needs no net."""

import numpy as np
import pytest
from PIL import Image

from edge_oneshot_device.faces.alignment import Crop, cut_chip, cut_square, similarity_transform
from edge_oneshot_device.faces.detection import Detection, decode, overlaps, suppress


def box(left, upper, right, lower):
    return np.array([(left, upper), (right, lower)], dtype=float)


def test_a_cell_is_decoded_by_its_grid():
    raw = np.zeros((64 * 96 // 64 + 4 * 6 + 2 * 3, 16), np.float32)  # of an input of 96 x 64 pixels
    raw[12 + 3, :6] = 0.81, 1.2, 0.5, 0.25, np.log(2), np.log(3)  # second row, fourth cell of 8 pixels
    raw[12 * 8 + 6 + 2, :6] = 0.49, 1.0, 0.0, 0.0, 0.0, 0.0  # second row, third cell of 16 pixels
    raw[12 * 8 + 24 + 5, :6] = 1.0, 1.0, 0.0, 0.0, 0.0, 0.0  # the last cell of 32 pixels
    raw[12 * 8 + 24 + 5, 6:] = np.arange(10) / 10
    small, middle, large = decode(raw, 64, 96, 0.5)
    assert [small.score, middle.score, large.score] == pytest.approx([0.9, 0.7, 1.0])
    assert small.box == pytest.approx(box(28 - 8, 10 - 12, 28 + 8, 10 + 12))
    assert middle.box == pytest.approx(box(32 - 8, 16 - 8, 32 + 8, 16 + 8))
    assert large.points == pytest.approx(32 * (np.arange(10) / 10).reshape(5, 2) + (64, 32))
    assert decode(raw, 64, 96, 0.99) != []
    assert decode(np.zeros_like(raw), 64, 96, 0.5) == []


@pytest.mark.parametrize("value", [-3e38, -1e30, 1e30, 3e38])
def test_no_output_of_the_net_overflows(value):
    raw = np.full((4 * 4 + 2 * 2 + 1, 16), value, np.float32)
    raw[:, :2] = 1.0
    faces = decode(raw, 32, 32, 0.5)
    assert all(np.isfinite(one.box).all() for one in faces)
    assert 1 <= len(suppress(faces, 0.3)) <= len(faces) == 21
    assert 1 <= len(suppress(faces, 0.3, within=True)) <= 21


def test_a_net_that_sees_a_face_in_each_cell_is_taken_by_its_best_cells():
    cells = 128**2 + 64**2 + 32**2
    raw = np.zeros((cells, 16), np.float32)
    raw[:, 4:6] = -1.0  # small boxes, none of which overlap
    raw[:, 0] = np.random.default_rng(0).permutation(np.linspace(0.5, 0.99, cells))
    raw[:, 1] = raw[:, 0]
    faces = decode(raw, 1024, 1024, 0.4)
    best = np.sort(raw[:, 0])[::-1]
    assert sorted((one.score for one in faces), reverse=True) == pytest.approx(best[:1000])
    assert [one.score for one in suppress(faces, 0.3)] == pytest.approx(best[:100])


def test_an_overlap_is_the_intersection_over_the_union():
    found = overlaps(box(0, 0, 2, 2), np.stack([box(0, 0, 2, 2), box(1, 0, 3, 2), box(5, 5, 6, 6)]))
    assert found == pytest.approx([1.0, 1 / 3, 0.0])


def test_a_box_in_a_larger_one_is_the_same_face_if_asked_for():
    found = overlaps(box(0, 0, 4, 4), np.stack([box(1, 1, 2, 2), box(3, 0, 5, 4), box(5, 5, 6, 6)]), within=True)
    assert found == pytest.approx([1.0, 0.5, 0.0])
    faces = [Detection(score, one, one) for score, one in ((0.9, box(0, 0, 4, 4)), (0.8, box(1, 1, 3, 3)))]
    assert suppress(faces, 0.5, within=True) == faces[:1]
    assert suppress(faces, 0.5) == faces


def test_of_boxes_that_overlap_the_one_with_the_highest_score_stays():
    boxes = box(0, 0, 10, 10), box(2, 0, 12, 10), box(50, 50, 60, 60), box(52, 50, 62, 60)
    faces = [Detection(score, one, one) for score, one in zip((0.6, 0.9, 0.7, 0.7), boxes, strict=True)]
    assert suppress(faces, 0.3) == [faces[1], faces[2]]
    assert suppress(faces, 0.9) == [faces[1], faces[2], faces[3], faces[0]]
    assert suppress([], 0.3) == []


def test_the_eye_distance_is_that_of_the_first_two_points():
    assert Detection(0.9, box(0, 0, 9, 9), np.array([(1, 1), (4, 5), (0, 0), (0, 0), (0, 0)], float)).eye_distance == 5


def test_the_size_of_a_face_is_that_of_a_head_seen_from_the_front():
    ahead = np.array([(0, 0), (40, 0), (20, 25), (5, 46), (35, 46)], float)
    aside = (ahead - 20) * (0.2, 1.0)
    sizes = [Detection(0.9, box(0, 0, 9, 9), points).size for points in (ahead, aside)]
    assert sizes == pytest.approx([40, 40], rel=0.01)


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


@pytest.mark.parametrize("turn", [0, 3, 30, 100, 180, -60])
def test_in_a_crop_eyes_are_level_and_lie_where_it_says(slope, turn):
    spin = np.exp(1j * np.radians(turn))
    eyes = np.array([(at.real + 60, at.imag + 50) for at in (-8 * spin, 8 * spin)])
    crop = Crop(slope, eyes, np.array((60.0, 50.0)), 2.0, 80)
    for sign, at in ((-1, eyes[0]), (1, eyes[1])):
        assert crop.pixels[40, 40 + sign * 16, :2] == pytest.approx(at, abs=2.5)
    assert crop.places(np.array([(24.0, 40.0), (56.0, 40.0)])) == pytest.approx(eyes, abs=1)

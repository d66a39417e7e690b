"""Challenges, and what views of a surface tell: on patterns, without a net."""

import random
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from PIL import Image

from edge_oneshot_device.liveness.actions import Evidence, Sighting
from edge_oneshot_device.liveness.challenge import ACTIONS, Challenge
from edge_oneshot_device.liveness.headshape import HEAD, head_shape, movement
from edge_oneshot_device.liveness.parallax import ReferenceView, View

SIZE = (360, 400)
FOCAL, DISTANCE = 600.0, 60.0  # pixels and centimetres, so that a centimetre is ten pixels at the beginning
MIDDLE = np.array(SIZE) / 2
# where the places of HEAD are on a mean face from the front, from the tip of the nose, in distances between the eyes
AT = {
    4: (0.00, 0.00), 9: (0.01, -0.85), 10: (0.01, -1.37), 18: (0.00, 0.84), 21: (-1.05, -0.89), 24: (-0.59, -0.42),
    47: (-0.29, -0.26), 50: (-0.79, -0.04), 53: (-0.75, -0.78), 54: (-0.94, -1.08), 58: (-0.98, 0.50),
    65: (-0.43, -0.80), 67: (-0.55, -1.32), 86: (-0.12, 0.61), 101: (-0.55, -0.15), 102: (-0.33, 0.04),
    103: (-0.79, -1.23), 108: (-0.26, -1.12), 124: (-0.89, -0.60), 132: (-1.05, 0.25), 136: (-0.76, 0.87),
    138: (-0.90, 0.62), 143: (-1.00, -0.45), 149: (-0.49, 1.11), 162: (-1.10, -0.70), 167: (-0.14, 0.27),
    169: (-0.64, 0.89), 186: (-0.50, 0.41), 189: (-0.19, -0.58), 196: (-0.09, -0.34), 204: (-0.44, 0.79),
    207: (-0.74, 0.27), 208: (-0.20, 1.08), 214: (-0.75, 0.56), 227: (-1.10, -0.25), 234: (-1.10, -0.24),
    251: (1.08, -0.89), 266: (0.50, -0.02), 273: (0.46, 0.61), 284: (0.97, -1.08), 288: (1.02, 0.51),
    293: (0.82, -0.84), 295: (0.44, -0.80), 299: (0.51, -1.12), 311: (0.19, 0.49), 322: (0.43, 0.34),
    323: (1.13, 0.01), 326: (0.13, 0.20), 332: (0.82, -1.22), 338: (0.32, -1.37), 343: (0.22, -0.32),
    347: (0.73, -0.24), 356: (1.15, -0.46), 360: (0.25, -0.04), 374: (0.50, -0.48), 377: (0.22, 1.25),
    378: (0.51, 1.10), 383: (0.97, -0.62), 389: (1.13, -0.70), 397: (0.92, 0.71), 406: (0.27, 0.77),
    417: (0.13, -0.58), 427: (0.74, 0.27), 430: (0.63, 0.75), 435: (1.04, 0.42), 467: (0.76, -0.58),
}  # fmt: skip
UNIT = 6.0  # centimetres between the eyes
CORNERS = {33: (-4.2, -3.5), 133: (-1.8, -3.5), 362: (1.8, -3.5), 263: (4.2, -3.5), 4: (0.0, 0.0)}


def mesh_places():
    """The mesh as a grid in centimetres, with the points that have a part to play where they are on a face."""
    rng = np.random.default_rng(0)
    places = rng.uniform((-7.0, -9.0), (7.0, 7.0), (468, 2))
    for number, (x, y) in AT.items():
        places[number] = UNIT * x, UNIT * y
    for number, place in CORNERS.items():
        places[number] = place
    for lids, x in (((159, 145), -3.0), ((386, 374), 3.0)):
        places[lids[0]], places[lids[1]] = (x, -3.9), (x, -3.1)
    return places


PLACES = mesh_places()


def thin_plate(places, values, at):
    """The smoothest surface through values at places, where it is asked for (Duchon 1977)."""

    def bending(ones, others):
        squares = ((ones[:, np.newaxis] - others) ** 2).sum(axis=-1)
        return squares * np.log(np.maximum(squares, 1e-12))

    plane = np.column_stack([np.ones(len(places)), places])
    system = np.block([[bending(places, places), plane], [plane.T, np.zeros((3, 3))]])
    solved = np.linalg.solve(system, np.concatenate([values, np.zeros(3)]))
    return bending(at, places) @ solved[:-3] + np.column_stack([np.ones(len(at)), at]) @ solved[-3:]


GRID = np.stack(np.meshgrid(np.arange(-70, 71), np.arange(-80, 76), indexing="ij"), axis=-1)  # millimetres
RELIEF = thin_plate(
    UNIT * np.array(list(AT.values())), -UNIT * np.array(list(HEAD.values())), GRID.reshape(-1, 2) / 10.0
).reshape(GRID.shape[:2])


def head(x, y):
    """Centimetres that a mean head stands out at a place; beside it, what its edge does."""
    column, row = np.rint(10.0 * np.clip(x, -7.0, 7.0)) + 70, np.rint(10.0 * np.clip(y, -8.0, 7.5)) + 80
    return RELIEF[column.astype(int), row.astype(int)]


def flat(x, y):
    return 0.0 * (x + y)


def cylinder(x, y):
    return -(x**2) / 18.0 + 0.0 * y


def ridge(x, y):
    return -0.8 * np.abs(x + 0.5 * y)


def seen(depth, yaw=0.0, nearer=1.0):
    """The frame and the mesh of a textured surface that is turned and comes closer; the mesh knows the truth."""
    texture = np.random.default_rng(1).uniform(0, 255, (70, 70))
    picture = Image.fromarray(texture.astype(np.uint8)).resize((700, 700), Image.Resampling.BICUBIC)
    level = np.asarray(picture, float)
    step = 0.05
    x, y = np.meshgrid(np.arange(-10, 10, step), np.arange(-11, 11, step))
    at = projected(np.stack([x, y], axis=-1), depth, yaw, nearer)
    # drawn forward, finer than the pixels, and holes filled by the mean of their neighbours
    total, count = np.zeros(SIZE[::-1]), np.zeros(SIZE[::-1])
    column, row = np.floor(at[..., 0]).astype(int), np.floor(at[..., 1]).astype(int)
    inside = (column >= 0) & (column < SIZE[0]) & (row >= 0) & (row < SIZE[1])
    values = level[np.rint((y + 17) / 34 * 699).astype(int), np.rint((x + 17) / 34 * 699).astype(int)]
    np.add.at(total, (row[inside], column[inside]), values[inside])
    np.add.at(count, (row[inside], column[inside]), 1)
    frame = np.where(count > 0, total / np.maximum(count, 1), 128)
    return View(Image.fromarray(frame.astype(np.uint8)), projected(PLACES, depth, yaw, nearer))


def projected(places, depth, yaw, nearer):
    x, y = places[..., 0], places[..., 1]
    z = -depth(x, y)
    angle = np.radians(yaw)
    turned_x, turned_z = x * np.cos(angle) - z * np.sin(angle), x * np.sin(angle) + z * np.cos(angle)
    away = DISTANCE / nearer + turned_z
    return np.stack([turned_x, y], axis=-1) / away[..., np.newaxis] * FOCAL + MIDDLE


def test_a_challenge_is_three_of_four_actions_and_so_has_a_turn():
    drawn = {Challenge.draw(random.Random(seed)).actions for seed in range(300)}
    assert len(drawn) == 24
    for actions in drawn:
        assert len(set(actions)) == 3
        assert set(actions) < set(ACTIONS)
        assert {"turn_left", "turn_right"} & set(actions)


def test_waits_are_drawn_as_well_and_nobody_foresees_them():
    one, other = Challenge.draw(), Challenge.draw()
    assert one.waits != other.waits
    assert all(0.4 <= wait <= 1.2 for wait in one.waits)


def test_the_action_that_was_left_out_takes_the_place_of_a_blink_once():
    for seed in range(50):
        challenge = Challenge.draw(random.Random(seed))
        changed = challenge.without_blink()
        if "blink" not in challenge.actions:
            assert changed is None
            continue
        assert set(changed.actions) == set(ACTIONS) - {"blink"}
        assert changed.waits == challenge.waits
        assert sum(one != other for one, other in zip(challenge.actions, changed.actions, strict=True)) == 1
        assert changed.without_blink() is None
    assert Challenge(("blink",), (0.5,)).without_blink() is None


def cone(x, y):
    """A sheet with one pleat from the tip of the nose to its edge."""
    return -0.5 * np.hypot(x, y)


def two_pleats(x, y):
    return -0.5 * np.hypot(x, y) * (1.0 + 0.5 * np.cos(2.0 * np.arctan2(y, x) + 1.0))


def dome(x, y):
    return np.sqrt(14.0**2 - np.minimum(x**2 + y**2, 13.0**2))


def box(x, y):
    """Its sides are folded back beside the face."""
    return -2.0 * np.maximum(np.abs(x) - 5.0, 0.0) + 0.0 * y


def box_and_cone(x, y):
    return box(x, y) + cone(x, y)


PLACES_OF_HEAD = np.array(list(AT.values()))
SHEETS = [flat, cylinder, ridge, cone, two_pleats, dome, box, box_and_cone]


def moves(depth, yaws=(12, 16, 20), noise=0.3):
    """What is measured of places that are found with an error of some tenths of a pixel."""
    rng = np.random.default_rng(2)
    for yaw in yaws:
        found = projected(UNIT * PLACES_OF_HEAD, depth, yaw, 1.0)
        yield movement(PLACES_OF_HEAD, found + rng.normal(0.0, noise, found.shape), np.ones(len(found)))


def test_a_head_that_turns_has_the_shape_of_a_head_and_tells_the_side():
    for side in (-1, 1):
        turned = list(moves(head, yaws=[side * yaw for yaw in (12, 16, 20)]))
        assert [one.turn for one in turned] == pytest.approx(np.tan(np.radians([12, 16, 20])) * side, abs=0.06)
        assert head_shape(PLACES_OF_HEAD, turned).head


@pytest.mark.parametrize("depth", SHEETS)
@pytest.mark.parametrize("yaws", [(12, 16, 20), (-20, -25, -30), (30, 35, 40)])
def test_no_sheet_has_the_shape_of_a_head(depth, yaws):
    assert not head_shape(PLACES_OF_HEAD, list(moves(depth, yaws))).head


def half_mask(x, y):
    """Its sides are folded back, and its nose is pushed out to a cone."""
    return 0.5 * box(x, y) + 0.6 * np.maximum(3.0 - np.hypot(x, y), 0.0)


def test_half_a_mask_explains_itself_better_than_a_head_does():
    assert head_shape(PLACES_OF_HEAD, list(moves(half_mask))).unmasked < -0.1
    assert head_shape(PLACES_OF_HEAD, list(moves(head))).unmasked > 0.3


def test_every_measure_of_a_shape_has_to_say_that_it_is_a_head():
    shape = head_shape(PLACES_OF_HEAD, list(moves(head)))
    assert shape.head
    limits = {"whole": 0.87, "detail": 0.6, "fine": 0.5, "amount": 0.35, "rigid": 0.85, "unmasked": 0.0}
    assert set(limits) == set(shape.__struct_fields__)
    for name, limit in limits.items():
        assert not msgspec.structs.replace(shape, **{name: limit - 0.001}).head


def test_points_that_do_not_move_as_one_body_are_no_head():
    loose = np.random.default_rng(3).normal(0.0, 1.0, 64)

    def bulging(x, y):
        return head(x, y) + 6.0 * np.sin(0.8 * x + loose[0]) * np.cos(0.9 * y + loose[1])

    one, *others = moves(head)
    assert head_shape(PLACES_OF_HEAD, [one, *others]).rigid > 0.95
    assert head_shape(PLACES_OF_HEAD, [one, *others, *moves(bulging)]).rigid < 0.85


def test_a_shape_is_measured_on_thirty_places_or_not_at_all():
    likeness = np.where(np.arange(len(HEAD)) < 29, 1.0, 0.5)
    found = projected(UNIT * PLACES_OF_HEAD, head, 20, 1.0)
    assert movement(PLACES_OF_HEAD, found, likeness) is None
    likeness[29] = 1.0
    assert movement(PLACES_OF_HEAD, found, likeness) is not None


def test_places_that_are_all_found_in_one_spot_are_no_head():
    nowhere = movement(PLACES_OF_HEAD, np.full((len(HEAD), 2), 7.0), np.ones(len(HEAD)))
    assert not head_shape(PLACES_OF_HEAD, [nowhere]).head


def test_size_and_foreshortening_are_those_of_the_view():
    reference = ReferenceView(seen(flat))
    assert reference.shape(seen(flat, nearer=1.5)) == pytest.approx((1.5, 1.0), abs=0.01)
    assert reference.shape(seen(flat, yaw=60))[1] == pytest.approx(0.5, abs=0.03)


def test_the_likeness_of_eyes_falls_when_they_look_different():
    view = seen(flat)
    reference = ReferenceView(view)
    assert reference.eyes(view) > 0.99
    changed = np.asarray(Image.fromarray(view.luma.astype(np.uint8))).copy()
    for x in (-3.0, 3.0):
        column, row = (np.array((x, -3.5)) * 10 + MIDDLE).astype(int)
        changed[row - 10 : row + 10, column - 20 : column + 20] = 150
    assert reference.eyes(View(Image.fromarray(changed), view.points)) < 0.5


def blinked(*drops):
    """Whether a blink is seen in what the likeness of the eyes falls by, at eight frames a second."""
    likeness = iter(1.0 - np.array(drops))
    reference = SimpleNamespace(eyes=lambda _: next(likeness))
    evidence = Evidence("blink", 0.0, reference, 1.0)
    return [evidence.shown(Sighting(number / 8, None, 0.0, 1.0, 1.0)) for number in range(len(drops))][-1]


def test_a_blink_of_narrow_eyes_is_seen_when_they_were_still():
    assert blinked(0.001, -0.002, 0.002, 0.035, 0.02, 0.001)
    assert not blinked(0.001, -0.002, 0.002, 0.025, 0.02, 0.001)


def test_what_varies_all_the_time_is_no_blink_until_it_varies_more():
    assert not blinked(0.001, 0.02, -0.02, 0.055, 0.02, 0.001)
    assert blinked(0.001, 0.02, -0.02, 0.075, 0.02, 0.001)


def test_eyes_that_stay_closed_or_were_never_open_did_not_blink():
    assert not blinked(0.001, *[0.3] * 6, 0.001)
    assert not blinked(0.3, 0.3, 0.001)


@pytest.fixture(scope="module")
def turns():
    """The frame in which a turn is seen, of a head at angles that follow each other at a rate; None when it is not."""
    reference = ReferenceView(seen(head))
    views = {yaw: seen(head, yaw=yaw) for yaw in range(-25, 26, 5)}

    def shown(yaws, rate=10.0, action="turn_left"):
        evidence = Evidence(action, 0.0, reference, 1.0)
        sightings = (Sighting.of(number / rate, views[yaw], reference) for number, yaw in enumerate(yaws, 1))
        return next((number for number, seen in enumerate(sightings) if evidence.shown(seen)), None)

    return shown


def test_a_head_that_turns_is_seen_at_angles_in_between(turns):
    assert turns([0, 5, 10, 15, 20, 20, 20]) == 5
    assert turns([0, -5, -10, -15, -20, -20, -20], action="turn_right") == 5


def test_two_views_that_are_exchanged_are_no_turn(turns):
    assert turns([0, 0, 20, 20, 20, 20, 25, 20]) is None
    assert turns([5, 5, 25, 25, 25, 25, 25, 25]) is None


def test_nor_are_they_where_a_frame_shows_both(turns):
    assert turns([0, 0, 10, 20, 20, 20, 20], rate=30.0) is None


def test_who_was_not_understood_turns_once_more(turns):
    assert turns([0, 20, 20, 20, 0, 5, 10, 15, 20, 20]) == 9


def test_a_pleated_sheet_that_turns_is_no_turn():
    reference = ReferenceView(seen(flat))
    evidence = Evidence("turn_left", 0.0, reference, 1.0)
    for number, yaw in enumerate((5, 10, 15, 20, 25, 25, 25), 1):
        assert not evidence.shown(Sighting.of(number / 10.0, seen(cone, yaw=yaw), reference))
    assert not evidence.contrary


def test_a_turn_to_the_other_side_is_contrary():
    reference = ReferenceView(seen(head))
    evidence = Evidence("turn_right", 0.0, reference, 1.0)
    assert not evidence.shown(Sighting.of(0.1, seen(head, yaw=20), reference))
    assert evidence.contrary

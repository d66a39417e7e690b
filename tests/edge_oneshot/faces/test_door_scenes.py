"""Scenes before a door: what is in sight when, and that the real finder and gate take the faces, as a video too."""

from itertools import islice

import cv2
import numpy as np
import pytest
from PIL import Image

from edge_oneshot.demo.door_scenes import Light, Portrait, Visit, plain_room, play, write_video
from edge_oneshot.faces.inputs import face_files, face_input
from edge_oneshot.faces.packages import ASTRONAUT, read_package_file
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.faces.finding import PHOTO_SIDE, FaceFinder
from tests.raising import raises
from tests.real_data import needs, real_data
from tests.scenes import people, portrait_of

GREEN = (0, 255, 0)
LFW = real_data("lfw/lfw-half.zip")
STILL = Light(swing=0.0, noise=0.0)
ROOM = np.full((525, 700, 3), 100, np.uint8)


@pytest.fixture(scope="module")
def finder(faces_extra) -> FaceFinder:  # noqa: ARG001 (skips)
    section = face_input()
    return FaceFinder(face_files(), section, section.face)


@pytest.fixture(scope="module")
def ada(finder) -> Portrait:
    portrait = portrait_of(load_photo(read_package_file(ASTRONAUT), PHOTO_SIDE), finder)
    assert portrait is not None
    return portrait


@pytest.fixture(scope="module")
def drawn() -> Portrait:
    """A grey picture whose eyes are green."""
    picture = np.full((300, 260, 3), 160, np.uint8)
    for left in (100, 160):
        picture[120:132, left - 6 : left + 6] = GREEN
    return Portrait(picture, np.array([(100.0, 126.0), (160.0, 126.0)]))


def eyes_in(frame: np.ndarray) -> np.ndarray:
    """The places of the green eyes, from left to right; none where there are not two."""
    red, green, blue = (frame[..., channel].astype(int) for channel in range(3))
    count, _, _, middles = cv2.connectedComponentsWithStats((green - np.maximum(red, blue) > 100).astype(np.uint8))
    return middles[1:][np.argsort(middles[1:, 0])] if count == 3 else np.zeros((0, 2))


@pytest.mark.parametrize("held_up", [False, True])
@pytest.mark.parametrize("near", [50.0, 80.0])
def test_a_visitor_comes_to_where_it_is_said_and_leaves(drawn, near, held_up):
    visit = Visit(drawn, start=1.0, seconds=3.0, near=near, held_up=held_up, seed=2)
    apart = {}
    for second, frame in play([visit], ROOM, 5.0, light=STILL):
        assert frame.shape == (480, 640, 3)
        eyes = eyes_in(frame)
        if len(eyes):
            assert 1.0 <= second < 4.0
            apart[second] = float(np.hypot(*(eyes[1] - eyes[0])))
    assert max(apart.values()) == pytest.approx(near, rel=0.12)
    first = next(iter(apart.values()))
    assert first < near / 2
    before_the_door = [distance for second, distance in apart.items() if 1.8 < second < 3.2]
    assert len(before_the_door) == 20  # 15 a second, while they stand
    assert min(before_the_door) > 0.8 * near


def test_two_visitors_are_in_sight_together(drawn):
    sides = [Visit(drawn, 0.0, 2.0, near=40.0, aside=aside, seed=3) for aside in (-0.25, 0.25)]
    frame = list(play(sides, ROOM, 2.0, light=STILL))[15][1]
    green = (frame[..., 1].astype(int) - frame[..., 0] > 100).any(axis=0)
    assert green[:320].any()
    assert green[320:].any()


def test_a_scene_is_the_same_for_the_same_seed_alone(drawn):
    visits = [Visit(drawn, 0.0, 1.0, seed=1)]
    one, again, other = (
        np.stack([frame for _, frame in islice(play(visits, plain_room(700, 525), 1.0, seed=seed), 6)])
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_the_room_moves_and_its_light_changes():
    room = plain_room(700, 525)
    frames = [frame.astype(int) for _, frame in play([], room, 2.0, light=Light(noise=0.0))]
    assert np.abs(frames[0] - frames[-1]).mean() > 1.0
    dark = next(play([], room, 1.0, light=Light(gain=0.2)))[1]
    assert dark.mean() < 0.3 * frames[0].mean()


def test_faces_of_a_scene_pass_the_gate_before_and_after_they_are_compressed(finder, ada, tmp_path):
    visits = [Visit(ada, 0.5, 3.0, seed=4), Visit(ada, 4.0, 3.0, held_up=True, seed=5)]
    frames = [frame for _, frame in play(visits, plain_room(700, 525), 7.5, frames_per_second=8.0)]
    write_video(tmp_path / "door.avi", frames, 8.0)
    video = cv2.VideoCapture(str(tmp_path / "door.avi"))
    assert video.get(cv2.CAP_PROP_FPS) == 8.0
    for number, frame in enumerate(frames):
        intact, shown = video.read()
        assert intact
        assert np.abs(cv2.cvtColor(shown, cv2.COLOR_BGR2RGB).astype(int) - frame).mean() < 12
        if number in (14, 18, 44, 48):  # they stand before the door
            finder.chip(Image.fromarray(frame))
            finder.chip(Image.fromarray(cv2.cvtColor(shown, cv2.COLOR_BGR2RGB)))
        elif number in (0, 30, 59):
            with raises(InputError, reason="no_face"):
                finder.chip(Image.fromarray(frame))
    assert not video.read()[0]


def test_a_video_that_cannot_be_written_is_an_error(tmp_path):
    with raises(MachineError, reason="cannot_write"):
        write_video(tmp_path / "missing" / "door.avi", [ROOM], 5.0)


@needs(LFW)
def test_people_of_lfw_are_taken_before_the_door(finder):
    for number, (name, (_, later)) in enumerate(islice(people(LFW, finder, photos=2), 3)):
        visit = Visit(later, 0.0, 2.0, near=60.0, seed=number)
        frames = [frame for _, frame in play([visit], plain_room(700, 525, number), 2.0, frames_per_second=5.0)]
        taken = 0
        for frame in frames:
            try:
                finder.chip(Image.fromarray(frame))
            except InputError:
                continue
            taken += 1
        assert taken >= 5, name

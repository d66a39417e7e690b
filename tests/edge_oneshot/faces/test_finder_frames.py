"""Frames whose faces are at known places: that they are made as they say, and that the real finder finds the faces."""

import io
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from benchmarks.research.finder_frames import SIZES, row, seen_in
from edge_oneshot.faces.inputs import face_files, face_input
from edge_oneshot_device.faces.finding import FaceFinder
from tests.campaigns.rendering.frames import FILLS, Kind, People, Person, fits, make_frame
from tests.campaigns.rendering.rooms import Rooms
from tests.real_data import needs, real_data

GREEN = (0, 255, 0)
LFW = real_data("lfw/lfw-half.zip")


@pytest.fixture(scope="module")
def rooms(faces_extra):  # noqa: ARG001 (skips)
    return Rooms()


@pytest.fixture(scope="module")
def people():
    """Grey pictures whose eyes are green."""
    picture = np.full((150, 130, 3), 128, np.uint8)
    for left in (50, 80):
        picture[60:66, left - 3 : left + 3] = GREEN
    return [Person("made", picture, np.array([(50.0, 63.0), (80.0, 63.0)])) for _ in range(4)]


@pytest.mark.parametrize(
    "kind", [Kind(640, 480, 1, 32), Kind(640, 480, 1, int(480 / FILLS)), Kind(1280, 720, 4, 43), Kind(640, 480, 2, 64)]
)
def test_eyes_are_as_far_apart_as_said_and_where_said(kind, rooms, people):
    for number in range(20):
        frame = make_frame(kind, people, rooms, (number,))
        assert frame.eyes.shape == (kind.people, 2, 2)
        apart = np.hypot(*(frame.eyes[:, 1] - frame.eyes[:, 0]).T)
        assert apart.min() >= 0.95 * kind.eyes
        assert apart.max() <= 1.25 * kind.eyes
        pixels = np.asarray(frame.image).astype(int)
        for x, y in frame.eyes.reshape(-1, 2):
            red, green, blue = pixels[int(y), int(x)]
            assert green - max(red, blue) > 150


def test_an_empty_room_has_nobody(rooms, people):
    assert len(make_frame(Kind(640, 480, 0, 0), people, rooms, (0,)).eyes) == 0


def test_a_frame_is_the_same_for_the_same_seed_alone(rooms, people):
    kind = Kind(320, 240, 1, 43)
    one, again, other = (np.asarray(make_frame(kind, people, rooms, (seed,)).image) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_some_frames_are_compressed_and_show_the_same(rooms, people):
    frames = [make_frame(Kind(320, 240, 1, 43), people, rooms, (seed,)) for seed in range(12)]
    files = [(frame.image, frame.content) for frame in frames if frame.content is not None]
    assert 0 < len(files) < len(frames)
    for image, content in files:
        shown = np.asarray(Image.open(io.BytesIO(content))).astype(int)
        assert 0 < np.abs(shown - np.asarray(image)).mean() < 20


def test_too_many_people_do_not_fit():
    assert fits(Kind(640, 480, 4, 43))
    assert not fits(Kind(640, 480, 4, 64))


@needs(LFW)
@pytest.mark.parametrize("size", SIZES)
def test_every_face_of_the_promised_size_is_found_and_nobody_else(rooms, size):
    width, height = size
    section = face_input()
    finder = FaceFinder(face_files(), section, section.face)
    drawn = list(islice(People(LFW, 7).draw(), 8))
    kinds = Kind(width, height, 0, 0), Kind(width, height, 1, int(height / FILLS)), Kind(width, height, 4, 32)
    for kind in kinds:
        found = row(kind, list(seen_in(finder, kind, drawn, rooms, 2, 7)))
        assert (found.found, found.counted, found.false) == (2 * kind.people, 2, 0)

"""An approach: one attempt for each face, whatever it does, made from frames of one person."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edge_oneshot_device.door.approach import Approaches, fuse
from edge_oneshot_device.door.camera import Frame
from edge_oneshot_device.door.configuration import ApproachSection
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.faces.detection import Detection
from edge_oneshot_device.faces.finding import Face, FaceFinder
from tests.raising import raises

PHOTO = Image.new("RGB", (1280, 720))
LEAST = 0.5
POINTS = np.array([(-0.5, 0.0), (0.5, 0.0), (0.0, 0.5), (-0.4, 1.0), (0.4, 1.0)])


class Person:
    """Somebody before the camera.

    Args:
        number: Who; people are as unlike as can be.
        x: Place of the face in pixels.
        size: Pixels between the eyes.
        fault: Why the gate refuses the face.
        turned: Whether the head is on its side.
        noise: How much a look differs from the next.
    """

    def __init__(self, number, x=640.0, size=60.0, fault=None, turned=False, noise=0.2):
        self.number, self.x, self.size, self.fault, self.turned, self.noise = number, x, size, fault, turned, noise

    @property
    def face(self):
        points = self.size * POINTS + (self.x, 300.0)
        middle = points.mean(axis=0)
        face = Face(Detection(0.95, np.stack([middle - self.size, middle + self.size]), points), self.turned)
        FACES[id(face)] = self, face
        return face


FACES = {}


class Door:
    """Approaches with a finder and an encoder that know who is there; 15 frames a second."""

    def __init__(self, **section):
        self.rng = np.random.default_rng(0)
        self.sights, self.embedded, self.looks, self.now = [], [], [], 0.0
        finder = SimpleNamespace(
            search=lambda _: [person.face for person in self.people],
            take=self.take,
            is_turned=lambda *_: False,
            near=lambda faces: FaceFinder.near(SimpleNamespace(_face=SimpleNamespace(min_eye_distance=20)), faces),
        )
        encoder = SimpleNamespace(
            faces=finder, embed=self.embed, input=None, embedding=SimpleNamespace(metric="cosine", size=8)
        )
        self.finder = finder
        self.approaches = Approaches(encoder, ApproachSection(**section), LEAST)

    def take(self, _photo, face, _name):
        person = FACES[id(face)][0]
        if person.fault:
            raise InputError("no", reason=person.fault)
        return person

    def embed(self, person):
        self.embedded.append(person.number)
        look = np.eye(8, dtype=np.float32)[person.number] + person.noise * self.rng.normal(size=8) / np.sqrt(8)
        self.looks.append((look / np.linalg.norm(look)).astype(np.float32))
        return self.looks[-1]

    def see(self, *people, seconds=1 / 15, rate=15):
        """Show people for some seconds; returns the signals."""
        self.people, found = people, []
        for _ in range(max(round(seconds * rate), 1)):
            self.now += 1 / rate
            sight = self.approaches.see(Frame(PHOTO, self.now, 0))
            self.sights.append(sight)
            if sight.signal:
                found.append(sight.signal)
        return found

    @property
    def attempts(self):
        """Whose probes were ready."""
        return [int(sight.probe.argmax()) for sight in self.sights if sight.signal == "ready"]


@pytest.fixture(autouse=True)
def no_content(monkeypatch):
    monkeypatch.setattr("edge_oneshot_device.door.approach.require_content", lambda *_: None)


def test_a_face_appears_is_ready_once_and_leaves():
    door = Door()
    assert door.see() == []
    assert door.see(Person(1), seconds=3) == ["appeared", "ready"]
    (ready,) = (sight for sight in door.sights if sight.signal == "ready")
    assert ready.frames == 5
    assert ready.probe.dtype == np.float32
    assert ready.probe == pytest.approx(np.mean(door.looks[:5], axis=0), abs=1e-6)
    assert ready.usable_since == pytest.approx(2 / 15)
    assert ready.box == pytest.approx((580, 270, 700, 390), abs=1)
    assert set(ready.stages) == {"find", "gate", "embed"}
    assert door.see(seconds=3) == ["left"]
    assert door.sights[-1].box is None
    assert door.see(Person(1), seconds=3) == ["appeared", "ready"]


@pytest.mark.parametrize(
    ("rate", "frames", "late"), [(60, 5, 0.4), (30, 5, 0.4), (15, 5, 0.4), (7, 3, 0.4), (2, 1, 0.5)]
)
def test_the_probe_is_ready_within_the_window_at_any_rate(rate, frames, late):
    door = Door()
    door.see(seconds=1, rate=rate)
    door.see(Person(1), seconds=2, rate=rate)
    (ready,) = (number for number, sight in enumerate(door.sights) if sight.signal == "ready")
    began = door.sights[ready].usable_since
    assert (ready + 1) / rate - began <= late + 1e-9
    assert door.sights[ready].frames >= frames - 1
    assert door.sights[ready].frames <= 5


@pytest.mark.parametrize("then", [(), (Person(1, fault="blurred"),)])
def test_nobody_is_decided_on_by_what_was_seen_before_camera_or_program_hung(then):
    door = Door()
    door.see(seconds=1)
    assert door.see(Person(1), seconds=2 / 15) == ["appeared"]
    door.now += 3.0
    assert door.see(*then, seconds=1) == []
    assert door.see(Person(1), seconds=1) == ["ready"]


def test_one_frame_is_enough_where_that_is_configured():
    door = Door(frames=1, window=0.0)
    assert door.see(Person(1), seconds=1) == ["appeared", "ready"]
    assert (door.sights[1].signal, door.sights[1].frames) == ("ready", 1)


def test_a_stranger_who_stands_there_for_ten_minutes_makes_one_attempt():
    door = Door()
    assert door.see(Person(1), seconds=600, rate=3) == ["appeared", "ready"]
    assert len(door.embedded) < 600 * 2 + 6


def test_a_stranger_who_moves_hides_for_a_moment_and_turns_makes_one_attempt():
    door, rng = Door(), np.random.default_rng(0)
    for _ in range(60):
        person = Person(1, x=rng.uniform(200, 1000), size=rng.uniform(40, 120))
        person.fault = rng.choice([None, None, "face_turned_away"])
        door.see(person, seconds=rng.uniform(0.1, 2))
        door.see(seconds=rng.uniform(0.1, 1.2))
    assert door.attempts == [1]


def test_two_strangers_side_by_side_make_one_attempt_each_whoever_is_nearer():
    door, rng = Door(), np.random.default_rng(0)
    for _ in range(100):
        door.see(Person(1, 400, rng.uniform(50, 75)), Person(2, 800, rng.uniform(50, 75)), seconds=0.2)
    assert sorted(door.attempts) == [1, 2]


def test_the_nearest_is_looked_at_and_somebody_behind_never():
    door = Door()
    assert door.see(Person(1, 400, 80), Person(2, 800, 40), seconds=30) == ["appeared", "ready"]
    assert set(door.embedded) == {1}
    assert door.see(Person(1, 400, 80), Person(2, 800, 110), seconds=2) == ["appeared", "ready"]
    assert door.attempts == [1, 2]


def test_somebody_nearer_takes_over_and_nothing_is_mixed():
    door = Door(window=2.0, frames=15)
    door.see(Person(1, 400, 60), seconds=0.5)
    assert door.see(Person(1, 400, 60), Person(2, 800, 90), seconds=0.3) == ["appeared"]
    door.see(Person(2, 800, 90), seconds=3)
    assert door.attempts == [2]
    (ready,) = (sight for sight in door.sights if sight.signal == "ready")
    assert ready.probe[2] > 0.95


def test_somebody_hardly_nearer_does_not_take_over():
    door = Door()
    door.see(Person(1, 400, 60))
    door.see(Person(1, 400, 60), Person(2, 800, 66), seconds=0.4)
    assert door.attempts == [1]


def test_whoever_was_passed_over_begins_anew():
    door = Door(window=1.0)
    door.see(Person(1, 400, 60), seconds=0.2)
    door.see(Person(1, 400, 60), Person(2, 800, 90), seconds=2)
    began = door.now
    door.see(Person(1, 400, 60), seconds=3)
    assert door.attempts == [2, 1]
    assert [sight.usable_since > began for sight in door.sights if sight.signal == "ready"] == [False, True]


def test_somebody_behind_gets_no_attempt_while_a_face_is_hidden_for_a_moment():
    door = Door(patience=30.0)
    door.see(Person(1, 400, 80, fault="face_covered"), Person(2, 800, 40), seconds=0.5)
    for _ in range(5):
        door.see(Person(2, 800, 40), seconds=0.8)
        door.see(Person(1, 400, 80, fault="face_covered"), Person(2, 800, 40), seconds=0.2)
    assert door.embedded == []


def test_with_several_people_nobody_is_looked_at_where_that_is_configured():
    door = Door(several="refuse", patience=2.0)
    assert door.see(Person(1, 400, 60), Person(2, 800, 50), seconds=3) == ["appeared", "unusable"]
    assert [sight.reason for sight in door.sights if sight.signal == "unusable"] == ["several_faces"]
    assert door.attempts == []
    door = Door(several="refuse")
    door.see(Person(1, 400, 60), Person(2, 800, 20), seconds=3)  # far behind
    assert door.attempts == [1]
    door = Door(several="refuse", window=1.0, frames=15)
    door.see(Person(1, 400, 60), seconds=0.7)
    door.see(Person(1, 400, 60), Person(2, 800, 50), seconds=1.5)
    assert door.attempts == []
    door.see(Person(1, 400, 60), seconds=1.5)
    assert door.attempts == [1]


# faces that are swapped


def test_the_probe_shows_one_person_however_faces_are_swapped():
    for swap in range(1, 6):
        door = Door()
        door.see(Person(1), seconds=swap / 15)
        signals = door.see(Person(2), seconds=3)
        probes = [sight.probe for sight in door.sights if sight.signal == "ready"]
        assert [probe.max() > 0.95 for probe in probes] == [True] * len(probes)
        assert door.attempts == ([2] if swap < 5 else [1, 2])
        assert signals[0] == "appeared" or swap == 5


def test_faces_that_are_swapped_all_the_time_are_never_ready():
    door = Door()
    for _ in range(100):
        door.see(Person(1))
        door.see(Person(2))
    assert door.attempts == []


def test_another_face_in_the_same_place_gets_its_own_attempt():
    door = Door()
    door.see(Person(1), seconds=3)
    assert door.see(Person(2), seconds=3) == ["appeared", "ready"]
    assert door.attempts == [1, 2]
    assert door.see(Person(1), seconds=3) == []  # who was there already gets none
    assert door.see(Person(3), seconds=3) == ["appeared", "ready"]


def test_a_stranger_who_shows_a_photo_again_and_again_makes_one_attempt_with_each_face():
    for seconds in (0.2, 0.7, 2.0):
        door = Door()
        for _ in range(8):
            door.see(Person(1), seconds=seconds)
            door.see(Person(2), seconds=seconds)
        assert sorted(door.attempts) == [1, 2][: len(door.attempts)]


def test_a_look_that_is_unlike_for_a_moment_makes_no_further_attempt():
    door, rng = Door(), np.random.default_rng(0)
    door.see(Person(1), seconds=2)
    for _ in range(50):
        door.see(Person(2), seconds=2 / 15)
        door.see(Person(1), seconds=rng.uniform(0.3, 0.7))
    assert set(door.embedded) == {1, 2}
    assert door.attempts == [1]


def test_a_face_of_quite_another_size_in_the_same_place_is_another():
    door = Door()
    door.see(Person(1, size=60), seconds=2)
    assert door.see(Person(2, size=120)) == ["appeared"]


def test_somebody_in_another_place_who_looks_the_same_is_the_same_unless_both_are_there():
    door = Door()
    door.see(Person(1, 300), seconds=2)
    assert door.see(Person(1, 900), seconds=5) == []
    door = Door()
    door.see(Person(1, 300), seconds=2)
    assert door.see(Person(2, 900), seconds=5) == ["appeared", "ready"]


# frames that cannot be used


def test_a_face_that_cannot_be_used_is_refused_once_with_the_commonest_reason():
    door = Door(patience=2.0)
    door.see(Person(1, fault="face_too_dark"), seconds=0.5)
    assert door.sights[-1].reason == "face_too_dark"
    signals = door.see(Person(1, fault="face_blurred"), seconds=30)
    assert signals == ["unusable"]
    assert [sight.reason for sight in door.sights if sight.signal == "unusable"] == ["face_blurred"]
    assert door.embedded == []
    assert door.see(Person(1), seconds=30) == []
    assert door.see(seconds=2) == ["left"]
    assert door.see(Person(1), seconds=1) == ["appeared", "ready"]


def test_a_turned_face_is_never_embedded():
    door = Door(patience=2.0)
    door.see(Person(1, turned=True), seconds=10)
    door.finder.is_turned = lambda *_: True
    door.see(seconds=5)
    door.see(Person(1), seconds=10)
    assert door.embedded == []
    assert [sight.reason for sight in door.sights if sight.signal == "unusable"] == ["photo_turned"] * 2


def test_a_frame_without_content_is_not_embedded(monkeypatch):
    def refuse(*_):
        raise InputError("no", reason="no_content")

    monkeypatch.setattr("edge_oneshot_device.door.approach.require_content", refuse)
    door = Door(patience=1.0)
    assert door.see(Person(1), seconds=3) == ["appeared", "unusable"]
    assert door.embedded == []


def test_a_face_that_is_gone_before_it_was_usable_has_left():
    door = Door()
    door.see(Person(1, fault="face_blurred"), seconds=0.5)
    assert door.see(seconds=3) == ["left"]
    assert door.attempts == []


def test_what_was_usable_counts_though_the_face_is_out_of_sight():
    door = Door()
    door.see(Person(1), seconds=0.2)
    assert door.see(seconds=3) == ["ready", "left"]
    assert door.attempts == [1]


# the end


def test_time_without_frames_is_no_time_out_of_sight():
    door = Door()
    door.see(Person(1, 400), seconds=2)
    door.now += 60.0  # a challenge, or the camera was lost
    door.see(Person(1, 900), seconds=10)
    assert door.attempts == [1]


def test_a_bundle_without_faces_is_refused():
    with raises(InputError, reason="no_faces"):
        Approaches(SimpleNamespace(faces=None), ApproachSection(), LEAST)


def test_the_score_of_a_cosine_probe_is_the_mean_of_its_frames_scores():
    rng = np.random.default_rng(0)
    views = [one / np.linalg.norm(one) for one in rng.normal(size=(5, 8)).astype(np.float32)]
    others = rng.normal(size=(9, 8)).astype(np.float32)
    assert others @ fuse(views, "cosine") == pytest.approx(np.mean([others @ view for view in views], axis=0), abs=1e-5)
    assert np.linalg.norm(fuse(views, "cosine")) < 1


def test_a_euclidean_probe_is_the_frame_that_is_most_like_all_others():
    views = [np.array(one, np.float32) for one in ((0, 0), (9, 9), (1, 0), (2, 0))]
    assert fuse(views, "euclidean").tolist() == [1, 0]


def test_who_is_far_away_is_not_looked_at_and_who_comes_near_is():
    door = Door(nearness=50)
    assert door.see(Person(1, size=45.0), seconds=3) == []
    assert door.embedded == []
    assert door.see(Person(1, size=55.0), seconds=2) == ["appeared", "ready"]

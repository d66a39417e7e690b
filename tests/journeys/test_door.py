"""A door from one photo to the lock: a bundle, one person enrolled, and what walks up to the camera.

First the device's own program, in real time, with a video in place of the camera, a sound file in place of the
microphone, gpiozero's mock in place of the relay, and a real broker. Then the same loop with the challenge, which a
video cannot answer: the camera renders who acts before it, a frame every eighth of a second of a clock of its own, and
the lock is a list of what it was told.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_oneshot.demo.door import ENROLLED
from edge_oneshot.demo.door_scenes import Portrait, Visit, plain_room, play, write_video
from edge_oneshot.demo.folder import MARKER
from edge_oneshot.faces.inputs import face_files, face_input
from edge_oneshot.faces.packages import ASTRONAUT, HOPPER, read_package_file
from edge_oneshot_device import Recognizer
from edge_oneshot_device.audio.sound_file import to_wav
from edge_oneshot_device.door.approach import Approaches
from edge_oneshot_device.door.camera import Frame
from edge_oneshot_device.door.configuration import DoorConfig, SecondFactorSection
from edge_oneshot_device.door.journal import Journal
from edge_oneshot_device.door.loop import Door, Parts, Told
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.faces.finding import PHOTO_SIDE, FaceFinder
from tests.campaigns.liveness import person_in
from tests.campaigns.rendering.acting import ATTACKS, Actor, genuine
from tests.campaigns.rendering.people import Person
from tests.campaigns.rendering.scene import Scene
from tests.device.door.board import Board
from tests.device.door.outgoing import MOSQUITTO, Listener, a_broker, a_listener
from tests.device.door.waiting import wait_until
from tests.samples.recordings import NOISE, RATE, spoken, tiny_speech_section, word
from tests.samples.tiny import bundle_maker, draw_people
from tests.scenes import portrait_of

PROGRAMS = Path(sys.executable).parent
RELAY = 17
TOPIC = "edge-oneshot/door"
STEP = 0.125  # seconds between rendered frames

Walk = Callable[..., list[dict[str, Any]]]


def run(*command: object, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{command}: {done.returncode}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def bundle(faces_bundle: Path) -> Path:
    return faces_bundle


@pytest.fixture(scope="module")
def portraits(bundle: Path) -> tuple[Portrait, Portrait]:  # noqa: ARG001 (skips)
    """Who is enrolled, and a stranger."""
    section = face_input()
    finder = FaceFinder(face_files(), section, section.face)
    photos = (load_photo(read_package_file(file), PHOTO_SIDE) for file in (ASTRONAUT, HOPPER))
    known, stranger = (portrait_of(photo, finder) for photo in photos)
    assert known is not None
    assert stranger is not None
    return known, stranger


@pytest.fixture(scope="module")
def place(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """State and key of a device on which one person is enrolled from one photo."""
    folder = tmp_path_factory.mktemp("device")
    options = ("--state", str(folder / "state"), "--key", str(folder / "key"))
    (folder / "photo.png").write_bytes(read_package_file(ASTRONAUT))
    run(PROGRAMS / "edge-oneshot-device", "init", bundle, *options)
    run(PROGRAMS / "edge-oneshot-device", "enrol", ENROLLED, folder / "photo.png", *options)
    return options


@pytest.fixture
def board(tmp_path: Path) -> Board:
    folder = tmp_path / "board"
    folder.mkdir()
    return Board(folder)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[Listener, int]]:
    if MOSQUITTO is None:
        pytest.skip("no broker is installed")
    with a_broker(tmp_path) as broker, a_listener(broker) as listener:
        yield listener, broker.port


@pytest.fixture
def walk(place: tuple[str, ...], board: Board, tmp_path: Path) -> Walk:
    """Plays a scene to a door; returns the lines that `run` printed."""

    def walk(
        visits: Sequence[Visit], seconds: float, mode: str = "off", port: int = 0, more: str = ""
    ) -> list[dict[str, Any]]:
        scene = play(visits, plain_room(700, 525), seconds, frames_per_second=10.0)
        write_video(tmp_path / "door.avi", (frame for _, frame in scene), 10.0)
        config = f"""
            camera.source = {json.dumps(str(tmp_path / "door.avi"))}
            second_factor = {{ mode = "{mode}", seconds = 5.0 }}
            lock = {{ kind = "gpio", pulse = 1.0, relay.pin = {RELAY} }}
            mqtt = {{ host = "{"127.0.0.1" if port else ""}", port = {port or 1883}, tls = false, topic = "{TOPIC}" }}
            {more}
        """
        (tmp_path / "door.toml").write_text(config)
        command = (PROGRAMS / "edge-oneshot-device", "run", "--config", tmp_path / "door.toml", "--json", *place)
        printed = run(*command, environment=board.environment(os.environ))
        return [json.loads(line) for line in printed.splitlines()]

    return walk


def entered(lines: list[dict[str, Any]], state: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["state"] == state]


def test_the_lock_opens_for_who_is_enrolled_and_not_for_a_stranger(walk, portraits, board, listener, place):
    known, stranger = portraits
    heard, port = listener
    visits = [Visit(known, 1.0, 6.0, seed=1), Visit(stranger, 9.0, 6.0, seed=2)]
    lines = walk(visits, 17.5, port=port)
    opened, refused = entered(lines, "unlocked"), entered(lines, "refused")
    assert [(line["person"], line["reason"]) for line in opened] == [(ENROLLED, "match")]
    assert {(line["person"], line["reason"]) for line in refused} == {(None, "below_threshold")}
    assert lines.index(opened[0]) < lines.index(refused[0])
    assert board.levels(RELAY).count(1) == 1
    assert board.levels(RELAY)[0] == 0
    assert board.levels(RELAY)[-1] == 0
    wait_until(lambda: sum(event["kind"] == "decision" for event in heard.events()) >= 2)
    decisions = [event for event in heard.events() if event["kind"] == "decision"]
    assert [one.get("person") for one in decisions if one["accepted"]] == [ENROLLED]
    assert not decisions[-1]["accepted"]
    numbers = [event["number"] for event in heard.events()]
    assert numbers == sorted(set(numbers))  # in order, and each once
    assert run(PROGRAMS / "edge-oneshot-device", "audit", "--check", *place)


def test_a_held_up_photo_does_not_open_where_a_challenge_is_asked_for(walk, portraits, board):
    lines = walk([Visit(portraits[0], 1.0, 9.0, held_up=True, seed=3)], 11.0, mode="challenge")
    assert entered(lines, "challenged")[0]["person"] == ENROLLED
    assert entered(lines, "refused")
    assert not entered(lines, "unlocked")
    assert 1 not in board.levels(RELAY)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, place: tuple[str, ...]) -> Path:
    """A folder with the gallery of the words, in which the person who is enrolled has one, and what is said."""
    folder = tmp_path_factory.mktemp("words")
    bundle = bundle_maker(folder, draw_people(), tiny_speech_section())()
    quiet = np.random.default_rng(0).normal(0.0, NOISE, RATE // 2)
    for name, seed in (("right", 24), ("wrong", 25)):  # words that the tiny net tells apart
        (folder / f"{name}.wav").write_bytes(to_wav(np.concatenate([quiet, word(seed), quiet]), RATE))
    (folder / "nothing.wav").write_bytes(to_wav(quiet, RATE))
    options = ("--state", folder / "state", *place[2:])
    run(PROGRAMS / "edge-oneshot-device", "init", bundle, "--target-far", "0.05", *options)
    (folder / "enrolled.wav").write_bytes(spoken(24, speaking=1))
    run(PROGRAMS / "edge-oneshot-device", "enrol", ENROLLED, folder / "enrolled.wav", *options)
    return folder


@pytest.mark.parametrize(
    ("said", "state", "reason"),
    [("right", "unlocked", "passed"), ("wrong", "refused", "wrong_word"), ("nothing", "refused", "no_word")],
)
def test_face_and_word_open_together_and_the_face_alone_never(
    walk, portraits, board, place, words, said, state, reason
):
    more = f"word = {{ state = '{words / 'state'}', microphone = '{words / said}.wav' }}"
    lines = walk([Visit(portraits[0], 1.0, 6.5, seed=1)], 8.5, mode="word", more=more)
    after = [(line["state"], line["reason"]) for line in lines if line["state"] not in ("approaching", "idle")]
    assert after == [("challenged", "word"), (state, reason)]
    assert board.levels(RELAY).count(1) == (1 if said == "right" else 0)
    assert run(PROGRAMS / "edge-oneshot-device", "audit", "--check", *place)
    assert run(PROGRAMS / "edge-oneshot-device", "audit", "--check", "--state", words / "state", *place[2:])


def test_an_empty_room_changes_nothing(walk, board):
    assert [line["reason"] for line in walk([], 3.0)] == ["started"]
    assert set(board.levels(RELAY)) == {0}


def test_the_demo_shows_who_is_let_in_and_who_is_not(bundle, tmp_path):
    folder = tmp_path / "demo" / "door"
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    (folder / "faces.oneshot").hardlink_to(bundle)
    lines = [
        json.loads(line)
        for line in run(PROGRAMS / "edge-oneshot", "demo", "--door", "--json", "--out", tmp_path / "demo").splitlines()
    ]
    assert [line["person"] for line in entered(lines, "unlocked")] == [ENROLLED, ENROLLED]
    assert entered(lines, "refused")[0]["reason"] == "below_threshold"


class Guard:
    """A lock that keeps what it was told."""

    fault = None

    def __init__(self) -> None:
        self.told: list[str] = []

    def beat(self) -> None: ...
    def show(self, _state: str) -> None: ...
    def reports(self) -> list[object]:
        return []

    def unlock(self, _seconds: float) -> None:
        self.told.append("unlock")

    def lock(self) -> None:
        self.told.append("lock")


class Stage:
    """A camera, and whoever acts before it: they do what the door asks for."""

    fault = None

    def __init__(self, actor: Actor, numbers: random.Random) -> None:
        self.seconds, self._actor, self._scene = 1000.0, actor, Scene(numbers)
        self.door: Door | None = None

    def newest(self, _timeout: float) -> Frame:
        self.seconds += STEP
        actor, at = self._actor, self.seconds - 1000.0
        assert self.door is not None
        ask = "look" if self.door.factor is None else self.door.factor.prompt
        image = self._scene.frame(actor.person(at), actor.solid(at), actor.pose(ask, at), at)
        return Frame(image, self.seconds, 0)


@pytest.fixture(scope="module")
def people(recognizer: Recognizer) -> list[Person]:
    photos = {"astronaut": ASTRONAUT, "hopper": HOPPER}
    return [person_in(name, read_package_file(file), recognizer.encoder.faces) for name, file in photos.items()]


@pytest.fixture(scope="module")
def recognizer(place: tuple[str, ...]) -> Iterator[Recognizer]:
    _, state, _, key = place
    with Recognizer.open(state, key=key) as recognizer:
        yield recognizer


@pytest.fixture
def act(recognizer: Recognizer) -> Callable[[Actor, random.Random, float], tuple[list[Told], list[str]]]:
    """What a door says and does while somebody acts before it, until it has decided."""

    def act(actor: Actor, numbers: random.Random, seconds: float = 40.0) -> tuple[list[Told], list[str]]:
        config = DoorConfig(second_factor=SecondFactorSection(mode="challenge", seconds=30.0))
        stage, guard, news = Stage(actor, numbers), Guard(), []
        approaches = Approaches(recognizer.encoder, config.approach, recognizer.least_score)
        journal = Journal(recognizer.gallery)
        parts = Parts(recognizer, journal, stage, approaches, guard, lambda: (), None, news.append)
        door = stage.door = Door(config, parts, clock=lambda: stage.seconds)
        while stage.seconds < 1000.0 + seconds and door.machine.state not in ("unlocked", "refused"):
            door.turn()
        return news, guard.told

    return act


def test_whoever_is_enrolled_and_does_what_is_asked_is_let_in(act, people):
    numbers = random.Random("let in")
    told, lock = act(genuine(numbers, people[:1]), numbers)
    assert [(one.change.after, one.person) for one in told if one.change is not None][-2:] == [
        ("challenged", ENROLLED),
        ("unlocked", ENROLLED),
    ]
    assert lock == ["unlock"]


def test_a_stranger_is_not_asked_at_all(act, people):
    numbers = random.Random("stranger")
    told, lock = act(genuine(numbers, people[1:]), numbers)
    assert [one.change.after for one in told if one.change is not None] == ["approaching", "refused"]
    assert lock == []


@pytest.mark.parametrize("kind", ["moved", "bent", "pleated", "cut-out eyes"])
def test_a_photo_in_somebodys_hand_does_not_open(act, people, kind):
    numbers = random.Random(kind)
    told, lock = act(ATTACKS[kind](numbers, people[:1]), numbers)
    assert [one.change.after for one in told if one.change is not None][-2:] == ["challenged", "refused"]
    assert lock == []

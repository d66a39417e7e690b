"""The loop of a door, with everything around it made up: what opens, what locks, what is recorded."""

import msgspec
import numpy as np
import pytest

from edge_oneshot_device.door import loop as door_loop
from edge_oneshot_device.door.configuration import (
    ApproachSection,
    DoorConfig,
    LockSection,
    PinSection,
    SecondFactorSection,
)
from edge_oneshot_device.door.hearing import Utterance
from edge_oneshot_device.door.loop import Door, Parts
from edge_oneshot_device.door.second_factor import Outcome
from edge_oneshot_device.errors import IntegrityError, MachineError

PROBE = np.zeros(4, np.float32)


class Decided(msgspec.Struct, frozen=True):
    person: str | None
    reason: str
    score: float = 0.9
    threshold: float = 0.5

    @property
    def accepted(self):
        return self.person is not None


class Seen(msgspec.Struct, frozen=True):
    signal: str | None = None
    probe: object = None
    frames: int = 0
    reason: str | None = None
    usable_since: float | None = None
    box: tuple[float, float, float, float] | None = (0.0, 0.0, 1.0, 1.0)


READY = Seen("ready", PROBE, 3, usable_since=0.0)
ADA = Decided("ada", "match")
NOBODY = Decided(None, "below_threshold")


class Said(msgspec.Struct, frozen=True):
    kind: str
    text: str = ""


class World:
    """A camera, a lock, a disk and a clock that do as a test says; all that the door asks for is in `log`."""

    def __init__(self, **sections):
        self.now, self.log, self.told = 0.0, [], []
        self.sights, self.decisions, self.said, self.commanded, self.typed = [], [], [], [], []
        self.camera_fault = self.guard_fault = self.fault = None
        self.disk_full = self.ended = False
        self.spoken = 0
        config = DoorConfig(**{"second_factor": SecondFactorSection(mode="off"), **sections})
        parts = Parts(
            recognizer=self,
            journal=Journal(self),
            camera=Camera(self),
            approaches=self,
            guard=Guard(self),
            commands=lambda: self._take("commanded"),
            keypad=Keypad(self),
            tell=self.told.append,
            words=self,
            hearing=Hearing(self),
        )
        self.door = Door(config, parts, clock=lambda: self.now)

    def _take(self, name):
        taken = getattr(self, name)
        setattr(self, name, [])
        return taken

    # of the recognizer
    def identify_probe(self, _probe, **_):
        decision = self.decisions.pop(0)
        if isinstance(decision, Exception):
            raise decision
        self.log.append(f"decided {decision.reason}")
        return decision

    @property
    def gallery(self):
        return self

    # of the approaches
    def see(self, _frame):
        return self.sights.pop(0) if self.sights else Seen()

    def turn(self, *sights, seconds=0.1, decisions=()):
        self.sights += sights
        self.decisions += decisions
        for _ in range(max(1, len(sights))):
            self.now += seconds
            self.door.turn()
        return self.door.machine.state


class Journal:
    def __init__(self, world):
        self.world, self.fault, self.waiting = world, None, []

    def change(self, change, reason, person):
        if "approaching" in (change.after, change.after == "idle" and change.before):
            return True
        self.waiting.append(f"recorded {change.after} {reason} {person}")
        self.flush()
        return not self.waiting

    def alarm(self, kind, _text):
        self.world.log.append(f"alarm {kind}")

    def command(self, _command):
        return not self.world.disk_full

    def flush(self):
        self.fault = "the disk is full" if self.world.disk_full else None
        if self.fault is None:
            self.world.log += self.waiting
            self.waiting = []

    def withdraw(self):
        self.waiting.pop()


class Camera:
    def __init__(self, world):
        self.world = world

    @property
    def fault(self):
        return self.world.camera_fault

    @property
    def ended(self):
        return self.world.ended

    def newest(self, _timeout):
        if self.world.ended:
            return None
        return msgspec.defstruct("Frame", ["image", "seconds"])(None, self.world.now)


class Keypad:
    fault = None

    def __init__(self, world):
        self.world = world

    def keys(self):
        return self.world._take("typed")


class Hearing:
    fault = None

    def __init__(self, world):
        self.world, self.asked = world, False

    def utterances(self, *, asked):
        self.asked = asked
        return [Utterance(PROBE, self.world.now) for _ in range(self.world.spoken)] if asked else []


class Guard:
    def __init__(self, world):
        self.world = world

    @property
    def fault(self):
        return self.world.guard_fault

    def reports(self):
        return self.world._take("said")

    def beat(self):
        pass

    def show(self, state):
        pass

    def unlock(self, seconds):
        self.world.log.append(f"unlock {seconds}")

    def hold(self):
        self.world.log.append("hold")

    def lock(self):
        self.world.log.append("lock")


def opened(world):
    return [entry for entry in world.log if entry.startswith(("unlock", "hold"))]


def test_a_start_is_recorded_and_told_as_locked():
    world = World()
    world.door.start()
    assert world.log == ["recorded idle started None"]
    assert [(told.change.after, told.reason) for told in world.told] == [("idle", "started")]


def test_somebody_enrolled_gets_in_once_and_the_door_locks_again():
    world = World(lock=LockSection(pulse=3.0))
    assert world.turn(Seen("appeared")) == "approaching"
    assert world.turn(READY, decisions=[ADA]) == "unlocked"
    assert world.turn(seconds=2.9) == "unlocked"
    assert world.turn(seconds=0.2) == "idle"
    assert world.log == [
        "decided match",
        "recorded unlocked match ada",
        "unlock 3.0",
        "lock",
        "recorded idle timeout None",
    ]


def test_a_stranger_is_refused_with_the_reason_and_nothing_opens():
    world = World()
    assert world.turn(Seen("appeared"), READY, decisions=[NOBODY]) == "refused"
    assert world.turn(seconds=3.1) == "idle"
    assert world.log == [
        "decided below_threshold",
        "recorded refused below_threshold None",
        "recorded idle timeout None",
    ]


def test_a_face_that_cannot_be_used_is_refused_with_the_gates_reason():
    world = World()
    assert world.turn(Seen("appeared"), Seen("unusable", reason="too_dark")) == "refused"
    assert world.log == ["recorded refused too_dark None"]


def test_somebody_who_leaves_before_the_decision_is_not_recorded():
    world = World()
    assert world.turn(Seen("appeared"), Seen("left")) == "idle"
    assert world.log == []


def test_the_time_from_the_first_usable_frame_is_told():
    world = World()
    world.turn(Seen("appeared"), Seen("ready", PROBE, 3, usable_since=0.05), decisions=[ADA])
    assert world.told[-1].seconds == pytest.approx(0.15)


def test_what_cannot_be_recorded_does_not_open_and_the_door_works_when_there_is_room():
    world = World()
    world.disk_full = True
    assert world.turn(Seen("appeared"), READY, decisions=[ADA]) == "faulty"
    assert opened(world) == []
    assert world.door.fault == "the disk is full"
    world.disk_full = False
    assert world.turn() == "idle"
    assert world.turn(Seen("appeared"), READY, decisions=[ADA]) == "unlocked"


@pytest.mark.parametrize(
    "error",
    [MachineError("the runtime failed", reason="runtime_failed"), IntegrityError("altered", reason="gallery_altered")],
)
def test_a_runtime_or_a_gallery_that_fails_opens_nothing_and_is_tried_again(error):
    world = World()
    assert world.turn(Seen("appeared"), READY, decisions=[error]) == "faulty"
    assert world.turn(seconds=1.0) == "faulty"
    assert world.turn(seconds=1.5) == "idle"
    assert opened(world) == []
    assert world.turn(Seen("appeared"), READY, decisions=[ADA]) == "unlocked"


def test_a_lost_camera_is_a_fault_until_it_is_back():
    world = World()
    world.camera_fault = "no frame for 3 s"
    assert world.turn() == "faulty"
    world.camera_fault = None
    assert world.turn() == "idle"


def test_an_open_door_is_not_locked_early_by_a_lost_camera_but_by_a_lost_guard():
    world = World()
    world.turn(Seen("appeared"), READY, decisions=[ADA])
    world.camera_fault = "no frame for 3 s"
    assert world.turn() == "unlocked"
    world.guard_fault = "the guard has ended"
    assert world.turn() == "faulty"
    assert world.log[-2:] == ["lock", "recorded faulty the guard has ended None"]


def test_the_exit_button_opens_in_a_faulty_door_too():
    world = World()
    world.camera_fault = "no frame for 3 s"
    world.turn()
    world.said = [Said("exit_pressed")]
    assert world.turn() == "unlocked"
    assert world.turn(seconds=3.1) in ("idle", "faulty")
    assert world.turn() == "faulty"


def test_the_exit_button_opens_on_a_full_disk_and_is_recorded_when_there_is_room():
    world = World(lock=LockSection(pulse=3.0))
    world.disk_full = True
    world.said = [Said("exit_pressed")]
    assert world.turn() == "unlocked"
    assert world.turn(seconds=3.1) in ("idle", "faulty")
    world.disk_full = False
    world.turn()
    assert "recorded unlocked exit_pressed None" in world.log


@pytest.mark.parametrize(("seconds", "state"), [(4.0, "unlocked"), (6.0, "refused")])
def test_nobody_is_let_in_by_what_was_seen_before_the_program_hung(seconds, state):
    world = World()

    def hang(_probe, **_):
        world.now += seconds
        return ADA

    world.identify_probe = hang
    assert world.turn(Seen("appeared"), READY) == state
    assert opened(world) == (["unlock 3.0"] if state == "unlocked" else [])


def test_a_door_is_held_and_released_by_command_and_not_for_ever():
    world = World(lock=LockSection(hold_at_most=60.0))
    world.commanded = ["hold"]
    assert world.turn() == "held"
    world.commanded = ["release"]
    assert world.turn() == "idle"
    world.commanded = ["hold"]
    world.turn()
    assert world.turn(seconds=61.0) == "idle"
    assert world.log == [
        "recorded held command None", "hold", "lock", "recorded idle command None",
        "recorded held command None", "hold", "lock", "recorded idle timeout None",
    ]  # fmt: skip


def test_an_alarm_is_recorded():
    world = World()
    world.said = [Said("forced", "the door is open and was not unlocked")]
    world.turn()
    assert world.log == ["alarm forced"]


def test_a_second_person_at_an_open_door_is_decided_and_only_an_acceptance_renews_the_pulse():
    world = World(lock=LockSection(pulse=3.0))
    world.turn(Seen("appeared"), READY, decisions=[ADA])
    assert world.turn(Seen("appeared"), READY, decisions=[NOBODY]) == "unlocked"
    assert world.turn(Seen("appeared"), READY, seconds=1.0, decisions=[ADA]) == "unlocked"
    assert world.turn(seconds=2.9) == "unlocked"
    assert len(opened(world)) == 2


class Factor:
    prompt = "look"
    overdue = "timeout"

    def __init__(self, recognizer, person):
        self.person, self.outcomes, self.pressed, self.heard = person, [], [], []
        recognizer.factor = self

    def see(self, _frame):
        return self.outcomes.pop(0) if self.outcomes else None

    def press(self, keys):
        self.pressed += keys

    def hear(self, utterance):
        self.heard.append(utterance)
        return self.outcomes.pop(0) if self.outcomes else None


@pytest.fixture
def challenged(monkeypatch):
    monkeypatch.setattr(door_loop, "ChallengeFactor", Factor)
    world = World(second_factor=SecondFactorSection(mode="challenge", seconds=20.0))
    assert world.turn(Seen("appeared"), READY, decisions=[ADA]) == "challenged"
    assert opened(world) == []
    return world


def test_a_challenge_that_is_passed_opens(challenged):
    challenged.factor.outcomes = [Outcome(True, "passed")]
    assert challenged.turn() == "unlocked"
    assert "recorded unlocked passed ada" in challenged.log


def test_a_challenge_over_which_the_program_hung_lets_nobody_in(challenged):
    def hang(_frame):
        challenged.now += 6.0
        return Outcome(True, "passed")

    challenged.factor.see = hang
    challenged.turn()
    challenged.guard_fault = "the loop gave no sign of life for 5 seconds: the lock is locked"
    assert challenged.turn() == "faulty"
    assert opened(challenged) == []


def test_a_challenge_that_fails_refuses_with_its_reason(challenged):
    challenged.factor.outcomes = [Outcome(False, "another_face")]
    assert challenged.turn() == "refused"
    assert opened(challenged) == []


def test_a_challenge_ends_with_its_time(challenged):
    assert challenged.turn(seconds=20.5) == "refused"
    assert challenged.door.factor is None
    assert opened(challenged) == []


def test_a_fault_ends_a_challenge(challenged):
    challenged.camera_fault = "no frame for 3 s"
    assert challenged.turn() == "faulty"
    challenged.camera_fault = None
    challenged.factor.outcomes = [Outcome(True, "passed")]
    assert challenged.turn() == "idle"
    assert opened(challenged) == []


def test_somebody_who_comes_while_the_door_is_open_is_challenged_when_it_is_locked(challenged):
    challenged.factor.outcomes = [Outcome(True, "passed")]
    challenged.turn()
    assert challenged.turn(Seen("appeared"), READY) == "unlocked"
    assert challenged.turn(seconds=3.1, decisions=[Decided("bob", "match")]) == "challenged"
    assert challenged.factor.person == "bob"


@pytest.mark.parametrize(("score", "state"), [(0.55, "challenged"), (0.61, "unlocked")])
def test_a_challenge_when_close_is_asked_near_the_threshold(monkeypatch, score, state):
    monkeypatch.setattr(door_loop, "ChallengeFactor", Factor)
    world = World(second_factor=SecondFactorSection(mode="challenge_when_close", close=0.1))
    assert world.turn(Seen("appeared"), READY, decisions=[Decided("ada", "match", score)]) == state


def test_keys_go_to_the_factor_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(door_loop, "PinFactor", Factor)
    world = World(second_factor=SecondFactorSection(mode="pin"), pin=PinSection(keypad="/dev/input/event0"))
    world.typed = ["1"]
    world.turn(Seen("appeared"), READY, decisions=[ADA])
    world.typed = ["2", "#"]
    world.turn()
    assert world.factor.pressed == ["2", "#"]


@pytest.fixture
def asked(monkeypatch):
    """A door that asks somebody for their word."""
    monkeypatch.setattr(door_loop, "WordFactor", Factor)
    world = World(second_factor=SecondFactorSection(mode="word", seconds=20.0))
    assert not world.door._parts.hearing.asked
    assert world.turn(Seen("appeared"), READY, decisions=[ADA]) == "challenged"
    assert opened(world) == []
    return world


def test_the_right_word_opens_once_and_nothing_is_listened_to_any_more(asked):
    asked.spoken = 1
    asked.factor.outcomes = [Outcome(True, "passed"), Outcome(True, "passed")]
    assert asked.turn() == "unlocked"
    assert asked.door._parts.hearing.asked
    asked.turn()
    assert not asked.door._parts.hearing.asked
    assert len(opened(asked)) == 1
    assert "recorded unlocked passed ada" in asked.log


def test_a_wrong_word_refuses_and_what_is_said_after_it_counts_no_more(asked):
    asked.spoken = 2
    asked.factor.outcomes = [Outcome(False, "wrong_word"), Outcome(True, "passed")]
    assert asked.turn() == "refused"
    assert asked.turn() == "refused"
    assert len(asked.factor.heard) == 1
    assert "recorded refused wrong_word ada" in asked.log
    assert opened(asked) == []


def test_a_bang_is_no_word_and_the_person_may_still_say_it(asked):
    asked.spoken = 1
    assert asked.turn() == "challenged"
    asked.factor.outcomes = [Outcome(True, "passed")]
    assert asked.turn() == "unlocked"


def test_whoever_says_nothing_is_refused_when_the_time_is_over(asked):
    asked.factor.overdue = "no_word"
    assert asked.turn(seconds=20.5) == "refused"
    assert "recorded refused no_word None" in asked.log
    assert opened(asked) == []


def test_a_word_over_which_the_program_hung_lets_nobody_in(asked):
    def hang(_utterance):
        asked.now += 6.0
        return Outcome(True, "passed")

    asked.spoken, asked.factor.hear = 1, hang
    assert asked.turn() == "challenged"
    assert opened(asked) == []


def test_a_microphone_that_fails_makes_the_door_faulty_until_it_works(asked):
    hearing = asked.door._parts.hearing
    hearing.fault = "the microphone gives no sound"
    assert asked.turn() == "faulty"
    assert asked.door.fault == hearing.fault
    hearing.fault, asked.spoken = None, 1
    asked.factor.outcomes = [Outcome(True, "passed")]
    assert asked.turn() == "idle"
    assert opened(asked) == []


def test_a_gallery_of_words_that_fails_makes_the_door_faulty(asked):
    def fail(_utterance):
        raise IntegrityError("the gallery is damaged", reason="gallery_damaged")

    asked.spoken, asked.factor.hear = 1, fail
    assert asked.turn() == "faulty"
    assert opened(asked) == []


def test_a_face_that_is_followed_too_long_is_refused():
    world = World(approach=ApproachSection(patience=1.0, window=0.2))
    world.turn(Seen("appeared"))
    assert world.turn(seconds=3.3) == "refused"
    assert world.log == ["recorded refused timeout None"]


def test_whoever_is_in_view_when_a_video_ends_has_left():
    world = World()
    world.turn(Seen("appeared"))
    world.ended = True
    assert world.turn() == "idle"
    assert world.log == []


def test_a_probe_that_waited_through_a_fault_or_out_of_sight_opens_nothing():
    world = World()
    world.commanded = ["hold"]
    world.turn(Seen("appeared"), READY)
    world.commanded = ["release"]
    world.turn(Seen(box=None), decisions=[ADA])
    assert world.turn(Seen(box=None)) == "idle"
    world.commanded = ["hold"]
    world.turn(Seen("appeared"), READY)
    world.camera_fault = "no frame for 3 s"
    world.turn()
    world.camera_fault, world.commanded = None, ["release"]
    assert world.turn() == "idle"
    assert [entry for entry in world.log if entry.startswith(("unlock", "decided"))] == []

"""What the door hears, with a microphone and a clock that do as a test says."""

import numpy as np
import pytest

from edge_oneshot_device.door import hearing as door_hearing
from edge_oneshot_device.door.hearing import Hearing, require_audio
from edge_oneshot_device.errors import InputError
from tests.raising import raises
from tests.samples.recordings import RATE, speech_section, word
from tests.samples.tiny import tiny_section

TURN = 0.05
QUIET = np.random.default_rng(1).normal(0.0, 0.003, RATE).astype(np.float32)


class FakeMicrophone:
    fault = None

    def __init__(self, _source, _rate):
        self.is_open, self.sound, self.is_closed = False, np.zeros(0, np.float32), False

    def listen(self):
        self.is_open = True

    def rest(self):
        self.is_open = False

    def heard(self):
        return self.sound

    def close(self):
        self.is_closed = True


class Place:
    """A door's hearing, and what sounds before it."""

    def __init__(self):
        self.now, self.prompting = 100.0, False
        self.hearing = Hearing("default", RATE, lambda: self.prompting, clock=lambda: self.now)
        self.microphone = self.hearing._microphone

    def turn(self, sound=QUIET, *, asked=True):
        """Let a sound pass by, in turns of the loop; what is said is not kept where the microphone is closed."""
        said = []
        for block in np.split(sound, range(round(TURN * RATE), len(sound), round(TURN * RATE))):
            self.now += TURN
            self.microphone.sound = block if self.microphone.is_open else np.zeros(0, np.float32)
            said += self.hearing.utterances(asked=asked)
        return said


@pytest.fixture
def place(monkeypatch):
    monkeypatch.setattr(door_hearing, "Microphone", FakeMicrophone)
    return Place()


SAID = np.concatenate([QUIET, word(1), QUIET])


def test_a_word_is_heard_when_one_is_asked_for(place):
    (utterance,) = place.turn(SAID)
    assert place.now - 1.0 < utterance.seconds <= place.now
    assert len(utterance.samples) < 2.8 * RATE


def test_the_microphone_is_open_only_while_a_word_is_asked_for(place):
    assert place.turn(SAID, asked=False) == []
    assert not place.microphone.is_open
    place.turn(QUIET)
    assert place.microphone.is_open
    place.turn(QUIET, asked=False)
    assert not place.microphone.is_open


def test_half_a_word_from_before_is_not_joined_with_what_comes_later(place):
    place.turn(np.concatenate([QUIET, QUIET, word(1)[: RATE // 2]]))
    place.turn(QUIET[: RATE // 10], asked=False)
    assert place.turn(QUIET) == []
    assert len(place.turn(SAID)) == 1


def test_the_door_s_own_prompt_is_not_heard_but_what_is_said_after_it(place):
    place.prompting = True
    assert place.turn(SAID) == []
    assert not place.microphone.is_open
    place.prompting = False
    place.turn(QUIET[: round(0.1 * RATE)])
    assert not place.microphone.is_open  # the room still sounds
    assert len(place.turn(SAID)) == 1


def test_the_tones_of_the_buzzer_are_not_heard(place):
    place.turn(QUIET[: round(0.6 * RATE)])
    assert not place.microphone.is_open
    place.turn(QUIET[: round(0.3 * RATE)])
    assert place.microphone.is_open


def test_it_closes_the_microphone_and_tells_its_fault(place):
    place.microphone.fault = "the microphone default gives no sound"
    with place.hearing as hearing:
        assert hearing.fault == "the microphone default gives no sound"
    assert place.microphone.is_closed


def test_a_bundle_for_images_recognizes_no_words():
    assert require_audio(speech_section()).sample_rate == RATE
    with raises(InputError, reason="no_speech_bundle"):
        require_audio(tiny_section())

"""The gate: what in a stream of sound is an utterance, and what is not."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_oneshot_device.audio.listener import CONTEXT_SECONDS, PAUSE_SECONDS, Listener

RATE = 16000


def quiet(seconds, level=0.001, seed=0):
    return (np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * level).astype(np.float32)


def tone(seconds, hertz=800.0, level=0.2):
    """A tone in a room that is not silent; the gate knows no words."""
    at = np.arange(round(seconds * RATE)) / RATE
    return quiet(seconds, seed=1) + (level * np.sin(2 * np.pi * hertz * at)).astype(np.float32)


def listen(*parts, block=800):
    heard, listener = np.concatenate(parts), Listener(RATE)
    blocks = (heard[first : first + block] for first in range(0, len(heard), block))
    return list(itertools.chain.from_iterable(listener.feed(one) for one in blocks))


def seconds(utterance):
    return len(utterance) / RATE


def test_an_utterance_is_found_with_what_is_before_and_after_it():
    (utterance,) = listen(quiet(2.0), tone(0.6), quiet(1.0))
    assert utterance.dtype == np.float32
    assert seconds(utterance) == pytest.approx(CONTEXT_SECONDS + 0.6 + PAUSE_SECONDS, abs=0.05)
    loud = np.abs(utterance) > 0.1
    assert np.argmax(loud) / RATE == pytest.approx(CONTEXT_SECONDS, abs=0.03)


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=20))
@settings(deadline=None, max_examples=20)
def test_it_does_not_matter_how_the_sound_is_cut_into_blocks(sizes):
    heard = np.concatenate([quiet(1.0), tone(0.5), quiet(1.0), tone(0.3), quiet(1.0)])
    listener, found, first = Listener(RATE), [], 0
    for size in itertools.cycle(sizes):
        found += listener.feed(heard[first : first + size])
        first += size
        if first >= len(heard):
            break
    for one, other in zip(found, listen(heard), strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_utterances_are_two():
    assert len(listen(quiet(1.0), tone(0.4), quiet(1.0), tone(0.4), quiet(1.0))) == 2


def test_a_stop_in_a_word_does_not_end_it():
    (utterance,) = listen(quiet(1.0), tone(0.3), quiet(0.2), tone(0.3), quiet(1.0))
    assert seconds(utterance) > 0.8


def test_silence_is_no_utterance_whether_of_a_room_or_of_a_file():
    assert listen(quiet(5.0)) == []
    assert listen(np.zeros(5 * RATE, np.float32)) == []


def test_a_word_after_the_silence_of_a_file_is_found():
    assert len(listen(np.zeros(RATE, np.float32), tone(0.5), np.zeros(RATE, np.float32))) == 1


@pytest.mark.parametrize("sound", [tone(0.05), tone(2.5)], ids=["click", "music"])
def test_what_is_too_short_or_too_long_for_a_word_is_none(sound):
    assert listen(quiet(1.0), sound, quiet(1.0)) == []


def test_offset_and_mains_hum_are_no_utterance():
    at = np.arange(RATE) / RATE
    hum = (0.3 + 0.3 * np.sin(2 * np.pi * 50.0 * at)).astype(np.float32)
    assert listen(quiet(1.0), hum + quiet(1.0), quiet(1.0)) == []


def test_a_fan_that_starts_becomes_background_and_a_word_above_it_is_heard():
    fan = quiet(6.0, level=0.02, seed=2)
    fan[5 * RATE : 5 * RATE + RATE // 2] += tone(0.5, level=0.3)
    (utterance,) = listen(quiet(2.0), fan, quiet(1.0, level=0.02))
    assert np.max(np.abs(utterance)) > 0.2


def test_what_begins_at_once_is_not_heard_because_nothing_is_known_of_the_background():
    assert listen(tone(0.5), quiet(1.0)) == []


def test_what_was_heard_before_a_reset_is_forgotten():
    listener = Listener(RATE)
    listener.feed(np.concatenate([quiet(1.0), tone(0.4)]))
    listener.reset()
    assert listener.feed(quiet(1.0)) == []


def test_an_utterance_holds_at_most_the_longest_word_and_its_surroundings():
    listener = Listener(RATE)
    for _ in range(30):
        for utterance in listener.feed(np.concatenate([tone(1.9), quiet(0.5)])):
            assert seconds(utterance) <= 2.85
    assert sum(map(len, listener._kept)) <= 2.85 * RATE

"""Whether a recording holds speech."""

import msgspec
import numpy as np
import pytest

from edge_oneshot_device.audio.sound_file import to_wav
from edge_oneshot_device.audio.speech import require_speech
from edge_oneshot_device.encoding.preprocessing import load_image
from edge_oneshot_device.errors import InputError
from tests.samples.recordings import AUDIO, RATE, speech_section, word


def click() -> np.ndarray:
    sound = np.random.default_rng(1).normal(0.0, 0.001, RATE)
    sound[8000:8100] = 0.9
    return sound.astype(np.float32)


NOTHING = {
    "silence": np.zeros(RATE, np.float32),
    "a constant": np.full(RATE, 0.5, np.float32),
    "noise": np.random.default_rng(0).normal(0.0, 0.1, RATE).astype(np.float32),
    "hum": (0.3 * np.sin(2.0 * np.pi * 50.0 * np.arange(RATE) / RATE)).astype(np.float32),
    "a click": click(),
    "a word at -80 dB": word(1) * np.float32(1e-4),
    "one sample": np.ones(1, np.float32),
    "50 ms": word(1)[:800],
}


@pytest.mark.parametrize("what", NOTHING)
def test_recording_without_speech_is_refused(what):
    with pytest.raises(InputError) as caught:
        require_speech(NOTHING[what], AUDIO, "the recording")
    assert caught.value.reason == "no_speech"


def test_a_band_in_which_no_frequency_lies_says_nothing():
    narrow = msgspec.structs.replace(AUDIO, low_hz=101.0, high_hz=149.0)
    with pytest.raises(InputError, match="nothing rises"):
        require_speech(NOTHING["noise"], narrow, "the recording")


def test_recording_without_speech_is_no_input():
    with pytest.raises(InputError) as caught:
        load_image(to_wav(NOTHING["noise"], RATE), speech_section())
    assert caught.value.reason == "no_speech"


@pytest.mark.parametrize("level", [1.0, 0.1, 0.01])
def test_speech_is_found_at_any_usual_level(level):
    require_speech(word(1) * np.float32(level), AUDIO, "the recording")


def test_speech_is_found_on_a_constant_offset():
    require_speech(word(1) + np.float32(0.2), AUDIO, "the recording")


def test_speech_is_found_in_noise_as_loud_as_itself():
    sound = word(1)
    noise = np.random.default_rng(0).normal(0.0, sound.std(), len(sound))
    require_speech((sound + noise).astype(np.float32), AUDIO, "the recording")


@pytest.mark.parametrize("colour", [0, 1, 2])
def test_steady_noise_of_any_colour_is_no_speech(colour):
    """White, pink and brown noise."""
    rng = np.random.default_rng(colour)
    frequencies = np.maximum(np.fft.rfftfreq(10 * RATE), 1.0 / (10 * RATE))
    noise = np.fft.irfft(np.fft.rfft(rng.normal(0.0, 1.0, 10 * RATE)) * frequencies ** (-colour / 2))
    with pytest.raises(InputError):
        require_speech((0.1 * noise / noise.std()).astype(np.float32), AUDIO, "the recording")

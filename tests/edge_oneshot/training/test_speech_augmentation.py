from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_oneshot.data.recordings import speech_input
from edge_oneshot.errors import TrainingError
from edge_oneshot.training.augmentation import DRAWINGS
from edge_oneshot.training.images import oversampled, unvaried
from edge_oneshot.training.presets import PRESETS, preset
from edge_oneshot.training.speech_augmentation import SPEECH, VOICES, SpeechAugmentation, augment_speech

SECTION = speech_input()
STILL = SpeechAugmentation(shift=0.0, speed=0.0, sway=0.0, warp=0.0, response=0.0, noise=(-300.0, -300.0), tilt=0.0)


def vary(spectrogram: np.ndarray, how: SpeechAugmentation, seed: int) -> np.ndarray:
    return augment_speech(spectrogram[None], how, SECTION, np.random.default_rng(seed))[0, ..., 0].astype(int)


@pytest.fixture
def word() -> np.ndarray:
    """A loud block of bands 10 to 29 in frames 40 to 55 of 96, over a background that it exceeds by 47 dB."""
    spectrogram = np.full((40, 96, 1), 55, np.uint8)
    spectrogram[10:30, 40:56] = 255
    return spectrogram


def loud(spectrogram: np.ndarray, axis: int) -> np.ndarray:
    """Bands or frames in which something is as loud as the block."""
    return np.flatnonzero((spectrogram > 155).any(axis=1 - axis))


def test_without_variation_a_spectrogram_is_its_middle(word):
    noise = np.random.default_rng(0).integers(0, 256, (40, 96, 1)).astype(np.uint8)
    noise[0, 40] = 255
    for spectrogram in (word, noise):
        still = vary(spectrogram, STILL, 0)
        assert np.abs(still - unvaried(spectrogram[None], SECTION)[0, ..., 0]).max() <= 1


@given(st.integers(0, 2**32))
@settings(max_examples=30)
def test_a_shift_moves_a_word_as_a_whole_and_by_no_more_than_it_may(seed):
    spectrogram = np.full((40, 96, 1), 55, np.uint8)
    spectrogram[10:30, 40:56] = 255
    shifted = vary(spectrogram, replace(STILL, shift=0.1), seed)
    frames = loud(shifted, 1)
    assert np.array_equal(loud(shifted, 0), np.arange(10, 30))
    assert len(frames) in (15, 16, 17)
    assert np.array_equal(frames, np.arange(frames[0], frames[-1] + 1))
    assert abs(frames.mean() - 31.5) <= 0.1 * 64 + 1


def test_a_shift_brings_in_what_is_beside_the_middle(word):
    word[:, :16] = 200
    shifted = [vary(word, replace(STILL, shift=0.2), seed) for seed in range(20)]
    assert any((spectrogram[:, 0] == 200).all() for spectrogram in shifted)


def test_speed_makes_a_word_longer_or_shorter_within_its_bounds(word):
    lengths = [len(loud(vary(word, replace(STILL, speed=0.3), seed), 1)) for seed in range(60)]
    assert min(lengths) < 14
    assert max(lengths) > 19
    assert min(lengths) >= 16 * np.exp(-0.3) - 1
    assert max(lengths) <= 16 * np.exp(0.3) + 1


def test_a_warp_moves_the_bands_and_leaves_the_frames(word):
    warped = [vary(word, replace(STILL, warp=0.1), seed) for seed in range(60)]
    bands = [loud(spectrogram, 0) for spectrogram in warped]
    assert min(found[0] for found in bands) < 9
    assert max(found[-1] for found in bands) > 30
    assert all(found[0] >= 10 - 5 and found[-1] <= 29 + 5 for found in bands)
    assert all(np.array_equal(loud(spectrogram, 1), np.arange(24, 40)) for spectrogram in warped)


def test_noise_fills_what_is_quieter_than_it_and_leaves_what_is_louder(word):
    noisy = vary(word, replace(STILL, noise=(-30.0, -30.0)), 0)
    block = np.zeros((40, 64), bool)
    block[10:30, 24:40] = True
    assert noisy[block].min() >= 250
    assert abs(noisy[~block].mean() - 255 * (1 - 30 / 60)) < 10


def test_the_loudest_cell_stays_the_measure_of_all_others(word):
    for seed in range(20):
        assert vary(word, SPEECH, seed).max() == 255


def test_silence_stays_without_structure():
    silence = np.zeros((40, 96, 1), np.uint8)
    assert vary(silence, STILL, 0).std() == 0
    assert vary(silence, SPEECH, 0).shape == (40, 64)


def test_the_same_state_gives_the_same_variation_and_each_spectrogram_its_own(word):
    first, again, other = (vary(word, SPEECH, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    batch = augment_speech(np.repeat(word[None], 8, axis=0), SPEECH, SECTION, np.random.default_rng(0))
    assert batch.shape == (8, 40, 64, 1)
    assert batch.dtype == np.uint8
    assert len(np.unique(batch.reshape(8, -1), axis=0)) == 8


def test_of_a_recording_training_gets_more_frames_and_no_other_bands():
    assert oversampled(SECTION) == msgspec.structs.replace(SECTION, width=96)


def test_whose_voice_it_is_stays_at_its_place_along_mel(word):
    how = replace(VOICES, response=0.0, noise=STILL.noise)
    assert all(np.array_equal(loud(vary(word, how, seed), 0), np.arange(10, 30)) for seed in range(20))


def test_a_preset_has_its_name_and_a_recording_one_orientation():
    assert preset("speech") is preset("speech", 1) is SPEECH
    assert preset("drawings", 8) == replace(DRAWINGS, orientations=8)
    with pytest.raises(TrainingError) as caught:
        preset("speech", 4)
    assert caught.value.reason == "wrong_use"
    with pytest.raises(TrainingError, match=f"name one of {', '.join(PRESETS)}") as caught:
        preset("whisper")
    assert caught.value.reason == "bad_augment"

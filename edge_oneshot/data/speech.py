"""Made-up words spoken by made-up voices, in rooms with noise; speech to train on that needs no download.

A set has 20 words and 16 voices of its own, so that to hold it out holds out words and voices. The same recordings are
two data sets: in ``words`` a word is an identity, in ``voices`` a voice is.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from edge_oneshot.data import spoken_cache
from edge_oneshot.data.acoustics import (
    Sound,
    add_noise,
    babble,
    coloured,
    pink_noise,
    reverberated,
    room,
    telephone,
    white_noise,
)
from edge_oneshot.data.archives import Progress
from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.espeak import SAMPLE_RATE, Voice, speak_all, version, voice_folder
from edge_oneshot.data.made_up_speech import Word, draw_voices, draw_words
from edge_oneshot_device.audio.spectrogram import speech_pixels
from edge_oneshot_device.bundle.manifest import InputSection

SETS: Final = 24
WORDS: Final = 20
VOICES: Final = 16

SNR_DB: Final = (10.0, 40.0)

_AROUND_S: Final = (0.15, 0.7)  # what is recorded before a word, and after it
_PEAK: Final = (0.05, 0.9)
_TELEPHONES: Final = 0.15  # share of the recordings
_BANK_S: Final = 6
_AT_ONCE: Final = 2  # processes of espeak-ng

# what is drawn with one seed
_FOR_WORDS, _FOR_VOICES, _FOR_ROOMS, _FOR_FRESH_VOICES, _FOR_FRESH_ROOMS = range(5)


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """Words that voices say.

    Attributes:
        words: The words.
        voices: The voices.
        recordings: For each word, for each voice: float32 (n,) in -1..1 at 16 kHz.
    """

    words: tuple[Word, ...]
    voices: tuple[Voice, ...]
    recordings: tuple[tuple[Sound, ...], ...]


def load_words(
    section: InputSection,
    *,
    sets: int = SETS,
    words: int = WORDS,
    voices: int = VOICES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Dataset:
    """Made-up words: an identity is a word, a group a set of words, and who speaks is the drawer.

    Args:
        section: The encoder's input, with an audio part of 16 kHz.
        sets: Count of the sets; a smaller count has the first sets of a larger one.
        words: Of each set.
        voices: Of each set.
        seed: The same seed, with the same version of espeak-ng, gives the same recordings.
        progress: Called with the recordings done and the recordings in all.

    Raises:
        DataError: ``espeak_missing`` or ``espeak_failed``, see `edge_oneshot.data.espeak.speak_all`.
    """
    names, spoken, images = _load(section, sets, words, voices, seed, progress)
    each = words * voices
    return Dataset(
        name="words",
        images=images,
        labels=np.repeat(np.arange(sets * words, dtype=np.int64), voices),
        identities=tuple(f"{name}/{word.name}" for name, group in zip(names, spoken, strict=True) for word in group),
        groups=np.repeat(np.arange(sets, dtype=np.int64), each),
        group_names=names,
        drawers=np.tile(np.arange(1, voices + 1, dtype=np.int64), sets * words),
    )


def load_voices(
    section: InputSection,
    *,
    sets: int = SETS,
    words: int = WORDS,
    voices: int = VOICES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Dataset:
    """The recordings of `load_words`: an identity is a voice, and the drawer is the word that it says.

    Args and Raises as for `load_words`.
    """
    names, _, images = _load(section, sets, words, voices, seed, progress)
    by_voice = np.arange(len(images)).reshape(sets, words, voices).transpose(0, 2, 1).ravel()
    return Dataset(
        name="voices",
        images=images[by_voice],
        labels=np.repeat(np.arange(sets * voices, dtype=np.int64), words),
        identities=tuple(f"{name}/voice{number:02}" for name in names for number in range(1, voices + 1)),
        groups=np.repeat(np.arange(sets, dtype=np.int64), words * voices),
        group_names=names,
        drawers=np.tile(np.arange(1, words + 1, dtype=np.int64), sets * voices),
    )


def fresh_words(words: int = 10, voices: int = 4, seed: int = 0) -> Spoken:
    """Words and voices that no set has, recorded as theirs are.

    Args:
        words: Count of words; they differ by two phonemes from each other and from all of the data set.
        voices: Count of voices.
        seed: Draws words and voices.

    Raises:
        DataError: As for `load_words`.
    """
    drawn = tuple(draw_words(SETS * WORDS + words, np.random.default_rng([seed, _FOR_WORDS]))[SETS * WORDS :])
    names = [f"fresh{number:02}" for number in range(1, voices + 1)]
    speakers = tuple(draw_voices(names, np.random.default_rng([seed, _FOR_FRESH_VOICES])))
    dry = _synthesised(drawn, speakers)
    rng = np.random.default_rng([seed, _FOR_FRESH_ROOMS])
    return Spoken(drawn, speakers, tuple(map(tuple, _recorded(dry, rng))))


def draw_sets(sets: int, words: int, voices: int, seed: int) -> list[tuple[tuple[Word, ...], tuple[Voice, ...]]]:
    """The words and the voices of each set."""
    drawn = draw_words(sets * words, np.random.default_rng([seed, _FOR_WORDS]))
    found = []
    for number in range(sets):
        names = [f"set{number + 1:02}voice{voice:02}" for voice in range(1, voices + 1)]
        speakers = draw_voices(names, np.random.default_rng([seed, _FOR_VOICES, number]))
        found.append((tuple(drawn[number * words : (number + 1) * words]), tuple(speakers)))
    return found


def _load(
    section: InputSection, sets: int, words: int, voices: int, seed: int, progress: Progress | None
) -> tuple[tuple[str, ...], list[tuple[Word, ...]], NDArray[np.uint8]]:
    """Names and words of the sets, and pictures: set by set, word by word, voice by voice."""
    assert section.audio is not None
    each = words * voices
    images = np.empty((sets * each, *section.shape), np.uint8)
    names = tuple(f"set{number:02}" for number in range(1, sets + 1))
    drawn = draw_sets(sets, words, voices, seed)
    made_by = version()

    def load_set(number: int) -> None:
        group_words, group_voices = drawn[number]
        dry = spoken_cache.read(names[number], group_words, group_voices, made_by)
        if dry is None:
            dry = _synthesised(group_words, group_voices)
            spoken_cache.write(names[number], group_words, group_voices, made_by, dry)
        recordings = _recorded(dry, np.random.default_rng([seed, _FOR_ROOMS, number]))
        for place, sound in enumerate((one for row in recordings for one in row), start=number * each):
            images[place] = speech_pixels(sound, section)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        # after Ctrl-C no further set is begun, because map cancels what is left of it
        for done, _ in enumerate(pool.map(load_set, range(sets)), start=1):
            if progress is not None:
                progress(done * each, len(images))
    return names, [words_of for words_of, _ in drawn], images


def _synthesised(words: tuple[Word, ...], voices: tuple[Voice, ...]) -> list[list[NDArray[np.int16]]]:
    """For each word, what each voice says, without room or noise."""
    texts = [word.text for word in words]
    with voice_folder(voices) as folder:
        by_voice = [speak_all(texts, voice, folder) for voice in voices]
    return [list(row) for row in zip(*by_voice, strict=True)]


def _recorded(dry: list[list[NDArray[np.int16]]], rng: Generator) -> list[list[Sound]]:
    """The recordings: each in a room of its own, with a noise at a ratio and a level of its own."""
    clean = [[sound.astype(np.float32) / 32768.0 for sound in row] for row in dry]
    banks = _noises([sound for row in clean for sound in row], rng)
    return [[_record(sound, banks, rng) for sound in row] for row in clean]


def _record(clean: Sound, banks: tuple[Sound, ...], rng: Generator) -> Sound:
    before, after = (np.zeros(int(rng.uniform(*_AROUND_S) * SAMPLE_RATE), np.float32) for _ in range(2))
    said = reverberated(coloured(clean, rng, SAMPLE_RATE), room(rng, SAMPLE_RATE))
    sound = np.concatenate([before, said, after])
    bank = banks[rng.integers(len(banks))]
    begin = int(rng.integers(len(bank) - len(sound)))
    noisy = add_noise(sound, bank[begin : begin + len(sound)], rng.uniform(*SNR_DB))
    if rng.random() < _TELEPHONES:
        noisy = telephone(noisy, rng, SAMPLE_RATE)
    return noisy * np.float32(rng.uniform(*_PEAK) / np.abs(noisy).max())


def _noises(clean: list[Sound], rng: Generator) -> tuple[Sound, ...]:
    """A few seconds of each noise, of which every recording gets a part; what babbles are the set's own voices."""
    count = _BANK_S * SAMPLE_RATE
    return white_noise(count, rng), pink_noise(count, rng), babble(count, clean, rng)

"""How often a door that asks for a word accepts the right and a wrong one, in the enrolled voice and in another one.

python benchmarks/door_words.py words.oneshot

Made-up words and voices that no training data has (espeak-ng), each take at a speed of its own, in the room of the door
with pink noise. Everything goes the door's way: the gate cuts the utterance out of three seconds of sound, and the
recognizer of an installed bundle verifies it against 1 or 3 enrolled takes (at 30 dB). Synthetic voices repeat
themselves more than people do.
"""

import argparse
import dataclasses
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from edge_oneshot.data.acoustics import add_noise, pink_noise, reverberated, room
from edge_oneshot.data.espeak import SAMPLE_RATE, Voice, speak_all, voice_folder
from edge_oneshot.data.speech import fresh_words
from edge_oneshot_device import Bundle, Recognizer
from edge_oneshot_device.audio.listener import Listener
from edge_oneshot_device.audio.sound_file import to_wav
from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.matching.thresholds import calibration_for, threshold_for

ENROLLED, PROBES = 3, 2
SPEEDS = (0.9, 1.1)
ENROLLED_DB = 30.0
NOISES_DB = (30.0, 10.0)
TARGETS = (0.05, 0.01, 0.001)
SAID = ("right word", "right word, another voice", "wrong word", "wrong word, another voice")

Heard = dict[tuple[int, int, int], bytes]
"""What the door hears of a word, a voice and a take; a take that the gate does not find is missing."""


def takes(words: int, voices: int, seed: int) -> Iterator[tuple[tuple[int, int, int], NDArray[np.float32]]]:
    """Each word by each voice, several times, without room or noise."""
    rng = np.random.default_rng([seed, 0])
    fresh = fresh_words(words, voices, seed)
    with voice_folder(fresh.voices) as folder:
        for place, voice in enumerate(fresh.voices):
            for take in range(ENROLLED + PROBES):
                said: Voice = dataclasses.replace(voice, speed=round(voice.speed * rng.uniform(*SPEEDS)))
                for word, sound in enumerate(speak_all([one.text for one in fresh.words], said, folder)):
                    yield (word, place, take), sound.astype(np.float32) / 32768.0


def hear(dry: dict[tuple[int, int, int], NDArray[np.float32]], snr_db: float, place: NDArray[np.float32],
         rng: Generator) -> Heard:  # fmt: skip
    """The takes as the door hears them."""
    heard = {}
    silence = np.zeros(SAMPLE_RATE, np.float32)
    for key, sound in dry.items():
        said = reverberated(np.concatenate([silence, sound, silence]), place)
        noisy = add_noise(said, pink_noise(len(said), rng), snr_db)
        found = Listener(SAMPLE_RATE).feed(noisy * np.float32(0.3 / np.abs(noisy).max()))
        if len(found) == 1:
            heard[key] = to_wav(found[0], SAMPLE_RATE)
    return heard


def scores(recognizer: Recognizer, heard: Heard, size: tuple[int, int]) -> dict[str, list[float]]:
    """The scores by what is said."""
    found: dict[str, list[float]] = {what: [] for what in SAID}
    for (word, voice, take), content in heard.items():
        if take < ENROLLED:
            continue
        asked = {SAID[0]: [(word, voice)]}
        if take == ENROLLED:
            others = [other for other in range(size[0]) if other != word]
            asked[SAID[1]] = [(word, other) for other in range(size[1]) if other != voice]
            asked[SAID[2]] = [(other, voice) for other in others]
            asked[SAID[3]] = [(other, (voice + 1) % size[1]) for other in others]
        for what, people in asked.items():
            for person in people:
                score = recognizer.verify(name(*person), content).score
                assert score is not None
                found[what].append(score)
    return found


def name(word: int, voice: int) -> str:
    """Who has this word and this voice."""
    return f"word {word} voice {voice}"


def main(bundle: Path, size: tuple[int, int], seed: int) -> None:
    """Print the table."""
    manifest = Bundle.open(bundle).manifest
    dry = dict(takes(*size, seed))
    rng = np.random.default_rng([seed, 1])
    place = room(rng, SAMPLE_RATE)
    enrolled = hear({key: sound for key, sound in dry.items() if key[2] < ENROLLED}, ENROLLED_DB, place, rng)
    probes = {key: sound for key, sound in dry.items() if key[2] >= ENROLLED}
    print("| noise | heard | templates | target FAR | " + " | ".join(SAID) + " |")
    print("|---" * (4 + len(SAID)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, ENROLLED):
            state, key = Path(folder, f"state{count}"), Path(folder, "key")
            install(bundle, state, key=key)
            with Recognizer.open(state, key=key, limits=None) as recognizer:
                for word, voice in itertools.product(range(size[0]), range(size[1])):
                    contents = [enrolled[word, voice, take] for take in range(count)]
                    recognizer.enrol(name(word, voice), *contents, even_if_alike=True)
                for noise in NOISES_DB:
                    heard = hear(probes, noise, place, np.random.default_rng([seed, 2]))
                    found = scores(recognizer, heard, size)
                    calibration = calibration_for(manifest, recognizer.encoder.variant, count)
                    for target in TARGETS:
                        least = threshold_for(calibration, manifest.embedding.metric, target).value
                        shares = [f"{np.mean(np.array(one) >= least):.1%} of {len(one)}" for one in found.values()]
                        there = f"{len(heard)} of {len(probes)}"
                        print(f"| {noise:g} dB | {there} | {count} | {target:g} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--words", type=int, default=8)
    parser.add_argument("--voices", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    main(given.bundle, (given.words, given.voices), given.seed)

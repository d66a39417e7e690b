"""Judge bundles for spoken words, or for voices, on words and voices that no group of the training data has.

    python -m benchmarks.speech words.oneshot words-large.oneshot --out benchmarks/results/speech.json
    python -m benchmarks.speech voices.oneshot --identities voices --out benchmarks/results/speech-voices.json

The words are made up and spoken by espeak-ng; so are the voices, see `edge_oneshot.data.speech.fresh_words`. Every
variant of a bundle embeds the recordings as a device does, through the device's runtime:

- one-shot: 5-, 10- and 20-way tasks, one recording of each word by one voice, the query by another voice; beside it
  the nearest neighbour of spectrograms;
- verification: all pairs of recordings;
- open set: ten words are enrolled with recordings of one or ten voices, and another voice says one of them or a word
  that is not enrolled; the threshold is that of 1 or 5 % of the unknown words;
- noise: the queries of the 20-way tasks in pink noise;
- other recordings: with --sounds, the people and voices of `benchmarks.real_speech`.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.real_speech import flite_words, telephone_words
from benchmarks.research.face_arguments import write_results
from edge_oneshot.data.acoustics import add_noise, pink_noise
from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.loading import load_data
from edge_oneshot.data.recordings import speech_input
from edge_oneshot.data.speech import Spoken, fresh_words
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.audio.spectrogram import speech_pixels
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_export.judging.bounds import mean_interval
from edge_oneshot_export.judging.evaluation import evaluate_episodes, evaluate_verification
from edge_oneshot_export.judging.metrics import threshold_at
from edge_oneshot_export.judging.protocols import Episodes, LabelledImages, one_shot, one_shot_episodes, score_matrix

WAYS: Final = (5, 10, 20)
EPISODES: Final = 2000
ENROLLED: Final = 10
SHOTS: Final = (1, 10)
FALSE_ACCEPTS: Final = (0.01, 0.05)
SNR_DB: Final = (20, 10, 0)

_DRAWS: Final = 100  # of the enrolled words and of who says them
_SIZES: Final = {"words": (60, 16), "voices": (12, 60)}  # words, voices
_TIMED: Final = 200
_SEED: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Embeddings of recordings, and what they are of.

    Attributes:
        rows: float32 (n, d).
        labels: int64 (n,), the identity of each.
        others: int64 (n,), what is not to be told: who says the word, or which word the voice says.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    others: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What the bundles are judged on.

    Attributes:
        spoken: Fresh words and voices.
        fresh: Their pictures.
        noisy: The same in noise, by the signal-to-noise ratio in dB.
        data: The data set, of which the bundles held out some groups.
        others: Other recordings, by name.
    """

    spoken: Spoken
    fresh: LabelledImages
    noisy: dict[str, LabelledImages]
    data: Dataset
    others: dict[str, LabelledImages]


def labelled(spoken: Spoken, images: NDArray[np.uint8], identities: str) -> LabelledImages:
    """Pictures (words * voices, h, w, 1), word by word, with their labels."""
    words, voices = len(spoken.words), len(spoken.voices)
    word, voice = np.repeat(np.arange(words), voices), np.tile(np.arange(voices), words)
    labels, drawers = (word, voice) if identities == "words" else (voice, word)
    names = tuple(one.name for one in (spoken.words if identities == "words" else spoken.voices))
    groups = np.zeros_like(labels)
    return LabelledImages(images, labels, names, groups=groups, group_names=("fresh",), drawers=drawers)


def pictures(spoken: Spoken, section: InputSection, snr_db: float | None = None) -> NDArray[np.uint8]:
    """The recordings as the encoder sees them, in pink noise if told so."""
    rng = np.random.default_rng(_SEED)
    sounds = [sound for row in spoken.recordings for sound in row]
    if snr_db is not None:
        sounds = [add_noise(sound, pink_noise(len(sound), rng), snr_db) for sound in sounds]
    return np.stack([speech_pixels(sound, section) for sound in sounds])


def one_shot_rates(encoder: Encoder, people: LabelledImages) -> dict[str, Any]:
    """Accuracy on N-way tasks, with its interval over identities, and that of the nearest neighbour of pixels."""
    assert people.groups is not None
    largest = max(len(np.unique(people.labels[people.groups == group])) for group in np.unique(people.groups))
    ways = tuple(n for n in WAYS if n <= largest)
    found = evaluate_episodes(encoder, people, protocol="within-alphabet", ways=ways, episodes=EPISODES, seed=_SEED)
    return {
        str(one.ways): {"accuracy": one.accuracy, "interval": one.interval, "spectrograms": one.pixel_accuracy}
        for one in found
    }


def in_noise(encoder: Encoder, clean: Judged, noisy: LabelledImages) -> dict[str, Any]:
    """20-way tasks whose support is as it was recorded and whose query is in noise."""
    episodes = one_shot_episodes(clean.labels, 20, EPISODES, _SEED, drawers=clean.others)
    rows = np.concatenate([clean.rows, encoder.embed_many(noisy.images)])
    moved = Episodes(episodes.support, episodes.query + len(clean.rows), episodes.answer)
    solved = one_shot(rows, moved, encoder.embedding.metric).astype(np.float64)
    return {"accuracy": float(solved.mean()), "interval": mean_interval(solved, clean.labels[episodes.query])}


def open_set(judged: Judged, shots: int, encoder: Encoder) -> dict[str, Any]:
    """Shares of the enrolled words that are accepted as what they are, at rates of accepted unknown words."""
    correct: list[NDArray[np.bool_]] = []
    known: list[NDArray[np.float32]] = []
    unknown: list[NDArray[np.float32]] = []
    owners: list[NDArray[np.int64]] = []
    for draw in range(_DRAWS):
        rng = np.random.default_rng((_SEED, draw))
        words, voices = (rng.permutation(np.unique(one)) for one in (judged.labels, judged.others))
        enrolled, enrolling = words[:ENROLLED], voices[:shots]
        is_enrolling = np.isin(judged.others, enrolling)
        alike = np.stack(
            [
                score_matrix(
                    judged.rows[~is_enrolling],
                    judged.rows[is_enrolling & (judged.labels == word)],
                    encoder.embedding.metric,
                ).mean(axis=1)
                for word in enrolled
            ],
            axis=1,
        )
        asked = judged.labels[~is_enrolling]
        best, is_known = alike.max(axis=1), np.isin(asked, enrolled)
        known.append(best[is_known])
        unknown.append(best[~is_known])
        correct.append((enrolled[alike.argmax(axis=1)] == asked)[is_known])
        owners.append(asked[is_known])
    scores, right, owner = np.concatenate(known), np.concatenate(correct), np.concatenate(owners)
    result: dict[str, Any] = {"queries": len(scores), "unknown": sum(map(len, unknown))}
    for rate in FALSE_ACCEPTS:
        accepted = (right & (scores >= threshold_at(np.concatenate(unknown), rate))).astype(np.float64)
        result[str(rate)] = {"accepted": float(accepted.mean()), "interval": mean_interval(accepted, owner)}
    return result


def milliseconds(encoder: Encoder, spoken: Spoken) -> dict[str, float]:
    """Median and fastest time of an utterance, from samples to the embedding, and of the spectrogram alone."""
    whole, alone = [], []
    sounds = [sound for row in spoken.recordings for sound in row][:_TIMED]
    for sound in sounds:
        began = time.perf_counter()
        picture = speech_pixels(sound, encoder.input)
        drawn = time.perf_counter()
        encoder.embed_many(picture[None])
        whole.append(1000.0 * (time.perf_counter() - began))
        alone.append(1000.0 * (drawn - began))
    return {"median": float(np.median(whole)), "fastest": min(whole), "spectrogram_median": float(np.median(alone))}


def gather(identities: str, section: InputSection, sounds: Path | None) -> Material:
    """Synthesise, load and picture all that the bundles are judged on."""
    spoken = fresh_words(*_SIZES[identities])
    noisy = {str(snr): labelled(spoken, pictures(spoken, section, snr), identities) for snr in SNR_DB}
    others = (telephone_words(section, sounds), flite_words(section)) if sounds is not None else ()
    return Material(
        spoken=spoken,
        fresh=labelled(spoken, pictures(spoken, section), identities),
        noisy=noisy,
        data=load_data(identities, section),
        others={data.name: data.labelled() for data in others},
    )


def variants(bundle: Bundle, material: Material) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each variant of a bundle does."""
    fresh = material.fresh
    assert fresh.drawers is not None
    held_out = material.data.only(bundle.manifest.provenance.held_out).labelled()
    reference = Encoder.open(bundle, "float32")
    for variant in bundle.manifest.variants:
        encoder = Encoder.open(bundle, variant.name)
        judged = Judged(encoder.embed_many(fresh.images), fresh.labels, fresh.drawers)
        beside = None if variant.name == "float32" else reference
        rates = asdict(evaluate_verification(encoder, fresh, beside=beside))
        kept = ("eer", "tpr_at_fpr", "intervals", "changes", "genuine", "impostor")
        yield (
            variant.name,
            {
                "bytes": variant.bytes,
                "fingerprint": encoder.fingerprint,
                "runtime": encoder.runtime,
                "one_shot": one_shot_rates(encoder, fresh),
                "one_shot_held_out": one_shot_rates(encoder, held_out),
                **{f"one_shot_{name}": one_shot_rates(encoder, people) for name, people in material.others.items()},
                "verification": {name: rates[name] for name in kept},
                "open_set": {str(shots): open_set(judged, shots, encoder) for shots in SHOTS},
                "noise": {snr: in_noise(encoder, judged, noisy) for snr, noisy in material.noisy.items()},
                "milliseconds": milliseconds(encoder, material.spoken),
            },
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path, help="BUNDLE.oneshot with the variants int8 and float32")
    parser.add_argument("--identities", choices=tuple(_SIZES), default="words")
    parser.add_argument("--sounds", type=Path, help="folder of Asterisk's sounds, see benchmarks/real_speech.py")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    words, voices = _SIZES[arguments.identities]
    section = speech_input()
    material = gather(arguments.identities, section, arguments.sounds)
    content: dict[str, Any] = {"words": words, "voices": voices, "episodes": EPISODES, "bundles": {}}
    for path in arguments.bundles:
        bundle = Bundle.open(path)
        assert bundle.manifest.input == section
        content["bundles"][path.stem] = {
            "images_seen": bundle.manifest.provenance.images_seen,
            "variants": dict(variants(bundle, material)),
        }
        write_results(arguments.out, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())

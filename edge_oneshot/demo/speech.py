"""The subject of `demo --speech`: made-up words, said by voices of espeak-ng."""

from typing import Final

import numpy as np

from edge_oneshot.data.speech import fresh_words
from edge_oneshot.demo.subject import Fresh, Subject
from edge_oneshot.report import terms
from edge_oneshot.training.options import TrainOptions
from edge_oneshot_device.audio.sound_file import read_sound, to_wav
from edge_oneshot_device.audio.spectrogram import speech_pixels
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_export.judging.protocols import LabelledImages

IMAGES: Final = 200_000
"""Length of the training of the default net for recordings, enough for about 96 % on 20-way tasks."""

FRESH_WORDS: Final = 40
FRESH_VOICES: Final = 12

_ENROLLED: Final = 5


def fresh_utterances(section: InputSection) -> Fresh:
    """Words and voices that no set has; the session takes the first words.

    Args:
        section: The encoder's input.

    Raises:
        DataError: As for `edge_oneshot.data.speech.fresh_words`.
    """
    rate = _sample_rate(section)
    spoken = fresh_words(FRESH_WORDS, FRESH_VOICES)  # the seed of the data set, which keeps them apart from it
    files = [tuple(to_wav(sound, rate) for sound in row[:3]) for row in spoken.recordings[: _ENROLLED + 1]]
    names = [word.name for word in spoken.words]
    enrolled = {name: (one, two, three) for name, (one, two, three) in zip(names, files[:_ENROLLED], strict=False)}
    images = np.stack([speech_pixels(sound, section) for row in spoken.recordings for sound in row])
    labels = np.repeat(np.arange(len(names), dtype=np.int64), len(spoken.voices))
    people = LabelledImages(images, labels, tuple(names))
    source = f"utterances of {len(names)} more words by {len(spoken.voices)} more voices"
    return Fresh(enrolled, names[_ENROLLED], files[_ENROLLED][1], people, source)


def spectrogram(wav: bytes, section: InputSection) -> bytes:
    """The PNG of what an encoder sees of a recording.

    Args:
        wav: A WAV file.
        section: The encoder's input.
    """
    from edge_oneshot.report.figures import spectrogram_png

    return spectrogram_png(speech_pixels(read_sound(wav, _sample_rate(section), "the recording"), section))


def _sample_rate(section: InputSection) -> int:
    assert section.audio is not None
    return section.audio.sample_rate


SPEECH: Final = Subject(
    data="words",
    option="speech",
    title="Edge One-Shot: spoken words, from training to the device",
    summary="A siamese encoder was trained on made-up words in synthesised voices, quantized to 8 bits, and run with "
    "the device's own program. It recognises a word from a single utterance, also when another voice says it. Sets of "
    "words, with voices of their own, are held out of training.",
    terms=terms.UTTERANCES,
    recipe=TrainOptions(images=IMAGES),
    samples="recordings",
    suffix=".wav",
    fresh=fresh_utterances,
    picture=spectrogram,
    further="edge-oneshot train words --out runs/words --minutes 10",
)

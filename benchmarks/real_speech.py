"""Recorded words to judge an encoder of speech on: people at the telephone, and voices modelled after people.

Nothing of it is part of the repository; ``apt install`` brings it:

- ``telephone_words``: two people each say 54 numbers, days and months in Italian, French and Spanish. They are the
  voice prompts of Asterisk: asterisk-core-sounds-it-wav, -fr-wav and -es-wav, asterisk-prompt-it-menardi-wav,
  asterisk-prompt-fr-armelle, asterisk-prompt-es-co (CC BY-SA 3.0 and GPL 2). They are of 8 kHz, so that nothing is
  above 4 kHz; two of the six speakers went through GSM's codec.
- ``flite_words``: four voices of flite (kal16, awb, rms, slt), modelled after recordings of four people; 16 kHz.
"""

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from edge_oneshot.data.dataset import Dataset
from edge_oneshot_device.audio.spectrogram import speech_pixels
from edge_oneshot_device.bundle.manifest import InputSection

SOUNDS: Final = Path("/usr/share/asterisk/sounds")
SPEAKERS: Final = {
    "italian": ("it_IT_m_Carlo", "it_IT_f_Menardi"),
    "french": ("fr_CA_f_June", "fr"),
    "spanish": ("es_MX_f_Allison", "es"),
}
PROMPTS: Final = (
    *(f"digits/{number}" for number in (*range(21), *range(30, 100, 10))),
    *(f"digits/{word}" for word in ("hundred", "thousand", "million", "minus", "today", "tomorrow", "yesterday")),
    *(f"digits/day-{day}" for day in range(7)),
    *(f"digits/mon-{month}" for month in range(12)),
)

FLITE_VOICES: Final = ("kal16", "awb", "rms", "slt")
FLITE_WORDS: Final = (
    "abandon", "balcony", "candle", "dolphin", "elephant", "forest", "guitar", "harvest", "island", "jacket", "kitchen",
    "lantern", "mountain", "needle", "orange", "pepper", "quarter", "river", "sandwich", "turtle", "umbrella", "velvet",
    "window", "yellow", "zebra", "coffee", "diamond", "feather", "garden", "hammer", "marble", "picture", "rocket",
    "silver", "thunder", "village", "whistle", "bottle", "carpet", "open sesame",
)  # fmt: skip


def telephone_words(section: InputSection, sounds: Path = SOUNDS) -> Dataset:
    """The prompts that both speakers of a language have: a word an identity, a language a group, a speaker a drawer.

    Args:
        section: The encoder's input, with an audio part.
        sounds: Asterisk's folder of sounds, of the installed packages or unpacked.
    """
    rows = []
    for language, speakers in SPEAKERS.items():
        for prompt in PROMPTS:
            files = [_prompt(sounds / speaker, prompt) for speaker in speakers]
            if all(files):
                rows += [(language, prompt, place, _read(file)) for place, file in enumerate(files, 1) if file]
    if not rows:
        raise SystemExit(f"{sounds}: no prompts; apt install the packages that the docstring names")
    return _dataset("telephone", section, rows)


def flite_words(section: InputSection, program: str = "flite") -> Dataset:
    """Words said by flite: a word an identity, a voice a drawer, all in one group.

    Args:
        section: The encoder's input, with an audio part.
        program: Path of flite.
    """
    rows = []
    for word in FLITE_WORDS:
        for place, voice in enumerate(FLITE_VOICES, 1):
            command = [program, "-voice", voice, "-t", word, "-o", "/dev/stdout"]
            said = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout[44:]  # behind the WAV header
            rows.append(("flite", word, place, (np.frombuffer(said, "<i2").astype(np.float32) / 32768.0, 16_000)))
    return _dataset("flite", section, rows)


def _prompt(folder: Path, name: str) -> Path | None:
    """The file of a prompt; None where the speaker does not have it."""
    return next((path for suffix in (".wav", ".gsm") if (path := folder / f"{name}{suffix}").is_file()), None)


def _read(path: Path) -> tuple[NDArray[np.float32], int]:
    raw = {"samplerate": 8000, "channels": 1, "format": "RAW", "subtype": "GSM610"} if path.suffix == ".gsm" else {}
    return soundfile.read(path, dtype="float32", **raw)


def _dataset(
    name: str, section: InputSection, rows: Iterable[tuple[str, str, int, tuple[NDArray[np.float32], int]]]
) -> Dataset:
    rows = list(rows)
    assert section.audio is not None
    wanted = section.audio.sample_rate
    images = [speech_pixels(soxr.resample(samples, rate, wanted), section) for *_, (samples, rate) in rows]
    identities = list(dict.fromkeys(f"{group}/{word}" for group, word, _, _ in rows))
    groups = list(dict.fromkeys(group for group, *_ in rows))
    return Dataset(
        name=name,
        images=np.stack(images),
        labels=np.array([identities.index(f"{group}/{word}") for group, word, _, _ in rows], np.int64),
        identities=tuple(identities),
        groups=np.array([groups.index(group) for group, *_ in rows], np.int64),
        group_names=tuple(groups),
        drawers=np.array([drawer for _, _, drawer, _ in rows], np.int64),
    )

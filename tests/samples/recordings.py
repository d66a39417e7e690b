"""Recordings of nobody: tones that rise and fall as words do, and sound files with headers that lie."""

import struct

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.audio.sound_file import to_wav
from edge_oneshot_device.bundle.audio_section import AudioSection
from edge_oneshot_device.bundle.manifest import InputSection

RATE = 16000
AUDIO = AudioSection(sample_rate=RATE, window=512, hop=320, low_hz=60.0, high_hz=7600.0, range_db=60.0)
NOISE = 0.003  # of full scale, behind all that is said


def speech_section(bands: int = 40, frames: int = 64) -> InputSection:
    """The input of an encoder of words: 40 mel bands by 64 frames, 1.3 s."""
    return InputSection(
        height=bands, width=frames, colour="grey", resize="bilinear", mean=(127.5,), scale=(127.5,),
        value_range=(-1.0, 1.0), min_contrast=16, audio=AUDIO,
    )  # fmt: skip


def tiny_speech_section() -> InputSection:
    """The input of the tiny models, 8 x 8, as 8 mel bands by 8 frames: 1.2 s of a recording."""
    audio = AudioSection(sample_rate=RATE, window=512, hop=2560, low_hz=60.0, high_hz=7600.0, range_db=60.0)
    return InputSection(
        height=8, width=8, colour="grey", resize="box", mean=(127.5,), scale=(127.5,), value_range=(-1.0, 1.0),
        min_contrast=16, audio=audio,
    )  # fmt: skip


def word(seed: int, seconds: float = 1.0, rate: int = RATE, speaking: int = 0) -> NDArray[np.float32]:
    """float32 (n,): three syllables of a seed between silences, in faint noise; `speaking` is another utterance."""
    rng = np.random.default_rng(seed)
    pitches = rng.uniform(150.0, 3000.0, (3, 3))
    time = np.arange(round(seconds * rate)) / rate
    sound = np.random.default_rng((seed, speaking)).normal(0.0, NOISE, len(time))
    for number, tones in enumerate(pitches):
        shape = np.exp(-(((time / seconds - 0.3 - 0.2 * number) / 0.06) ** 2))
        sound += 0.1 * shape * np.sin(2.0 * np.pi * tones[:, None] * time).sum(axis=0)
    return sound.astype(np.float32)


def spoken(seed: int, speaking: int = 0) -> bytes:
    """`word` as a WAV file."""
    return to_wav(word(seed, speaking=speaking), RATE)


def wav(
    data: bytes, *, form: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16, size: int | None = None
) -> bytes:
    """A WAV file with this header, whatever its data is; `size` is the data's, as the header says."""
    frame = channels * bits // 8
    head = struct.pack("<HHIIHH", form, channels, rate, rate * frame & 0xFFFFFFFF, frame & 0xFFFF, bits)
    size = len(data) if size is None else size
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", min(len(body) - len(data) + size, 0xFFFFFFFF)) + body

"""Whether anything is said in a recording: asked at the door, at enrolment and of data alike."""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.audio.spectrogram import hann, mel_filters
from edge_oneshot_device.bundle.audio_section import AudioSection
from edge_oneshot_device.errors import InputError

_QUIET_SHARE: Final = 0.1  # of the frames, that count as background
_BANDS: Final = 8
_RISE_DB: Final = 10.0
_FLOOR_DB: Final = -60.0
_FRAMES_A_SECOND: Final = 50
_NEEDED: Final = 5  # of these frames


def require_speech(samples: NDArray[np.float32], audio: AudioSection, name: str) -> None:
    """Refuse a recording in which nothing rises above the background for long enough to be a word.

    Five frames of 20 ms, not necessarily one after the other, have to be above -60 dB of full scale and, in one of
    eight mel bands, 10 dB above the quietest tenth of the frames. A click is too short for that, and steady noise
    varies less. Bands, because a voice stands out in some of them where noise is as loud as all of it.

    Args:
        samples: float32 (n,), n at least 1, in -1..1, at the section's sample rate.
        audio: Says the sample rate and the range of the bands.
        name: What the error calls the recording.

    Raises:
        InputError: ``no_speech``.
    """
    length = audio.sample_rate // _FRAMES_A_SECOND
    frames = samples[: len(samples) // length * length].reshape(-1, length)
    if len(frames) < _NEEDED:
        message = f"{name} lasts {len(samples) / audio.sample_rate:.2f} s, too short for speech; record it again"
        raise InputError(message, reason="no_speech")
    frames = frames - samples.mean(dtype=np.float64)
    loud = np.square(frames).mean(axis=1) >= 10.0 ** (_FLOOR_DB / 10.0)
    spectrum = np.fft.rfft(frames * hann(length), axis=1)
    filters = mel_filters(_BANDS, msgspec.structs.replace(audio, window=length, hop=length))
    bands = (spectrum.real**2 + spectrum.imag**2) @ filters.T
    background = np.quantile(bands, _QUIET_SHARE, axis=0)
    rises = (bands > 10.0 ** (_RISE_DB / 10.0) * background).any(axis=1)
    if np.count_nonzero(loud & rises) < _NEEDED:
        message = f"{name} holds no speech: nothing rises above its background; speak louder or closer and record again"
        raise InputError(message, reason="no_speech")

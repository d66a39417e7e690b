"""Whether anything is said in a recording: asked at the door, at enrolment and of data alike."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.audio_section import AudioSection
from edge_oneshot_device.errors import InputError

_QUIET_SHARE: Final = 0.1  # of the frames, that count as background
_RISE_DB: Final = 6.0
_FLOOR_DB: Final = -60.0
_FRAMES_A_SECOND: Final = 50
_NEEDED: Final = 5  # of these frames


def require_speech(samples: NDArray[np.float32], audio: AudioSection, name: str) -> None:
    """Refuse a recording in which nothing rises above the background for long enough to be a word.

    The power of frames of 20 ms, without the constant part of the recording, is compared with that of the quietest
    tenth of them. Five frames, not necessarily one after the other, have to be 6 dB above it and above -60 dB of full
    scale. A click is too short for that, and the level of steady noise varies less.

    Args:
        samples: float32 (n,), n at least 1, in -1..1, at the section's sample rate.
        audio: Says the sample rate.
        name: What the error calls the recording.

    Raises:
        InputError: ``no_speech``.
    """
    length = audio.sample_rate // _FRAMES_A_SECOND
    frames = samples[: len(samples) // length * length].reshape(-1, length)
    if len(frames) < _NEEDED:
        message = f"{name} lasts {len(samples) / audio.sample_rate:.2f} s, too short for speech; record it again"
        raise InputError(message, reason="no_speech")
    power = np.square(frames - samples.mean(dtype=np.float64)).mean(axis=1)
    background = float(np.quantile(power, _QUIET_SHARE))
    least = max(background * 10.0 ** (_RISE_DB / 10.0), 10.0 ** (_FLOOR_DB / 10.0))
    if np.count_nonzero(power >= least) < _NEEDED:
        message = f"{name} holds no speech: nothing rises above its background; speak louder or closer and record again"
        raise InputError(message, reason="no_speech")

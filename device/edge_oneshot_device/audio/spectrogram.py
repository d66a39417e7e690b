"""The one preprocessing of speech, from samples to the model's input: the same in training and at the door.

A spectrogram is an 8-bit picture, mel bands from low to high by frames, so that everything behind it is what images
use.
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.audio_section import AudioSection
from edge_oneshot_device.bundle.manifest import InputSection

_QUIET_SHARE: Final = 0.1  # of the frames, that count as background
_TINY: Final = 1e-10


def speech_pixels(samples: NDArray[np.float32], section: InputSection) -> NDArray[np.uint8]:
    """The model's input for a recording: the spectrogram of the part that is centred on the speech.

    Args:
        samples: float32 (n,), n at least 1, in -1..1, at the section's sample rate.
        section: The bundle's input section, with an audio part.

    Returns:
        uint8 (height, width, 1): mel bands, low ones first, by frames; see `log_mel`.
    """
    assert section.audio is not None
    return log_mel(centred(samples, section.audio.samples(section.width), section.audio), section)


def log_mel(samples: NDArray[np.float32], section: InputSection) -> NDArray[np.uint8]:
    """The log-mel spectrogram of exactly as many samples as the input sees.

    The power spectrum of each frame (periodic Hann window, a transform as long as the window) is summed in triangular
    bands, whose edges are equidistant in mel (``2595 log10(1 + f / 700)``, O'Shaughnessy 1987) and whose peak is 1.
    A band is in decibels below the loudest one of all frames: 255 is the loudest, 0 is `range_db` below it and less.
    So the level of the recording does not matter.

    Args:
        samples: float32 (n,), as many as `AudioSection.samples` says of the section's width.
        section: The bundle's input section, with an audio part.

    Returns:
        uint8 (height, width, 1); all 0 for silence.
    """
    audio = section.audio
    assert audio is not None
    frames = np.lib.stride_tricks.sliding_window_view(samples, audio.window)[:: audio.hop]
    spectrum = np.fft.rfft(frames * hann(audio.window), axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    bands = mel_filters(section.height, audio) @ power.T
    loudest = float(bands.max())
    if loudest <= 0.0:
        return np.zeros(section.shape, np.uint8)
    level = 10.0 * np.log10(np.maximum(bands / loudest, _TINY))
    pixels = np.rint(255.0 * np.maximum(1.0 + level / audio.range_db, 0.0))
    return np.ascontiguousarray(pixels.astype(np.uint8)[:, :, None])


def centred(samples: NDArray[np.float32], length: int, audio: AudioSection) -> NDArray[np.float32]:
    """The part of a recording that is centred on its speech, with silence where it reaches beyond the recording.

    The part of this length with the most energy is found first, then the centre of the energy in it that exceeds the
    background (the quietest tenth of its frames).

    Args:
        samples: float32 (n,).
        length: Samples of the part.
        audio: Says what a frame is; the part begins at a multiple of the hop.

    Returns:
        float32 (length,).
    """
    hop = audio.hop
    padded = np.concatenate([samples, np.zeros(-len(samples) % hop, np.float32)])
    energy = np.square(padded, dtype=np.float64).reshape(-1, hop).sum(axis=1)
    span = min(len(energy), length // hop)
    sums = np.concatenate([[0.0], np.cumsum(energy)])
    first = int(np.argmax(sums[span:] - sums[:-span]))
    part = energy[first : first + span]
    above = np.sqrt(np.maximum(part - np.quantile(part, _QUIET_SHARE), 0.0))  # a loud vowel is not all of a word
    middle = float(np.arange(span) @ above / above.sum()) if above.any() else (span - 1) / 2
    start = (first + round(middle)) * hop - length // 2
    result = np.zeros(length, np.float32)
    low, high = max(start, 0), min(start + length, len(samples))
    result[low - start : high - start] = samples[low:high]
    return result


@lru_cache(maxsize=4)
def mel_filters(bands: int, audio: AudioSection) -> NDArray[np.float64]:
    """The triangular filters: float64 (bands, window // 2 + 1)."""
    low, high = (2595.0 * np.log10(1.0 + hertz / 700.0) for hertz in (audio.low_hz, audio.high_hz))
    edges = 700.0 * (10.0 ** (np.linspace(low, high, bands + 2) / 2595.0) - 1.0)
    hertz = np.fft.rfftfreq(audio.window, 1.0 / audio.sample_rate)
    rising = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    return np.asarray(np.maximum(np.minimum(rising, falling), 0.0))


@lru_cache(maxsize=4)
def hann(window: int) -> NDArray[np.float32]:
    """The periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(window) / window)).astype(np.float32)

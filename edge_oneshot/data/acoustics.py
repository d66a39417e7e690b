"""What a room and its noise make of a clean recording; all of it drawn from a generator."""

from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import fftconvolve

_FRAME: Final = 320  # samples
_SPEECH_SHARE: Final = 0.01  # of the loudest frame's power, from which on a frame is speech
_PREDELAY_S: Final = 0.003

Sound = NDArray[np.float32]
"""float32 (n,), in -1..1."""


def add_noise(samples: Sound, noise: Sound, snr_db: float) -> Sound:
    """A recording with noise at a signal-to-noise ratio.

    The level of speech is the mean power of the frames (20 ms at 16 kHz) within 20 dB of the loudest one, so that
    silence around a word does not matter.

    Args:
        samples: float32 (n,).
        noise: float32 (n,).
        snr_db: In decibels.

    Returns:
        float32 (n,); it may leave -1..1.
    """
    power = float(np.mean(np.square(noise, dtype=np.float64)))
    if power == 0.0:
        return samples
    wanted = speech_power(samples) / 10.0 ** (snr_db / 10.0)
    return np.asarray(samples + noise * np.float32(np.sqrt(wanted / power)), np.float32)


def speech_power(samples: Sound) -> float:
    """The mean power of the frames that hold speech, see `add_noise`."""
    padded = np.concatenate([samples, np.zeros(-len(samples) % _FRAME, np.float32)])
    power = np.square(padded, dtype=np.float64).reshape(-1, _FRAME).mean(axis=1)
    return float(power[power >= _SPEECH_SHARE * power.max()].mean())


def reverberated(samples: Sound, response: Sound) -> Sound:
    """A recording in a room: float32, longer by the room's response (m,) less one."""
    return np.asarray(fftconvolve(samples, response), np.float32)


def room(rng: Generator, rate: int) -> Sound:
    """The response of a made-up room: float32 (m,), the direct sound 1 and a decaying noise.

    The reverberation time (60 dB) is 0.1 to 0.5 s, and the direct sound is 2 to 15 dB stronger than all that follows:
    a living room or an entrance, with the speaker half a metre to two metres away. A noise that decays exponentially is
    the usual model of late reverberation (Moorer 1979, About this reverberation business).
    """
    seconds = rng.uniform(0.1, 0.5)
    tail = rng.standard_normal(int(seconds * rate)) * 10.0 ** (-3.0 * np.linspace(0.0, 1.0, int(seconds * rate)))
    tail *= 10.0 ** (-rng.uniform(2.0, 15.0) / 20.0) / np.sqrt(np.sum(np.square(tail)))
    return np.concatenate([[1.0], np.zeros(int(_PREDELAY_S * rate)), tail]).astype(np.float32)


def coloured(samples: Sound, rng: Generator, rate: int) -> Sound:
    """A recording through a made-up mouth and microphone: float32 (n,).

    A spectral slope of -8 to 1 dB an octave above 300 Hz, because speech that is synthesised from formants is brighter
    than people's, and a smooth response within about 6 dB.
    """
    size = next_fast_len(len(samples), real=True)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1.0 / rate), 60.0) / 300.0)
    knots = np.linspace(octaves[0], octaves[-1], 7)
    decibels = rng.uniform(-8.0, 1.0) * np.maximum(octaves, 0.0) + np.interp(octaves, knots, rng.normal(0.0, 2.0, 7))
    return np.asarray(irfft(rfft(samples, size) * 10.0 ** (decibels / 20.0), size)[: len(samples)], np.float32)


def telephone(samples: Sound, rng: Generator, rate: int) -> Sound:
    """A recording as a telephone or a cheap microphone transmits it, from 200-400 to 3,000-3,800 Hz: float32 (n,)."""
    size = next_fast_len(len(samples), real=True)
    hertz = np.fft.rfftfreq(size, 1.0 / rate)
    low, high = rng.uniform(200.0, 400.0), rng.uniform(3000.0, 3800.0)
    gain = 1.0 / np.sqrt((1.0 + (low / np.maximum(hertz, 1.0)) ** 8) * (1.0 + (hertz / high) ** 40))
    return np.asarray(irfft(rfft(samples, size) * gain, size)[: len(samples)], np.float32)


def white_noise(count: int, rng: Generator) -> Sound:
    """Noise with the same power at all frequencies: float32 (count,)."""
    return rng.standard_normal(count, np.float32)


def pink_noise(count: int, rng: Generator) -> Sound:
    """Noise whose power falls with the frequency, as that of most rooms does: float32 (count,)."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1.0))
    return np.asarray(np.fft.irfft(spectrum, count), np.float32)


def babble(count: int, others: list[Sound], rng: Generator) -> Sound:
    """Several people who talk at once: float32 (count,).

    Args:
        count: Samples.
        others: What they say, one after the other, each in a loop of its own.
        rng: Draws who says what.
    """
    noise = np.zeros(count, np.float32)
    for _ in range(6):
        said: list[Sound] = []
        while sum(map(len, said)) < 2 * count:
            one = others[rng.integers(len(others))]
            said.append(one / np.float32(np.sqrt(speech_power(one))))
        begin = rng.integers(count)
        noise += np.concatenate(said)[begin : begin + count]
    return noise

"""From blocks of sound to utterances: a gate on the level above the background. It has neither thread nor device."""

from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

LEAST_SECONDS: Final = 0.15
"""Shorter sounds are clicks and bangs."""
MOST_SECONDS: Final = 2.0
"""Longer sounds are not one word: noise, talk, music."""
PAUSE_SECONDS: Final = 0.4
"""Quiet after which an utterance is over: longer than the stops in a word, which are below 0.2 s."""
CONTEXT_SECONDS: Final = 0.4
"""Kept of what is before and after an utterance, because words begin and end quietly."""
SETTLING_SECONDS: Final = 0.2
"""Heard before the first utterance may begin, to know the background."""

_FRAMES_PER_SECOND: Final = 50
_OPENS: Final = 8.0  # decibels above the background
_CLOSES: Final = 4.0
_QUIETEST: Final = -70.0  # dBFS: what is below is no background, but a microphone that is muted, or silence of a file
_WINDOW: Final = 3.0  # seconds from which the background is taken
_SHARE: Final = 0.2  # of the frames in it that are quieter than the background: speech in it hardly counts
_BAND: Final = (200.0, 4000.0)  # Hz, where vowels are; below are offset and mains hum, which microphones pick up


class Listener:
    """Finds utterances in sound that comes block by block; keeps at most three seconds of it.

    A frame of 20 ms begins an utterance where its level between 200 and 4,000 Hz is 8 dB above the background, and
    continues it while it is 4 dB above. The background is the quantile 0.2 of the levels of the last three seconds
    outside utterances. A sound that lasts longer than `MOST_SECONDS` is no utterance; it becomes background.

    Args:
        sample_rate: Samples a second.
    """

    def __init__(self, sample_rate: int) -> None:
        self._size = sample_rate // _FRAMES_PER_SECOND
        self._window = np.hanning(self._size + 1)[:-1]  # periodic
        hertz = np.fft.rfftfreq(self._size, 1.0 / sample_rate)
        self._band = (hertz >= _BAND[0]) & (hertz <= _BAND[1])
        self.reset()

    def reset(self) -> None:
        """Forget all that was heard."""
        whole = _frames(CONTEXT_SECONDS + MOST_SECONDS + PAUSE_SECONDS)
        self._rest: NDArray[np.float32] = np.zeros(0, np.float32)
        self._kept: deque[NDArray[np.float32]] = deque(maxlen=whole)
        self._levels: deque[float] = deque(maxlen=_frames(_WINDOW))
        self._background = _QUIETEST
        self._length: int | None = None  # frames since an utterance began; None: there is none
        self._loud = 0  # the length at its last loud frame

    def feed(self, samples: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Take the next block.

        Args:
            samples: float32 (n,), any n, in -1..1.

        Returns:
            The utterances that ended in it, with what is before and after each: float32 (n,), at most 2.8 s.
        """
        samples = np.concatenate([self._rest, samples])
        count = len(samples) // self._size
        self._rest = samples[count * self._size :].copy()
        frames = samples[: count * self._size].reshape(count, self._size).copy()
        return [utterance for frame in frames if (utterance := self._take(frame)) is not None]

    def _take(self, frame: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Take a frame; returns the utterance that it ends."""
        level = self._level(frame)
        self._kept.append(frame)
        if self._length is None:
            if len(self._levels) >= _frames(SETTLING_SECONDS) and level >= self._background + _OPENS:
                self._length = self._loud = 1
            else:
                self._learn(level)
            return None
        self._length += 1
        if level >= self._background + _CLOSES:
            self._loud = self._length
        too_long = self._loud > _frames(MOST_SECONDS)
        if too_long:
            self._learn(level)
        if self._length - self._loud < _frames(PAUSE_SECONDS):
            return None
        wanted = _frames(CONTEXT_SECONDS) + self._length
        is_word = self._loud >= _frames(LEAST_SECONDS) and not too_long
        self._length = None
        return np.concatenate([*self._kept][-wanted:]) if is_word else None

    def _learn(self, level: float) -> None:
        """Take the level of a frame as background."""
        self._levels.append(level)
        self._background = max(float(np.quantile(self._levels, _SHARE)), _QUIETEST)

    def _level(self, frame: NDArray[np.float32]) -> float:
        """The level of a frame between the ends of the band, in dB; a sine of full scale has 0."""
        spectrum = np.fft.rfft(frame * self._window)[self._band] / self._size
        power = 32.0 / 3.0 * float(np.sum(spectrum.real**2 + spectrum.imag**2))
        return 10.0 * float(np.log10(max(power, 1e-12)))


def _frames(seconds: float) -> int:
    return round(seconds * _FRAMES_PER_SECOND)

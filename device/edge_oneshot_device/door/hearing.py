"""What the door hears: utterances, while a word is asked for and the door itself is silent."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.audio.listener import Listener
from edge_oneshot_device.audio.microphone import Microphone
from edge_oneshot_device.bundle.audio_section import AudioSection
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.door.inputs import TONE_SECONDS, TONES
from edge_oneshot_device.errors import InputError

_ECHO: Final = 0.2  # seconds after a prompt in which loudspeaker and room still sound
_TONES: Final = 2 * TONES["challenged"] * TONE_SECONDS  # that the buzzer says that a word is asked for


class Utterance(NamedTuple):
    """Something that was said.

    Attributes:
        samples: float32 (n,) in -1..1, with what is before and after it.
        seconds: When it was over at the latest, by the clock of `Hearing`.
    """

    samples: NDArray[np.float32]
    seconds: float


class Hearing:
    """The door's microphone, a context manager. It is open only while a word is asked for.

    The door's own prompt and the tones of its buzzer are no utterances: the microphone is closed meanwhile. What was
    said before does not count.

    Args:
        source: See `Microphone`.
        sample_rate: Samples a second.
        is_prompting: Whether a prompt is being said aloud.
        clock: Seconds, monotonic.

    Raises:
        InputError: As of `Microphone`.
        MachineError: As of `Microphone`.
    """

    def __init__(
        self,
        source: str,
        sample_rate: int,
        is_prompting: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_prompting, self._clock = is_prompting, clock
        self._microphone = Microphone(source, sample_rate)
        self._listener = Listener(sample_rate)
        self._asked: float | None = None  # since when a word is asked for
        self._prompted = 0.0  # when a prompt was last being said

    def __enter__(self) -> Self:
        """The hearing itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the microphone."""
        self._microphone.close()

    @property
    def fault(self) -> str | None:
        """Why the microphone does not work, in one line; None while it does."""
        return self._microphone.fault

    def utterances(self, *, asked: bool) -> list[Utterance]:
        """What was said since the last call; to be called in every turn.

        Args:
            asked: Whether a word is asked for.
        """
        now = self._clock()
        self._asked = None if not asked else now if self._asked is None else self._asked
        if self._is_prompting():
            self._prompted = now
        if self._asked is None or now < max(self._asked + _TONES, self._prompted + _ECHO):
            self._microphone.rest()
            self._listener.reset()
            return []
        self._microphone.listen()
        return [Utterance(samples, now) for samples in self._listener.feed(self._microphone.heard())]


def require_audio(section: InputSection) -> AudioSection:
    """How a recording becomes the input of what recognizes words.

    Args:
        section: The input section of what is installed in the folder `word.state`.

    Raises:
        InputError: Reason ``no_speech_bundle``.
    """
    if section.audio is None:
        message = "word.state has a bundle that takes no recordings: run init there with a bundle for speech"
        raise InputError(message, reason="no_speech_bundle")
    return section.audio

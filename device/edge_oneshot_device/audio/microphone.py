"""The microphone: a thread reads it while it is listened to; one that is lost is opened again."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.audio.listener import Listener
from edge_oneshot_device.audio.sound_captures import (
    BLOCK_SECONDS,
    SoundCapture,
    forget_devices,
    open_capture,
    require_source,
)
from edge_oneshot_device.audio.sound_file import to_wav
from edge_oneshot_device.errors import InputError, MachineError, OneShotError
from edge_oneshot_device.text import one_line

_MOST_SECONDS: Final = 5.0  # of sound that nobody has taken yet; a door that takes none for so long has hung
_PAUSES: Final = (1.0, 5.0)  # seconds before a lost microphone is opened again, at first and at most
_SILENT: Final = 3.0  # seconds without a block after which it is lost
_CLOSING: Final = 2.0  # seconds that a thread which waits for sound is waited for


class Microphone:
    """Reads a microphone in a thread of its own, but only while it is listened to; a context manager.

    At any other time the device is closed, so that nothing is recorded. It is opened for a moment at the start, and
    again after it was lost, to know whether it works: what is heard then is dropped. One that is lost is opened again
    after pauses that grow from 1 to 5 seconds.

    Args:
        source: ``default``, the number of a sound device or a part of its name; or a WAV or FLAC file, which is heard
            in real time from its beginning whenever somebody begins to listen, and then silence.
        sample_rate: Samples a second.

    Raises:
        InputError: ``no_microphone``; or the file cannot be used, see `read_sound`.
        MachineError: ``extra_missing``.
    """

    def __init__(self, source: str, sample_rate: int) -> None:
        require_source(source, sample_rate)
        self._source, self._rate = source, sample_rate
        self._changed = threading.Condition()
        self._blocks: deque[NDArray[np.float32]] = deque(maxlen=math.ceil(_MOST_SECONDS / BLOCK_SECONDS))
        self._round = 0  # counts how often somebody began to listen
        self._is_wanted, self._is_closed, self._works = False, False, False
        self._fault: str | None = None
        self._waits_since: float | None = None  # of the thread, for the next block
        self._thread = threading.Thread(target=self._watch, name="microphone", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """The microphone itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def fault(self) -> str | None:
        """Why it does not work, in one line; None while it does. It is opened again meanwhile."""
        since = self._waits_since
        if self._fault is None and since is not None and time.monotonic() - since > _SILENT:
            return f"the microphone {self._source} gives no sound"
        return self._fault

    def listen(self) -> None:
        """Begin to listen, unless it is listened to already. What was heard before is not returned."""
        with self._changed:
            if not self._is_wanted:
                self._is_wanted = True
                self._round += 1
                self._changed.notify_all()

    def rest(self) -> None:
        """Listen no longer, and forget what was heard."""
        with self._changed:
            self._is_wanted = False
            self._blocks.clear()

    def heard(self) -> NDArray[np.float32]:
        """What was heard since the last call: float32 (n,) in -1..1; of more than five seconds the last ones."""
        with self._changed:
            blocks = [*self._blocks]
            self._blocks.clear()
        return np.concatenate([np.zeros(0, np.float32), *blocks])

    def close(self) -> None:
        """Give the microphone back; closing twice is fine."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(_CLOSING)

    def _watch(self) -> None:
        """The thread: read while somebody listens; try a microphone that does not work until it does."""
        pause = _PAUSES[0]
        while True:
            with self._changed:
                self._waits_since = None
                self._changed.wait_for(lambda: self._is_wanted or self._is_closed or not self._works)
                if self._is_closed:
                    return
                round_ = self._round
                self._waits_since = time.monotonic()
            try:
                with closing(open_capture(self._source, self._rate)) as capture:
                    self._take_all(capture, round_)
                pause = _PAUSES[0]
            except Exception as error:  # drivers raise what they like, and the thread has to go on
                with self._changed:
                    self._works = False
                    self._fault = _fault(self._source, error)
                    self._blocks.clear()
                    if self._changed.wait_for(lambda: self._is_closed, pause):
                        return
                pause = min(2.0 * pause, _PAUSES[1])
                forget_devices(self._source)

    def _take_all(self, capture: SoundCapture, round_: int) -> None:
        """Keep what is heard as long as somebody listens, without a break since `round_`."""
        while True:
            block = capture.read()
            with self._changed:
                self._works, self._fault, self._waits_since = True, None, time.monotonic()
                if self._is_closed or not self._is_wanted or self._round != round_:
                    return
                self._blocks.append(block)


def record_utterance(
    source: str, sample_rate: int, seconds: float = 10.0, *, ready: Callable[[], None] = lambda: None
) -> bytes:
    """Record one utterance, such as a word that somebody says.

    Args:
        source: As of `Microphone`; a file is read as fast as it can be.
        sample_rate: Samples a second.
        seconds: How long somebody may be silent before.
        ready: Is called when the microphone is open.

    Returns:
        A WAV file with what was said and up to 0.4 s before and after it.

    Raises:
        InputError: ``no_word``: nothing was said; ``no_microphone``; or the file cannot be used.
        MachineError: ``extra_missing``, or ``no_microphone``: it cannot be opened or read.
    """
    require_source(source, sample_rate)
    listener = Listener(sample_rate)
    try:
        with closing(open_capture(source, sample_rate, paced=False)) as capture:
            listener.feed(capture.read())
            ready()
            for _ in range(math.ceil(seconds / BLOCK_SECONDS)):
                for utterance in listener.feed(capture.read()):
                    return to_wav(utterance, sample_rate)
    except OneShotError:
        raise
    except Exception as error:  # whatever PortAudio raises
        raise MachineError(_fault(source, error), reason="no_microphone") from error
    message = f"no word was heard within {seconds:g} s: speak louder, closer to the microphone, and one word alone"
    raise InputError(message, reason="no_word")


def _fault(source: str, error: Exception) -> str:
    text = one_line(str(error)) or type(error).__name__
    return f"the microphone {source} does not work: {text}; is it connected, and does no other program use it?"

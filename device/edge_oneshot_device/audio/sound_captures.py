"""What sound is read from: PortAudio for microphones, by the package sounddevice, and sound files in their place."""

import importlib
import time
from contextlib import suppress
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.audio.sound_file import read_sound
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.extras import extra_missing
from edge_oneshot_device.files import read_file

BLOCK_SECONDS: Final = 0.05
"""Length of a block of sound."""
DEFAULT: Final = "default"
"""The system's microphone."""

NO_PORTAUDIO: Final = "a microphone needs the library PortAudio: run apt install libportaudio2"
"""What is said where the library is missing."""

_MAX_FILE_BYTES: Final = 64 << 20
_SUFFIXES: Final = (".wav", ".flac")


class SoundCapture(Protocol):
    """A source of sound, opened."""

    def read(self) -> NDArray[np.float32]:
        """Wait for the next block: float32 (n,) in -1..1."""

    def close(self) -> None:
        """Give the source back."""


class _DeviceCapture:
    """A microphone. One that does not give the wanted sample rate is resampled."""

    def __init__(self, source: str, sample_rate: int) -> None:
        sounddevice = _sounddevice()
        device = None if source == DEFAULT else int(source) if source.isdecimal() else source
        # of 16 bits, because what drivers give as float32 may be no number
        wanted = {"device": device, "channels": 1, "dtype": "int16"}
        self._resampler: Any = None
        rate = sample_rate
        try:
            sounddevice.check_input_settings(samplerate=rate, **wanted)
        except sounddevice.PortAudioError:
            rate = round(sounddevice.query_devices(device, "input")["default_samplerate"])
            self._resampler = importlib.import_module("soxr").ResampleStream(rate, sample_rate, 1, dtype="float32")
        self._size = round(BLOCK_SECONDS * rate)
        self._stream = sounddevice.InputStream(samplerate=rate, **wanted)
        try:
            self._stream.start()
        except BaseException:
            self._stream.close()
            raise

    def read(self) -> NDArray[np.float32]:
        samples: NDArray[np.float32] = self._stream.read(self._size)[0][:, 0] * np.float32(1.0 / 32768.0)
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)
        return samples

    def close(self) -> None:
        self._stream.close()


class _FileCapture:
    """A sound file, from its beginning, then silence."""

    def __init__(self, source: str, sample_rate: int, *, paced: bool) -> None:
        self._samples = read_sound(read_file(source, _MAX_FILE_BYTES), sample_rate, source)
        self._size = round(BLOCK_SECONDS * sample_rate)
        self._start = time.monotonic() if paced else None
        self._blocks = 0

    def read(self) -> NDArray[np.float32]:
        first = self._blocks * self._size
        self._blocks += 1
        if self._start is not None:
            time.sleep(max(0.0, self._start + self._blocks * BLOCK_SECONDS - time.monotonic()))
        samples = self._samples[first : first + self._size]
        return np.concatenate([samples, np.zeros(self._size - len(samples), np.float32)])

    def close(self) -> None:
        pass


def is_sound_file(source: str) -> bool:
    """Whether a source is a sound file in the place of a microphone."""
    return source.lower().endswith(_SUFFIXES)


def require_source(source: str, sample_rate: int) -> None:
    """Check that a source may be one: what reads it is installed; a file can be read.

    Args:
        source: ``default``, the number of a sound device or a part of its name, or a WAV or FLAC file.
        sample_rate: Samples a second that are wanted.

    Raises:
        InputError: ``no_microphone``: it is empty; or the file cannot be used, see `read_sound`.
        MachineError: ``extra_missing``.
    """
    if not source:
        message = f"the microphone has no name: give {DEFAULT}, a number, a part of its name, or a WAV file"
        raise InputError(message, reason="no_microphone")
    if is_sound_file(source):
        _FileCapture(source, sample_rate, paced=False)
    else:
        _sounddevice()


def open_capture(source: str, sample_rate: int, *, paced: bool = True) -> SoundCapture:
    """Open a source. PortAudio's own errors are passed on.

    Args:
        source: As of `require_source`.
        sample_rate: Samples a second that it gives.
        paced: Whether a file gives its sound no faster than it lasts.

    Raises:
        InputError: The file cannot be used.
        MachineError: ``extra_missing``.
    """
    if is_sound_file(source):
        return _FileCapture(source, sample_rate, paced=paced)
    return _DeviceCapture(source, sample_rate)


def forget_devices(source: str) -> None:
    """Have PortAudio look again which devices there are: it knows those alone that there were when it was loaded.

    Args:
        source: Nothing is done for a file. Of a device nothing may be open.
    """
    if is_sound_file(source):
        return
    with suppress(Exception):  # the next opening says what is wrong
        sounddevice = _sounddevice()
        # there is no public call for it
        sounddevice._terminate()
        sounddevice._initialize()


def _sounddevice() -> Any:
    """The package sounddevice.

    Raises:
        MachineError: ``extra_missing``: it, or the library that it loads, is not installed.
    """
    try:
        return importlib.import_module("sounddevice")
    except ImportError as error:
        raise extra_missing("audio") from error
    except OSError as error:
        raise MachineError(NO_PORTAUDIO, reason="extra_missing") from error

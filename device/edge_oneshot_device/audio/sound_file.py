"""From the content of a sound file to samples, and back: WAV of plain PCM through the standard library.

Other WAV, FLAC and other sample rates need the extra `audio`. What a header says is a claim: as many samples are read
as the file has, and never more than `MAX_SECONDS` of them. The time that a crafted file takes is bounded by the worker
process (`edge_oneshot_device.encoding.bounded`) alone, so a file of unknown origin belongs there, through `load_image`.
"""

import importlib
import io
import wave
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.errors import InputError
from edge_oneshot_device.extras import INSTALL

SOUND_FORMATS: Final = "WAV or FLAC"
MAX_SECONDS: Final = 60
_RATES: Final = (8000, 192_000)
_MAX_CHANNELS: Final = 8
_WIDTHS: Final = (1, 2, 3, 4)  # bytes of a sample
_CODECS: Final = ("PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")
_DECODER_FAULTS: Final = (wave.Error, EOFError, RuntimeError, ValueError, TypeError, OSError, AssertionError)


class _Sound(NamedTuple):
    """An open file: what its header says, and a function that reads up to so many frames, (frames, channels)."""

    rate: int
    channels: int
    frames: int
    read: Callable[[int], NDArray[np.float32]]


def read_sound(content: bytes, sample_rate: int, name: str) -> NDArray[np.float32]:
    """The samples of a sound file: the mean of its channels, resampled where it has another rate.

    WAV (PCM of 8 to 32 bits) at `sample_rate` needs nothing but the standard library. WAV of float, A-law and mu-law,
    FLAC and other rates need the extra `audio`; other formats are not read. 1 to 8 channels, 8 to 192 kHz.

    Args:
        content: The file.
        sample_rate: Samples a second of the result.
        name: What an error calls it.

    Returns:
        float32 (n,), n at least 1, in -1..1; `MAX_SECONDS` at most.

    Raises:
        InputError: ``not_a_recording``, ``recording_truncated`` (it has fewer samples than its header says),
            ``recording_too_long`` or ``decoder_missing``.
        MemoryError: There is not enough of it.
    """
    sound = _opened(content, name)
    if not (_RATES[0] <= sound.rate <= _RATES[1] and 1 <= sound.channels <= _MAX_CHANNELS):
        raise _unusable(
            name, f"has {sound.channels} channels of {sound.rate} samples a second; 1 to {_MAX_CHANNELS} channels of"
            f" {_RATES[0]} to {_RATES[1]} are read: convert it",
        )  # fmt: skip
    resample = None
    if sound.rate != sample_rate:
        what = f"has {sound.rate} samples a second, {sample_rate} are needed"
        resample = _extra("soxr", name, what, f"record at {sample_rate} Hz").resample
    samples = _mono(sound, name)
    if not np.isfinite(samples).all():
        raise _unusable(name, "has samples that are not numbers: record it again")
    if resample is not None:
        samples = np.clip(resample(samples, sound.rate, sample_rate), -1.0, 1.0).astype(np.float32, copy=False)
    if not len(samples):
        raise _unusable(name, "has no samples: record it again")
    return samples


def to_wav(samples: NDArray[np.float32 | np.int16], sample_rate: int) -> bytes:
    """A WAV file of 16 bits and one channel.

    Args:
        samples: (n,): float32 in -1..1, what is beyond is clipped; or int16.
        sample_rate: Samples a second.
    """
    if samples.dtype != np.int16:
        samples = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(sample_rate)
        sound.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def _opened(content: bytes, name: str) -> _Sound:
    try:
        if content.startswith(b"RIFF") and content[8:12] == b"WAVE":
            try:
                return _plain(content)
            except wave.Error:
                return _other(content, name, "is a WAV that is not plain PCM, or a damaged one")
        if content.startswith(b"fLaC"):
            return _other(content, name, "is a FLAC")
    except InputError:
        raise
    except EOFError as error:
        raise _truncated(name, "its header is not complete") from error
    except _DECODER_FAULTS as error:
        raise _unusable(name, f"is no {SOUND_FORMATS} file, or a damaged one: save it as one of them") from error
    raise _unusable(name, f"is no {SOUND_FORMATS} file: save it as one of them")


def _plain(content: bytes) -> _Sound:
    """A WAV of PCM."""
    file = wave.open(io.BytesIO(content))  # noqa: SIM115 (closing it frees nothing: the file is in memory)
    width, channels = file.getsampwidth(), file.getnchannels()
    if width not in _WIDTHS:
        raise ValueError(f"samples of {width} bytes")

    def read(frames: int) -> NDArray[np.float32]:
        found = file.readframes(frames)
        usable = len(found) // (width * channels) * (width * channels)
        return _from_pcm(found[:usable], width).reshape(-1, channels)

    return _Sound(file.getframerate(), channels, file.getnframes(), read)


def _from_pcm(data: bytes, width: int) -> NDArray[np.float32]:
    """Little-endian samples of so many bytes, in -1..1; those of one byte are unsigned."""
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128.0) / 128.0
    if width == 2:
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768.0
    wide = np.zeros((len(data) // width, 4), np.uint8)
    wide[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)
    return wide.view("<i4")[:, 0].astype(np.float32) / 2147483648.0


def _other(content: bytes, name: str, what: str) -> _Sound:
    """A FLAC, or a WAV of another coding."""
    soundfile = _extra("soundfile", name, what, "save it as a WAV of 16 bits")
    file = soundfile.SoundFile(io.BytesIO(content))
    if file.subtype not in _CODECS:  # every other decoder is attack surface
        raise ValueError(f"coded as {file.subtype}")

    def read(frames: int) -> NDArray[np.float32]:
        found: NDArray[np.float32] = file.read(frames, dtype="float32", always_2d=True)
        return found

    return _Sound(file.samplerate, file.channels, file.frames, read)


def _mono(sound: _Sound, name: str) -> NDArray[np.float32]:
    """All samples, read a second at a time, because eight channels of a minute would not fit into the worker."""
    blocks: list[NDArray[np.float32]] = []
    total = 0
    try:
        while len(block := sound.read(sound.rate)):
            total += len(block)
            if total > MAX_SECONDS * sound.rate:
                message = f"{name} is longer than {MAX_SECONDS} s, the most that is read: cut it to the speech"
                raise InputError(message, reason="recording_too_long")
            blocks.append(np.clip(block, -1.0, 1.0).mean(axis=1))
    except InputError:
        raise
    except _DECODER_FAULTS as error:
        raise _truncated(name, f"{total} samples can be read") from error
    if total < sound.frames:
        raise _truncated(name, f"its header says {sound.frames} samples, it has {total}")
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _extra(module: str, name: str, what: str, otherwise: str) -> Any:
    """A module of the extra `audio`."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: its C library is missing
        message = f"{name} {what}, for which a decoder is not installed: run {INSTALL['audio']}, or {otherwise}"
        raise InputError(message, reason="decoder_missing") from error


def _unusable(name: str, what: str) -> InputError:
    return InputError(f"{name} {what}", reason="not_a_recording")


def _truncated(name: str, what: str) -> InputError:
    return InputError(f"{name} is damaged or cut short ({what}); use an intact copy", reason="recording_truncated")

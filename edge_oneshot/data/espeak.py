"""Speech from text by espeak-ng, a program for synthesis that is installed beside Python."""

import math
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from edge_oneshot.errors import DataError
from edge_oneshot_device.errors import MachineError

SAMPLE_RATE: Final = 16_000
PROGRAM: Final = "espeak-ng"

_HEADER: Final = 44  # bytes of a WAV header; the sizes in it are not right where the program writes to a pipe
_BREAK_MS: Final = 800  # between two texts of one call
_GAP_S: Final = 0.4  # silence that ends a text; the longest inside a word is about 0.15
_SILENT: Final = 3  # of 32768
_LOUDNESS: Final = "40"  # of 100, at which some voices clip
_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Voice:
    """Who speaks.

    Attributes:
        name: Of the voice; where there are no settings, that of a variant that comes with espeak-ng.
        accent: Language of espeak-ng, such as ``en-gb-scotland``.
        speed: Words a minute.
        settings: Lines of a voice file, see espeak-ng's documentation of voices.
    """

    name: str
    accent: str
    speed: int
    settings: tuple[str, ...] = ()


def speak(text: str, voice: Voice) -> NDArray[np.float32]:
    """One text, spoken.

    Args:
        text: As espeak-ng takes it: words, or the mnemonics of phonemes between ``[[`` and ``]]``.
        voice: Who speaks.

    Returns:
        float32 (n,) in -1..1, at 16 kHz, without silence around it.

    Raises:
        DataError: ``espeak_missing`` or ``espeak_failed``, see `speak_all`.
    """
    with voice_folder([voice]) as folder:
        return speak_all([text], voice, folder)[0].astype(np.float32) / 32768.0


@contextmanager
def voice_folder(voices: Sequence[Voice]) -> Iterator[Path]:
    """A temporary folder that gives espeak-ng these voices besides its own data.

    Raises:
        DataError: Reason ``espeak_missing``: the program is not installed; ``espeak_failed``: it does not say where its
            data is.
        MachineError: Reason ``cannot_write``.
    """
    data = _data_folder()
    with ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-oneshot-voices-")))
            _fill(folder / "espeak-ng-data", data, voices)
        except OSError as error:
            where = error.filename or tempfile.gettempdir()
            message = f"{where}: cannot be written ({error.strerror}); free space or set TMPDIR"
            raise MachineError(message, reason="cannot_write") from error
        yield folder


def speak_all(texts: Sequence[str], voice: Voice, folder: Path) -> list[NDArray[np.int16]]:
    """Texts spoken by one voice, each by itself.

    Args:
        texts: As `speak` takes one.
        voice: Who speaks; one of the folder's.
        folder: From `voice_folder`.

    Returns:
        For each text int16 (n,) at 16 kHz, n at least 1, without silence around it.

    Raises:
        DataError: Reason ``espeak_missing``: the program is not installed; ``espeak_failed``: it refuses, takes longer
            than a minute, or says nothing.
    """
    # each is a paragraph, so that it sounds as it does alone; in calls of their own they take twenty times as long
    parts = _split(*_run(f'\n\n<break time="{_BREAK_MS}ms"/>\n\n'.join(map(escape, texts)), voice, folder))
    if len(parts) != len(texts):
        parts = [_whole(*_run(escape(text), voice, folder)) for text in texts]
    return parts


def version() -> str:
    """The version of espeak-ng, on which the sound depends.

    Raises:
        DataError: As for `voice_folder`.
    """
    found = re.search(r"text-to-speech: (\S+)", _call(["--version"], b"").decode(errors="replace"))
    return found[1] if found else "unknown"


def _data_folder() -> Path:
    said = _call(["--version"], b"").decode(errors="surrogateescape")
    found = re.search(r"Data at: (.+)", said)
    if found is None or not (Path(found[1].strip()) / "voices" / "!v").is_dir():
        message = f"{PROGRAM}: --version names no folder of its data; install espeak-ng 1.50 or later"
        raise DataError(message, reason="espeak_failed")
    return Path(found[1].strip())


def _fill(own: Path, data: Path, voices: Sequence[Voice]) -> None:
    """Make a folder that holds links to all data of espeak-ng, and files of our voices."""
    _link_but(data, own, "voices")
    _link_but(data / "voices", own / "voices", "!v")
    _link_but(data / "voices" / "!v", own / "voices" / "!v")
    for voice in voices:
        if voice.settings:
            lines = ("language variant", f"name {voice.name}", *voice.settings)
            (own / "voices" / "!v" / voice.name).write_text("\n".join(lines) + "\n")


def _link_but(source: Path, target: Path, *left_out: str) -> None:
    """Make a folder that holds links to all that another has, except for some names."""
    target.mkdir()
    for entry in source.iterdir():
        if entry.name not in left_out:
            (target / entry.name).symlink_to(entry)


def _run(text: str, voice: Voice, folder: Path) -> tuple[NDArray[np.int16], int]:
    """What the voice says, and its sample rate."""
    arguments = [
        f"--path={folder}",
        "-v",
        f"{voice.accent}+{voice.name}",
        "-s",
        str(voice.speed),
        "-a",
        _LOUDNESS,
        "-m",
    ]
    content = _call([*arguments, "--stdout", "--stdin"], text.encode())
    if len(content) < _HEADER or content[:4] != b"RIFF":
        raise DataError(f"{PROGRAM}: says nothing as {voice.accent}+{voice.name}", reason="espeak_failed")
    sound = content[_HEADER : len(content) - len(content) % 2]
    return np.frombuffer(sound, "<i2"), int.from_bytes(content[24:28], "little")


def _call(arguments: list[str], text: bytes) -> bytes:
    try:
        answer = subprocess.run(  # noqa: S603 - the text is on stdin, no part of the command
            [PROGRAM, *arguments], input=text, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        message = f"{PROGRAM} is not installed, which speaks the words of the data set; run: apt install espeak-ng"
        raise DataError(message, reason="espeak_missing") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"{PROGRAM}: cannot be run ({error}); install it again", reason="espeak_failed") from error
    if answer.returncode != 0:
        said = answer.stderr.decode(errors="replace").strip().splitlines()
        why = said[-1] if said else f"exit code {answer.returncode}"
        raise DataError(f"{PROGRAM}: {why}; install it again", reason="espeak_failed")
    return answer.stdout


def _split(samples: NDArray[np.int16], rate: int) -> list[NDArray[np.int16]]:
    """The parts between long silences, at 16 kHz."""
    heard = np.flatnonzero(np.abs(samples.astype(np.int32)) > _SILENT)
    if not len(heard):
        return []
    ends = np.flatnonzero(np.diff(heard) > _GAP_S * rate)
    firsts, lasts = heard[np.concatenate([[0], ends + 1])], heard[np.concatenate([ends, [len(heard) - 1]])]
    return [_resampled(samples[first : last + 1], rate) for first, last in zip(firsts, lasts, strict=True)]


def _whole(samples: NDArray[np.int16], rate: int) -> NDArray[np.int16]:
    heard = np.flatnonzero(np.abs(samples.astype(np.int32)) > _SILENT)
    if not len(heard):
        raise DataError(f"{PROGRAM}: says nothing for one of the texts; give it words", reason="espeak_failed")
    return _resampled(samples[heard[0] : heard[-1] + 1], rate)


def _resampled(samples: NDArray[np.int16], rate: int) -> NDArray[np.int16]:
    if rate == SAMPLE_RATE:
        return samples
    common = math.gcd(SAMPLE_RATE, rate)
    sound = resample_poly(samples.astype(np.float64), SAMPLE_RATE // common, rate // common)
    return np.asarray(np.rint(np.clip(sound, -32768, 32767)), np.int16)

"""What espeak-ng said, in the user's cache: about 4 MB a set of words; a file that is damaged is made again."""

import contextlib
import hashlib
import io
import zipfile
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_dir

from edge_oneshot.data.espeak import SAMPLE_RATE, Voice
from edge_oneshot.data.made_up_speech import Word
from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.files import write_atomically

Said = list[list[NDArray[np.int16]]]
"""For each word, for each voice: int16 (n,) at 16 kHz."""

_LONGEST: Final = 10 * SAMPLE_RATE


def cache_folder() -> Path:
    """The folder of the files in the user's cache."""
    return Path(user_cache_dir("edge-oneshot", appauthor=False)) / "speech"


def read(name: str, words: tuple[Word, ...], voices: tuple[Voice, ...], made_by: str) -> Said | None:
    """What is there of a set; None where there is nothing, or it is damaged.

    Args:
        name: Of the set.
        words: Its words.
        voices: Its voices.
        made_by: The version of espeak-ng.
    """
    try:
        with _path(name, words, voices, made_by).open("rb") as file, np.load(file) as content:
            lengths, planes = content["lengths"], content["planes"]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    if lengths.shape != (len(words), len(voices)) or lengths.dtype != np.int32 or planes.dtype != np.uint8:
        return None
    if lengths.min() < 1 or lengths.max() > _LONGEST or planes.shape != (2, int(lengths.sum())):
        return None
    samples = np.cumsum(np.ascontiguousarray(planes.T).view("<i2")[:, 0], dtype=np.int16)
    parts = np.split(samples, np.cumsum(lengths.ravel())[:-1])
    return [parts[row * len(voices) : (row + 1) * len(voices)] for row in range(len(words))]


def write(name: str, words: tuple[Word, ...], voices: tuple[Voice, ...], made_by: str, said: Said) -> None:
    """Keep what a set's voices said, whole or not at all; earlier versions of it are deleted.

    Nothing is kept where the disk does not allow it: it is made again next time.

    Args:
        name: Of the set.
        words: Its words.
        voices: Its voices.
        made_by: The version of espeak-ng.
        said: What to keep.
    """
    path = _path(name, words, voices, made_by)
    lengths = np.array([[len(sound) for sound in row] for row in said], np.int32)
    samples = np.concatenate([sound for row in said for sound in row])
    # differences, and their high and low bytes apart: a third smaller
    planes = np.diff(samples, prepend=np.int16(0)).astype("<i2").view(np.uint8).reshape(-1, 2).T
    content = io.BytesIO()
    np.savez_compressed(content, lengths=lengths, planes=planes)
    with contextlib.suppress(OSError, MachineError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
        for former in path.parent.glob(f"{name}-*.npz"):
            if former != path:
                former.unlink(missing_ok=True)


def _path(name: str, words: tuple[Word, ...], voices: tuple[Voice, ...], made_by: str) -> Path:
    """The name says what was said, by whom, and by which program."""
    digest = hashlib.sha256(repr((made_by, SAMPLE_RATE, words, voices)).encode()).hexdigest()[:16]
    return cache_folder() / f"{name}-{digest}.npz"

"""Google Speech Commands v2 (Warden 2018): 35 words, each said by many people, from the user's own copy.

The folder is the archive as it is unpacked: ``WORD/SPEAKER_nohash_N.wav``, ``testing_list.txt``,
``validation_list.txt``, and ``_background_noise_``, which is left out.
"""

import re
from pathlib import Path
from typing import Final, Literal

import numpy as np

from edge_oneshot.data.archives import Progress, Unreadable, decode, open_archive
from edge_oneshot.data.dataset import Dataset
from edge_oneshot.errors import DataError
from edge_oneshot_device.bundle.manifest import InputSection

Subset = Literal["background", "evaluation"]

TESTING: Final = "testing_list.txt"
_VALIDATION: Final = "validation_list.txt"
_RECORDING: Final = re.compile(r"(?P<word>[^/_][^/]*)/(?P<speaker>[^/]+)_nohash_\d+\.wav")


def is_speech_commands(path: Path) -> bool:
    """Whether a folder has the official lists of Speech Commands."""
    return (path / TESTING).is_file() and (path / _VALIDATION).is_file()


def load_speech_commands(
    path: Path,
    section: InputSection,
    subset: Subset = "background",
    *,
    progress: Progress | None = None,
    unreadable: Unreadable | None = None,
) -> Dataset:
    """Load the words; each is a group of its own, so that words are held out, and the speakers are the drawers.

    The recordings of ``testing_list.txt``, whose speakers are in no other, are the evaluation set; all others, those of
    ``validation_list.txt`` too, are the background. Recordings in which nothing is heard are left out: the crowd that
    made them sent some.

    Args:
        path: The folder.
        section: The encoder's input, for which the recordings are prepared.
        subset: Which recordings.
        progress: Called with the recordings done and the recordings in all.
        unreadable: Called with each other recording that cannot be read, as ``WORD/FILE``, and the reason; it is left
            out. Without it such a recording is an error.

    Raises:
        DataError: ``wrong_kind`` (the encoder takes images), ``too_few_identities``, ``bad_list``, or a recording
            cannot be read.
    """
    if section.kind != "recording":
        message = f"{path}: speech, but the encoder takes {section.kind}s; give data of its kind"
        raise DataError(message, reason="wrong_kind")
    left_out: dict[str, str] = {}

    def leave_out(name: str, reason: str) -> None:
        left_out[name] = reason
        if reason == "no_speech":
            return
        if unreadable is None:
            raise DataError(f"{path / name}: cannot be read ({reason}); use an intact copy", reason=reason)
        unreadable(name, reason)

    with open_archive(path, depth=2) as archive:
        known = {name: match for name in archive.files if (match := _RECORDING.fullmatch(name))}
        try:
            held_back = set(archive.read(TESTING).decode().split())
        except UnicodeDecodeError as error:
            message = f"{path / TESTING}: is no list of files; use an intact copy"
            raise DataError(message, reason="bad_list") from error
        names = [name for name in known if (name in held_back) == (subset == "evaluation")]
        words = sorted({known[name]["word"] for name in names})
        if len(words) < 2:
            message = f"{path}: {len(words)} words in this part of Speech Commands, at least 2 are needed"
            raise DataError(f"{message}; use an intact copy", reason="too_few_identities")
        images = decode(archive, names, section, progress, unreadable=leave_out)
    speakers = sorted({match["speaker"] for match in known.values()})
    place_of = {name: place for place, name in enumerate(speakers)}
    label_of = {word: place for place, word in enumerate(words)}
    labels = np.array([label_of[known[name]["word"]] for name in names], np.int64)
    everything = Dataset(
        name="speech_commands",
        images=images,
        labels=labels,
        identities=tuple(words),
        groups=labels.copy(),
        group_names=tuple(words),
        drawers=np.array([place_of[known[name]["speaker"]] for name in names], np.int64),
    )
    return everything.kept(np.array([name not in left_out for name in names])) if left_out else everything

"""The data sets that go by a name; each is imported when it is loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from edge_oneshot_device.bundle.manifest import InputSection, Licence

if TYPE_CHECKING:
    from edge_oneshot.data.archives import Progress
    from edge_oneshot.data.dataset import Dataset

Loader = Callable[[InputSection, Path | None, "Progress | None"], "Dataset"]
"""From the encoder's input, the user's data folder and a progress callback to the data set."""


Kind = Literal["drawings", "speech"]
"""What an encoder's input is made of; data sets of one kind can be joined."""


@dataclass(frozen=True, slots=True)
class NamedDataset:
    """A data set that goes by a name.

    Attributes:
        kind: What it consists of.
        load: Loads what is trained on.
        load_evaluation: Loads what its publishers keep apart for evaluation, if they do.
        licence: What a bundle says of it; None where there is nothing to say.
    """

    kind: Kind
    load: Loader
    load_evaluation: Loader | None = None
    licence: Licence | None = None


def _glyphs(section: InputSection, _data_dir: Path | None, progress: "Progress | None") -> "Dataset":
    from edge_oneshot.data import glyphs

    return glyphs.load_glyphs(section, progress=progress)


def _omniglot(section: InputSection, data_dir: Path | None, progress: "Progress | None") -> "Dataset":
    from edge_oneshot.data import omniglot

    return omniglot.load_background(section, data_dir, progress=progress)


def _omniglot_evaluation(section: InputSection, data_dir: Path | None, progress: "Progress | None") -> "Dataset":
    from edge_oneshot.data import omniglot

    return omniglot.load_evaluation(section, data_dir, progress=progress)


def _words(section: InputSection, _data_dir: Path | None, progress: "Progress | None") -> "Dataset":
    from edge_oneshot.data import speech

    return speech.load_words(section, progress=progress)


def _voices(section: InputSection, _data_dir: Path | None, progress: "Progress | None") -> "Dataset":
    from edge_oneshot.data import speech

    return speech.load_voices(section, progress=progress)


DATASETS: Final = {
    "glyphs": NamedDataset("drawings", _glyphs),
    "omniglot": NamedDataset(
        "drawings",
        _omniglot,
        _omniglot_evaluation,
        Licence(
            what="training data: Omniglot (Lake, Salakhutdinov, Tenenbaum 2015)",
            licence="MIT",
            source="https://github.com/brendenlake/omniglot",
        ),
    ),
    "words": NamedDataset("speech", _words),
    "voices": NamedDataset("speech", _voices),
}


def names_in(data: str) -> tuple[str, ...]:
    """The data sets that are named, joined with +, or none where it is a path."""
    names = data.split("+")
    return tuple(names) if DATASETS.keys() >= set(names) and len(set(names)) == len(names) else ()

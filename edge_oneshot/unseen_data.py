"""Data that an encoder was not trained on, and the names under which a bundle's provenance holds its data."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from edge_oneshot.data.archives import Progress, Unreadable
from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.loading import is_named, load_data
from edge_oneshot.data.omniglot import has_evaluation
from edge_oneshot.data.speech_commands import is_speech_commands
from edge_oneshot.errors import DataError
from edge_oneshot_device.bundle.manifest import Manifest
from edge_oneshot_device.faces.finding import FaceFinder


def load_unseen(
    data: str,
    manifest: Manifest,
    data_dir: Path | None = None,
    *,
    faces: FaceFinder | None = None,
    unreadable: Unreadable | None = None,
    gate: bool = True,
    progress: Progress | None = None,
) -> tuple[Dataset, tuple[str, ...]]:
    """Load the groups of a data set that a bundle's encoder was not trained on.

    Args:
        data: As `load_data` takes it. Of Omniglot the evaluation alphabets are taken if they are there, of Speech
            Commands the recordings of its testing list.
        manifest: The bundle's manifest, whose provenance names what the encoder was trained on.
        data_dir: Folder of Omniglot's archives.
        faces: Finds the faces in photos of people, see `load_data`.
        unreadable: Called with each image that cannot be read, see `load_data`.
        gate: Whether photos that the quality gate refuses are black, see `load_data`.
        progress: Called with the images done and the images in all.

    Returns:
        The data, and the names of the groups that were left out.

    Raises:
        DataError: The data is missing, or the encoder was trained on all of it.
    """
    if faces is None and data == "omniglot" and has_evaluation(data_dir):
        return load_data(data, manifest.input, data_dir=data_dir, subset="evaluation"), ()
    everything = load_data(
        data,
        manifest.input,
        data_dir=data_dir,
        subset="evaluation" if not is_named(data) and is_speech_commands(Path(data)) else "background",
        progress=progress,
        faces=faces,
        unreadable=unreadable,
        gate=gate,
    )
    names = published_names(data, everything.group_names)
    trained = set(manifest.provenance.trained_on)
    seen = [group for group, name in zip(everything.group_names, names, strict=True) if name in trained]
    if len(seen) == len(everything.group_names):
        raise DataError(f"{data}: the encoder was trained on all of it; give other data", reason="all_seen")
    return everything.without(seen) if seen else everything, tuple(seen)


def published_names(data: str, groups: Sequence[str]) -> tuple[str, ...]:
    """Names of groups as a bundle may hold them: alphabets in clear, people of a folder as digests.

    Args:
        data: The data set's name or path.
        groups: The names of its groups.

    Returns:
        A name for each group.
    """
    if is_named(data):
        return tuple(groups)
    # of the name's own bytes, also where they are no UTF-8
    digests = (hashlib.sha256(group.encode(errors="surrogateescape")).hexdigest() for group in groups)
    return tuple(f"sha256:{digest}" for digest in digests)


def published_data(data: str) -> str:
    """What a bundle may say of where its images come from: a data set's name, but no path of anybody's machine."""
    return data if is_named(data) else "a folder"

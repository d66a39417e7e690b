"""Omniglot: 50 alphabets of handwritten characters (Lake, Salakhutdinov & Tenenbaum 2015).

Its archives are looked for in the data folder (``--data-dir``, else EDGE_ONESHOT_DATA), which is never written to.
Without a data folder they are looked for in the user's cache, and downloaded to it when they are missing.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_dir

from edge_oneshot.data.archives import ImageArchive, Progress, decode, open_archive
from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.download import Remote, download
from edge_oneshot.errors import DataError
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.decoding import decode_image

_URL = "https://github.com/brendenlake/omniglot/raw/master/python/"
BACKGROUND = Remote(
    f"{_URL}images_background.zip", 9_464_212, "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640"
)
EVALUATION = Remote(
    f"{_URL}images_evaluation.zip", 6_462_886, "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee"
)
LAKE_RUNS = Remote(
    f"{_URL}one-shot-classification/all_runs.zip",
    352_787,
    "437c1eeab0af8484112e1b4cc0f3d541ec727f7c47b9b202da738af9dfd6c325",
)

DRAWERS = 20
RUNS = 20
WAYS = 20

_DRAWING = re.compile(r"(?P<alphabet>[^/]+)/(?P<character>character\d+)/\d+_(?P<drawer>\d+)\.png")


@dataclass(frozen=True, slots=True, eq=False)
class OneShotRun:
    """One run of the official 20-way within-alphabet task.

    Attributes:
        name: ``run01`` to ``run20``.
        support: uint8 (20, h, w, c), one drawing of each character, in the order of its file.
        queries: uint8 (20, h, w, c), one drawing of each character by another drawer.
        answers: int64 (20,), position of the support drawing of the query's character.
    """

    name: str
    support: NDArray[np.uint8]
    queries: NDArray[np.uint8]
    answers: NDArray[np.int64]


def load_background(
    section: InputSection, data_dir: Path | None = None, *, progress: Progress | None = None
) -> Dataset:
    """The 964 characters of the 30 background alphabets, to train on.

    Args:
        section: The encoder's input, for which the drawings are prepared.
        data_dir: The user's data folder.
        progress: Called with the drawings done and the drawings in all.

    Raises:
        DataError: The archive is missing and cannot be downloaded, is damaged, or incomplete.
    """
    return _load_images(BACKGROUND, section, data_dir, progress, alphabets=30, characters=964)


def load_evaluation(
    section: InputSection, data_dir: Path | None = None, *, progress: Progress | None = None
) -> Dataset:
    """The 659 characters of the 20 evaluation alphabets, to report on.

    Args:
        section: The encoder's input, for which the drawings are prepared.
        data_dir: The user's data folder.
        progress: Called with the drawings done and the drawings in all.

    Raises:
        DataError: The archive is missing and cannot be downloaded, is damaged, or incomplete.
    """
    return _load_images(EVALUATION, section, data_dir, progress, alphabets=20, characters=659)


def has_evaluation(data_dir: Path | None = None) -> bool:
    """Whether the evaluation alphabets are available without a download."""
    return _look_for(EVALUATION, data_folder(data_dir) or cache_folder()) is not None


def load_lake_runs(section: InputSection, data_dir: Path | None = None) -> list[OneShotRun]:
    """The 20 official runs of the 20-way one-shot task within an alphabet (Lake et al. 2015).

    Args:
        section: The encoder's input, for which the drawings are prepared.
        data_dir: The user's data folder.

    Raises:
        DataError: The archive is missing and cannot be downloaded, is damaged, or incomplete.
    """
    with open_archive(find(LAKE_RUNS, data_dir)) as archive:
        names = {name.split("/")[0] for name in archive.files if "/" in name}
        expected = [f"run{number:02}" for number in range(1, RUNS + 1)]
        if missing := [name for name in expected if name not in names]:
            raise DataError(f"{archive.path}: {missing[0]} is missing, expected {RUNS} runs", reason="incomplete")
        return [_load_run(archive, name, section) for name in expected]


def cache_folder() -> Path:
    """The folder of the downloads."""
    return Path(user_cache_dir("edge-oneshot")) / "omniglot"


def data_folder(data_dir: Path | None = None) -> Path | None:
    """The data folder that the user chose, if any: `data_dir`, else EDGE_ONESHOT_DATA.

    Raises:
        DataError: It does not exist.
    """
    chosen = data_dir or os.environ.get("EDGE_ONESHOT_DATA")
    if not chosen:
        return None
    if not Path(chosen).is_dir():
        raise DataError(f"{chosen}: no such data folder", reason="not_found")
    return Path(chosen)


def find(remote: Remote, data_dir: Path | None = None) -> Path:
    """The archive or its unpacked folder, downloaded to the cache if no data folder was chosen.

    Args:
        remote: The archive.
        data_dir: The user's data folder.

    Raises:
        DataError: The data folder lacks it, or it cannot be downloaded.
    """
    chosen = data_folder(data_dir)
    folder = chosen or cache_folder()
    found = _look_for(remote, folder)
    if found is not None:
        return found
    if chosen is not None:
        origin = "--data-dir" if data_dir else "EDGE_ONESHOT_DATA"
        raise DataError(
            f"{chosen}: no {remote.name} and no folder {_unpacked(remote)}; put it there, or leave out {origin} "
            "and it is downloaded",
            reason="not_found",
        )
    return download(remote, folder / remote.name)


def _unpacked(remote: Remote) -> str:
    return remote.name.removesuffix(".zip")


def _look_for(remote: Remote, folder: Path) -> Path | None:
    if (folder / remote.name).is_file():
        return folder / remote.name
    if (folder / _unpacked(remote)).is_dir():
        return folder / _unpacked(remote)
    return None


def _load_images(
    remote: Remote,
    section: InputSection,
    data_dir: Path | None,
    progress: Progress | None,
    *,
    alphabets: int,
    characters: int,
) -> Dataset:
    with open_archive(find(remote, data_dir)) as archive:
        # in the zip file, and only there, every name begins with the folder's
        front = "" if archive.path.is_dir() else f"{_unpacked(remote)}/"
        drawings = [
            (match, name)
            for name in archive.files
            if name.startswith(front) and (match := _DRAWING.fullmatch(name, len(front)))
        ]
        identities = [f"{match['alphabet']}/{match['character']}" for match, _ in drawings]
        drawers = np.array([int(match["drawer"]) for match, _ in drawings], np.int64)
        _check_whole(archive.path, identities, drawers, alphabets, characters)
        # thousands of small published drawings, decoded in this process, which is twice as fast
        images = decode(archive, [name for _, name in drawings], section, progress, load=decode_image)
    characters_found, labels = _numbered(identities)
    groups_found, groups = _numbered(match["alphabet"] for match, _ in drawings)
    return Dataset(
        f"omniglot-{_unpacked(remote).removeprefix('images_')}",
        images, labels, characters_found, groups, groups_found, drawers,
    )  # fmt: skip


def _numbered(names: Iterable[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    found, numbers = np.unique(list(names), return_inverse=True)
    return tuple(map(str, found)), numbers.astype(np.int64)


def _check_whole(
    path: Path, identities: list[str], drawers: NDArray[np.int64], alphabets: int, characters: int
) -> None:
    drawn: defaultdict[str, list[int]] = defaultdict(list)
    for identity, drawer in zip(identities, drawers.tolist(), strict=True):
        drawn[identity].append(drawer)
    found = len({identity.split("/")[0] for identity in drawn})
    for what, count, expected in (("alphabets", found, alphabets), ("characters", len(drawn), characters)):
        if count != expected:
            raise DataError(f"{path}: {count} {what}, expected {expected}", reason="incomplete")
    for identity, numbers in drawn.items():
        if len(numbers) != DRAWERS:
            raise DataError(f"{path}: {identity} has {len(numbers)} drawings, expected {DRAWERS}", reason="incomplete")
        if missing := sorted(set(range(1, DRAWERS + 1)).difference(numbers)):
            raise DataError(f"{path}: {identity} has no drawing by drawer {missing[0]}", reason="incomplete")


def _load_run(archive: ImageArchive, run: str, section: InputSection) -> OneShotRun:
    listing = f"{run}/class_labels.txt"
    support = [f"{run}/training/class{number:02}.png" for number in range(1, WAYS + 1)]
    queries = [f"{run}/test/item{number:02}.png" for number in range(1, WAYS + 1)]
    if missing := sorted({listing, *support, *queries}.difference(archive.files)):
        raise DataError(f"{archive.path}: {missing[0]} is missing", reason="incomplete")
    pairs = [line.split() for line in archive.read(listing).decode("ascii", "replace").splitlines() if line.strip()]
    answer_of = {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
    # one line per query, and one query per character
    if len(pairs) != WAYS or sorted(answer_of) != queries or sorted(answer_of.values()) != support:
        raise DataError(
            f"{archive.path}: {listing} does not pair {WAYS} queries with {WAYS} characters", reason="bad_labels"
        )
    answers = np.array([support.index(answer_of[query]) for query in queries], np.int64)
    return OneShotRun(run, decode(archive, support, section), decode(archive, queries, section), answers)

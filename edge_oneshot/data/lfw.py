"""Labeled Faces in the Wild (Huang et al. 2007): the ten folds of pairs of photos, from the user's own copy."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_oneshot.data.archives import ImageArchive, decode, open_archive
from edge_oneshot.errors import DataError
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.faces.finding import FaceFinder
from edge_oneshot_device.image_files import is_image
from edge_oneshot_export.judging.folds import FoldedPairs

LISTING = "pairs.txt"

_PHOTO_SIDE = 1000  # of a photo, as the device decodes it


def load_lfw(
    path: Path,
    section: InputSection,
    *,
    faces: FaceFinder | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FoldedPairs:
    """Load the photos that ``pairs.txt`` names, from a folder or a zip that holds it and the people's folders.

    A photo of LFW shows the person that it is named after in the middle, so that of several faces the middle one is
    taken. The quality gate refuses no photo, and only counts those that it would refuse.

    Args:
        path: The folder or zip file; the people's folders may be one level deeper.
        section: The encoder's input, for which the photos are prepared.
        faces: Finds the faces; without it the whole photos are used.
        progress: Called with the photos done and the photos in all.

    Raises:
        DataError: ``not_found``, ``bad_pairs`` (the line is named) or ``ambiguous``, or a photo cannot be read.
    """
    with open_archive(path) as archive:
        listings = [name for name in archive.files if name.split("/")[-1] == LISTING]
        if len(listings) != 1:
            message = f"{archive.path}: {len(listings)} files called {LISTING}, one is needed: LFW's list of pairs"
            raise DataError(f"{message}, beside the people's folders", reason="not_found")
        rows = _read_pairs(archive, listings[0])
        files = _photos(archive)
        names = sorted({name for _, one, other in rows for name in (one, other)})
        if missing := [name for name in names if name not in files]:
            message = f"{archive.path}: {len(missing)} of {len(names)} photos are missing, such as {missing[0]}"
            raise DataError(f"{message}; unpack all of LFW", reason="not_found")
        shown, refused = np.ones(len(names), bool), dict[str, int]()
        photos = [files[name] for name in names]
        if faces is None:
            images = decode(archive, photos, section, progress)
        else:
            images, shown, refused = _cut_all(archive, photos, section, faces, progress)
    place = {name: number for number, name in enumerate(names)}
    return FoldedPairs(
        images=images,
        shown=shown,
        refused=refused,
        pairs=np.array([(place[one], place[other]) for _, one, other in rows], np.int64),
        same=np.array([_person(one) == _person(other) for _, one, other in rows], bool),
        folds=np.array([fold for fold, _, _ in rows], np.int64),
        people=len({_person(name) for name in names}),
    )


def _cut_all(
    archive: ImageArchive,
    photos: list[str],
    section: InputSection,
    faces: FaceFinder,
    progress: Callable[[int, int], None] | None,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], dict[str, int]]:
    """The middle face of each photo, whether there is one, and what the quality gate would refuse."""
    images, shown = np.zeros((len(photos), *section.shape), np.uint8), np.zeros(len(photos), bool)
    refused: Counter[str] = Counter()
    for number, name in enumerate(photos):
        try:
            photo = load_photo(archive.read(name), _PHOTO_SIDE)
        except InputError as error:
            raise DataError(f"{archive.path / name}: {error}", reason=error.reason) from error
        middle = np.array(photo.size) / 2
        seen = faces.find(photo)
        found = sorted(seen, key=lambda face: float(np.hypot(*(face.detection.points.mean(axis=0) - middle))))
        if found:
            images[number], shown[number] = faces.cut(photo, found[0]), True
            try:
                faces.take(photo, found[0])
            except InputError as error:
                refused[error.reason] += 1
        if progress is not None:
            progress(number + 1, len(photos))
    return images, shown, dict(sorted(refused.items()))


def _photos(archive: ImageArchive) -> dict[str, str]:
    """From ``PERSON/PHOTO``, without its suffix, to the file.

    Raises:
        DataError: Reason ``ambiguous``: it exists twice.
    """
    files: dict[str, str] = {}
    for name in archive.files:
        if "/" not in name or not is_image(name):
            continue
        photo = "/".join(name.rpartition(".")[0].split("/")[-2:])
        if photo in files:
            message = f"{archive.path}: {photo} exists twice, as {files[photo]} and {name}; give one version of LFW"
            raise DataError(message, reason="ambiguous")
        files[photo] = name
    return files


def _read_pairs(archive: ImageArchive, listing: str) -> list[tuple[int, str, str]]:
    """Fold and both photos of each pair, as ``PERSON/PERSON_0001``.

    The first line holds the count of folds and the count of pairs of a kind in each. For each fold there follow as many
    lines ``PERSON N M`` and as many lines ``PERSON N OTHER M``, separated by tabs.
    """
    where = archive.path / listing
    lines = archive.read(listing).decode("utf-8", "surrogateescape").splitlines()  # as files are named
    try:
        count, each = (int(word) for word in lines[0].split())
    except (ValueError, IndexError):
        message = f"{where}: line 1 gives no two numbers, folds and pairs of a kind in each; use LFW's own file"
        raise DataError(message, reason="bad_pairs") from None
    rest = [(number, line.split("\t")) for number, line in enumerate(lines[1:], 2) if line.strip()]
    if count < 2 or each < 1 or len(rest) != 2 * count * each:
        message = (
            f"{where}: line 1 says {count} folds of twice {each} pairs, but {len(rest)} follow; use an intact copy"
        )
        raise DataError(message, reason="bad_pairs")
    rows = []
    for place, (number, words) in enumerate(rest):
        same = place % (2 * each) < each
        one, other = words[:2], ([words[0], words[2]] if same else words[2:]) if len(words) == 4 - same else []
        if len(other) != 2 or not (one[1].isdigit() and other[1].strip().isdigit()):
            form = "PERSON N M" if same else "PERSON N OTHER M"
            message = f"{where}: line {number} is no {form} with tabs between; use LFW's own file"
            raise DataError(message, reason="bad_pairs")
        first, second = (f"{name}/{name}_{int(photo):04}" for name, photo in (one, other))
        rows.append((place // (2 * each), first, second))
    return rows


def _person(photo: str) -> str:
    return photo.split("/")[0]

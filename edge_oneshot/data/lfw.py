"""Labeled Faces in the Wild (Huang et al. 2007): the ten folds of pairs of photos, from the user's own copy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_oneshot.data.archives import ImageArchive, decode, open_archive
from edge_oneshot.data.photos import MiddleFaces, cut_middle_faces
from edge_oneshot.errors import DataError
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.faces.finding import FaceFinder
from edge_oneshot_device.image_files import is_image
from edge_oneshot_export.judging.folds import FoldedPairs

LISTING = "pairs.txt"


def load_lfw(
    path: Path,
    section: InputSection,
    *,
    faces: FaceFinder | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FoldedPairs:
    """Load the photos that ``pairs.txt`` names, from a folder or a zip that holds it and the people's folders.

    A photo of LFW shows the person that it is named after in the middle, so that of several faces the middle one is
    taken. Photos that the quality gate refuses are there with the reason.

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
        rows = read_pairs(archive, listings[0])
        files = _photos(archive)
        names = sorted({name for _, one, other in rows for name in (one, other)})
        if missing := [name for name in names if name not in files]:
            message = f"{archive.path}: {len(missing)} of {len(names)} photos are missing, such as {missing[0]}"
            raise DataError(f"{message}; unpack all of LFW", reason="not_found")
        photos = [files[name] for name in names]
        if faces is None:
            found = MiddleFaces(decode(archive, photos, section, progress), {}, {})
        else:
            found = cut_middle_faces(archive, photos, section, faces, progress)
    place = {name: number for number, name in enumerate(names)}
    return FoldedPairs(
        images=found.images,
        shown=np.array([photo not in found.missing for photo in photos], bool),
        faults=tuple(map(found.refused.get, photos)),
        pairs=np.array([(place[one], place[other]) for _, one, other in rows], np.int64),
        same=np.array([_person(one) == _person(other) for _, one, other in rows], bool),
        folds=np.array([fold for fold, _, _ in rows], np.int64),
        people=len({_person(name) for name in names}),
    )


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


def read_pairs(archive: ImageArchive, listing: str) -> list[tuple[int, str, str]]:
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

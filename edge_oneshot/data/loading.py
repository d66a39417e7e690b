"""What is trained and judged on: data sets of the catalogue, or a folder of folders."""

from pathlib import Path
from typing import Literal

import numpy as np

from edge_oneshot.data.archives import ImageArchive, Progress, Skipped, Unreadable, decode, open_archive
from edge_oneshot.data.catalogue import DATASETS, Kind, Loader, names_in
from edge_oneshot.data.dataset import Dataset, joined
from edge_oneshot.data.photos import cut_middle_faces
from edge_oneshot.data.recordings import speech_input
from edge_oneshot.data.speech_commands import Subset, is_speech_commands, load_speech_commands
from edge_oneshot.errors import DataError
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.preprocessing import load_image
from edge_oneshot_device.faces.finding import FaceFinder
from edge_oneshot_device.image_files import (
    LITTER,
    NO_IMAGE,
    NO_PERSON,
    NO_RECORDING,
    TOO_DEEP,
    PassedOver,
    SourceKind,
    is_image,
    is_recording,
    is_source,
    passed_over_text,
)


def is_named(name_or_path: str) -> bool:
    """Whether it names data sets of the catalogue, joined with +, and not a folder."""
    return bool(names_in(name_or_path))


def kind_of(name_or_path: str) -> Literal[Kind, "photos"]:
    """What a data set consists of; a folder or zip file, of what most of its files are.

    Raises:
        DataError: Reason ``bad_mix``: drawings and speech are joined; or the folder cannot be read.
    """
    kinds = {DATASETS[name].kind for name in names_in(name_or_path)}
    if len(kinds) > 1:
        raise DataError(f"{name_or_path}: joins drawings and speech; give data of one kind", reason="bad_mix")
    if kinds:
        return kinds.pop()
    if not Path(name_or_path).exists():
        return "photos"
    with open_archive(Path(name_or_path)) as archive:
        return "speech" if _kind_in(archive) == "recording" else "photos"


def default_input(name_or_path: str, size: int = 48, framing: Literal["whole", "ink"] | None = None) -> InputSection:
    """How images or recordings of a data set become the encoder's input: size x size, grey; `speech_input` for speech.

    The ink of drawings becomes 1 and their paper 0; the pixels of photos become -1..1. Of Pillow's filters, bilinear
    keeps the 1-bit strokes of Omniglot even; box and hamming make steps, because 105 is no multiple of 48.

    Args:
        name_or_path: As `load_data` takes it.
        size: Side in pixels.
        framing: What is seen of an image; by default the ink of drawings, and all of a photo.

    Raises:
        DataError: As for `kind_of`.
    """
    kind = kind_of(name_or_path)
    if kind == "speech":
        return speech_input()
    drawn = kind == "drawings"
    return InputSection(
        height=size,
        width=size,
        colour="grey",
        resize="bilinear",
        mean=(255.0,) if drawn else (127.5,),
        scale=(-255.0,) if drawn else (127.5,),
        value_range=(0.0, 1.0) if drawn else (-1.0, 1.0),
        min_contrast=16,
        framing=framing or ("ink" if drawn else "whole"),
    )


def load_data(
    name_or_path: str,
    section: InputSection,
    *,
    data_dir: Path | None = None,
    subset: Subset = "background",
    progress: Progress | None = None,
    faces: FaceFinder | None = None,
    skipped: Skipped | None = None,
    unreadable: Unreadable | None = None,
    gate: bool = True,
) -> Dataset:
    """Load a data set by its name, or a folder (or zip file) with one folder of images or recordings per identity.

    Args:
        name_or_path: A name of `edge_oneshot.data.catalogue.DATASETS`, several as ``glyphs+omniglot``, or a path. A
            folder of such a name is ``./glyphs``.
        section: The encoder's input, for which the images are prepared. Of a folder that has images and recordings,
            what it takes is loaded.
        data_dir: Folder of Omniglot's archives; see `edge_oneshot.data.omniglot`.
        subset: ``evaluation``: what the publishers of Omniglot or Speech Commands keep for evaluation; other data sets
            have none.
        progress: Called with the images done and the images in all.
        faces: Cuts the face out of each photo of a folder, see `edge_oneshot.data.archives.decode`.
        skipped: Called with each photo that has no face to use, and why.
        unreadable: As for `load_folder`.
        gate: As for `load_folder`.

    Raises:
        DataError: It is missing, broken or too small, or of another kind than the encoder's input.
    """
    names = names_in(name_or_path)
    if names:
        kind = kind_of(name_or_path)
        if faces is not None:
            raise DataError(f"{name_or_path}: {kind}; name a folder of photos of people", reason="no_faces")
        if (section.kind == "recording") != (kind == "speech"):
            message = f"{name_or_path}: {kind}, but the encoder takes {section.kind}s; give data of its kind"
            raise DataError(message, reason="wrong_kind")
        parts = [_loader(name, subset)(section, data_dir, progress) for name in names]
        return parts[0] if len(parts) == 1 else joined(parts)
    if is_speech_commands(Path(name_or_path)):
        return load_speech_commands(Path(name_or_path), section, subset, progress=progress, unreadable=unreadable)
    if subset != "background":
        raise _no_evaluation_set(name_or_path)
    if not Path(name_or_path).exists():
        raise DataError(
            f"{name_or_path}: no such data set or folder; name {', '.join(DATASETS)}, or a folder with one folder of "
            "images or recordings an identity",
            reason="not_found",
        )
    return load_folder(
        Path(name_or_path),
        section,
        progress=progress,
        faces=faces,
        skipped=skipped,
        unreadable=unreadable,
        gate=gate,
    )


def _loader(name: str, subset: Subset) -> Loader:
    known = DATASETS[name]
    loader = known.load if subset == "background" else known.load_evaluation
    if loader is None:
        raise _no_evaluation_set(name)
    return loader


def _no_evaluation_set(data: str) -> DataError:
    return DataError(f"{data}: only omniglot and Speech Commands have an evaluation set", reason="no_such_subset")


def load_folder(
    path: Path,
    section: InputSection,
    *,
    progress: Progress | None = None,
    faces: FaceFinder | None = None,
    skipped: Skipped | None = None,
    unreadable: Unreadable | None = None,
    gate: bool = True,
) -> Dataset:
    """Load a folder, or a zip file of one, that holds one folder of images or recordings per identity.

    Files that are litter, not of the encoder's kind, or deeper are left out, and so are folders without a file that is
    used: see `passed_over`.

    Args:
        path: The folder or zip file.
        section: The encoder's input, for which the images are prepared.
        progress: Called with the images done and the images in all.
        faces: Cuts the face out of each photo, see `edge_oneshot.data.archives.decode`.
        skipped: Called with each photo that has no face to use, and why.
        unreadable: Called with each image that cannot be read, as ``PERSON/FILE``, and the reason; it is left out.
            Without it such an image is an error.
        gate: Whether a photo that the quality gate refuses is black; otherwise its middle face is there, with the
            reason among the faults.

    Raises:
        DataError: It does not exist, an image cannot be read, or there are fewer than two identities.
    """
    with open_archive(path) as archive:
        people, _ = _people(archive, section.kind)
        photos = [name for names in people.values() for name in names]
        faults: dict[str, str] = {}
        broken: dict[str, str] = {}

        def skip(name: str, reason: str) -> None:
            faults[name] = reason
            if skipped is not None:
                skipped(name, reason)

        mark = None if unreadable is None else broken.__setitem__
        if faces is None or gate:
            load = load_image if faces is None else lambda content, _: faces.load(content)
            images = decode(archive, photos, section, progress, load=load, skipped=skip, unreadable=mark)
        else:
            middle = cut_middle_faces(archive, photos, section, faces, progress, mark)
            images = middle.images
            for photo, reason in (middle.missing | middle.refused).items():
                skip(photo, reason)
    labels = np.repeat(np.arange(len(people), dtype=np.int64), [len(names) for names in people.values()])
    identities = tuple(people)
    name = path.resolve().name.removesuffix(".zip")
    reasons = None if faces is None else tuple(map(faults.get, photos))
    everybody = Dataset(name, images, labels, identities, labels.copy(), identities, None, reasons)
    return everybody if unreadable is None else _readable(everybody, photos, broken, unreadable)


def _readable(everybody: Dataset, photos: list[str], broken: dict[str, str], unreadable: Unreadable) -> Dataset:
    """The images that could be read, where the others are named and two identities are left."""
    if not broken:
        return everybody
    left = [PassedOver("/".join(photo.split("/")[-2:]), reason) for photo, reason in broken.items()]
    for one in left:
        unreadable(one.name, one.reason)
    read = np.array([photo not in broken for photo in photos])
    people = len(np.unique(everybody.labels[read]))
    if people < 2:
        message = f"{everybody.name}: {people} identities with an image that can be read, at least 2 are needed"
        raise DataError(f"{message} ({passed_over_text(left)})", reason="too_few_identities")
    return everybody.kept(read)


def passed_over(name_or_path: str | None) -> list[PassedOver]:
    """What `load_data` leaves out of a folder or a zip file; nothing for data sets that go by a name.

    Raises:
        DataError: It cannot be read.
    """
    if name_or_path is None or is_named(name_or_path):
        return []
    with open_archive(Path(name_or_path)) as archive:
        return _people(archive, _kind_in(archive))[1]


def _kind_in(archive: ImageArchive) -> SourceKind:
    """What most files of an archive are."""
    recordings = sum(map(is_recording, archive.files))
    return "recording" if recordings > sum(map(is_image, archive.files)) else "image"


def _people(archive: ImageArchive, kind: SourceKind) -> tuple[dict[str, list[str]], list[PassedOver]]:
    """The images or recordings of each identity, both sorted by name, and what is left out."""
    unfit = NO_IMAGE if kind == "image" else NO_RECORDING
    # a zip of a folder of folders has that folder's name in front of every name
    tops = {name.split("/")[0] for name in archive.files if "/" in name}
    wrapped = len(tops) == 1 and not archive.path.is_dir()
    front = f"{tops.pop()}/" if wrapped else ""
    people: dict[str, list[str]] = {}
    passed = [PassedOver(name.removeprefix(front), LITTER) for name in archive.litter]
    for name in archive.folders:
        folder = name.removeprefix(front)
        if name.startswith(front) and "/" not in folder:
            people[folder] = []
        elif folder.count("/") == 1:
            passed.append(PassedOver(f"{folder}/", TOO_DEEP))
    for name in archive.files:
        folder, _, file = name.removeprefix(front).partition("/")
        if folder in people and file and "/" not in file and is_source(file, kind):
            people[folder].append(name)
        elif not file:
            passed.append(PassedOver(folder, NO_PERSON if is_source(folder, kind) else unfit))
        elif "/" not in file:
            passed.append(PassedOver(name.removeprefix(front), unfit))
    passed += [PassedOver(f"{person}/", unfit) for person, names in people.items() if not names]
    people = {person: names for person, names in people.items() if names}
    if len(people) < 2:
        message = f"{archive.path}: {len(people)} identities, at least 2 are needed: one folder of {kind}s each"
        left = f" ({passed_over_text(passed)})" if passed else ""
        raise DataError(f"{message}{left}", reason="too_few_identities")
    return people, passed

"""Enrol all people of a folder that holds one file, or one folder of files, for each person: images or recordings."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.gallery.access import Access
from edge_oneshot_device.gallery.people import Enrolment, person_name
from edge_oneshot_device.image_files import (
    LITTER,
    NO_IMAGE,
    NO_RECORDING,
    TOO_DEEP,
    PassedOver,
    SourceKind,
    is_litter,
    is_source,
    passed_over_text,
)
from edge_oneshot_device.recognition.recognizer import Recognizer
from edge_oneshot_device.text import one_line, printable


class Refused(msgspec.Struct, frozen=True):
    """A person who was not enrolled.

    Attributes:
        person: The name of the file or folder; characters that cannot be printed are escaped.
        reason: The stable code of the error.
        error: The error in one line.
    """

    person: str
    reason: str
    error: str


class Chosen(msgspec.Struct, frozen=True):
    """The images that a person was enrolled from, where there were more images than a person can have templates.

    Attributes:
        person: The name.
        images: Names of the files that were used, the best first.
        of: Number of images that there were.
        by: ``quality`` where the bundle judges the quality of a face, else ``order``: the first by name.
    """

    person: str
    images: list[str]
    of: int
    by: Literal["quality", "order"]


class FolderEnrolment(msgspec.Struct, frozen=True):
    """The result of enrolling a folder.

    Attributes:
        folder: The folder.
        enrolled: The people who were enrolled.
        skipped: Names of people who were already enrolled; they stay unchanged.
        refused: The people who were not enrolled, and why.
        chosen: The images that were used of people who had too many.
        passed_over: Files and folders that were not used.
    """

    folder: str
    enrolled: list[Enrolment]
    skipped: list[str]
    refused: list[Refused]
    chosen: list[Chosen]
    passed_over: list[PassedOver]


def enrol_folder(
    recognizer: Recognizer,
    folder: str | os.PathLike[str],
    report: Callable[[int, int], None] | None = None,
    *,
    access: Access | None = None,
) -> FolderEnrolment:
    """Enrol everybody in a folder who is not enrolled yet. After an interruption it can be called again.

    Args:
        recognizer: The recognizer to enrol them in.
        folder: Holds an image file for each person, named after the person, or a folder of images, of which the best
            are used (see `Recognizer.choose`). Files that are not images are left out. Where the bundle takes
            recordings, these are recordings.
        report: Called with the number of the current person and the number of people.
        access: When the people who are enrolled now may come in; None for always.

    Returns:
        Who was enrolled, skipped and refused.

    Raises:
        InputError: Reason ``not_found`` or ``empty_folder``.
        IntegrityError: The gallery is damaged, or of another encoder.
        MachineError: The disk or the runtime failed; people who were enrolled before that stay enrolled.
    """
    people, passed = _people(Path(folder), recognizer.encoder.input.kind)
    known = {person.person for person in recognizer.people()}
    enrolled: list[Enrolment] = []
    skipped: list[str] = []
    refused: list[Refused] = []
    chosen: list[Chosen] = []
    for done, (name, images) in enumerate(people, start=1):
        if report is not None:
            report(done, len(people))
        try:
            if person_name(name) in known:
                skipped.append(person_name(name))
                continue
            choice = recognizer.choose(images)
            enrolment = recognizer.enrol(name, *choice.images, access=access)
            enrolled.append(enrolment)
            if choice.left:
                taken = [images[place].name for place in choice.taken]
                chosen.append(Chosen(enrolment.person, taken, len(images), choice.by))
                passed += [PassedOver(f"{name}/{images[place].name}", reason) for place, reason in choice.left]
        except InputError as error:
            refused.append(Refused(printable(name), error.reason, one_line(str(error))))
    return FolderEnrolment(str(folder), enrolled, skipped, refused, chosen, passed)


def _people(folder: Path, kind: SourceKind) -> tuple[list[tuple[str, list[Path]]], list[PassedOver]]:
    """The people with their images, in order of their names, and what was left out."""
    people: list[tuple[str, list[Path]]] = []
    none, one = (NO_IMAGE, "an image") if kind == "image" else (NO_RECORDING, "a recording")
    passed: list[PassedOver] = []
    try:
        for entry in sorted(folder.iterdir()):
            if is_litter(entry.name):
                passed.append(PassedOver(_name(entry, folder), LITTER))
            elif entry.is_dir():
                files = sorted(entry.iterdir())
                passed += [_why(file, folder, none) for file in files if not _is_usable(file, kind)]
                if images := [file for file in files if _is_usable(file, kind)]:
                    people.append((entry.name, images))
                else:
                    passed.append(PassedOver(_name(entry, folder), none))
            elif is_source(entry.name, kind):
                people.append((entry.stem, [entry]))
            else:
                passed.append(PassedOver(entry.name, none))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"{folder} is not a folder: give a folder with {one} of each person", reason="not_found"
        ) from error
    except OSError as error:
        raise MachineError(f"cannot read {folder}: {error.strerror}", reason="cannot_read") from error
    if not people:
        what = f"has no {kind} ({passed_over_text(passed)})" if passed else "is empty"
        raise InputError(f"{folder} {what}: put {one} of each person there", reason="empty_folder")
    return people, passed


def _is_usable(file: Path, kind: SourceKind) -> bool:
    return is_source(file.name, kind) and not is_litter(file.name) and not file.is_dir()


def _why(file: Path, folder: Path, none: str) -> PassedOver:
    """Why a file or folder in a person's folder is left out."""
    reason = LITTER if is_litter(file.name) else TOO_DEEP if file.is_dir() else none
    return PassedOver(_name(file, folder), reason)


def _name(entry: Path, folder: Path) -> str:
    return f"{entry.relative_to(folder)}{'/' if entry.is_dir() else ''}"

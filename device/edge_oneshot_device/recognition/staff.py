"""Enrolling a whole staff from a folder with a file, or a folder of files, for each person."""

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
    TOO_DEEP,
    PassedOver,
    is_image,
    is_litter,
    passed_over_text,
)
from edge_oneshot_device.recognition.recognizer import Recognizer
from edge_oneshot_device.text import one_line, printable


class Refused(msgspec.Struct, frozen=True):
    """Somebody who was not enrolled.

    Attributes:
        person: The name of the file or folder; characters that cannot be printed are escaped.
        reason: A stable code.
        error: One line.
    """

    person: str
    reason: str
    error: str


class Chosen(msgspec.Struct, frozen=True):
    """The images that somebody was enrolled from, where there were more than they may have templates.

    Attributes:
        person: The name.
        images: Names of the files that were taken, the best first.
        of: How many there were.
        by: ``quality`` of the face where the bundle judges that, else ``order``: the first by name.
    """

    person: str
    images: list[str]
    of: int
    by: Literal["quality", "order"]


class StaffEnrolment(msgspec.Struct, frozen=True):
    """The result of enrolling a folder.

    Attributes:
        folder: The folder.
        enrolled: Who was enrolled.
        skipped: Names of people who were enrolled already; they are unchanged.
        refused: Who was not enrolled, and why.
        chosen: The images that were chosen, for people who had more than they may have templates.
        passed_over: Files of the folder that were not used.
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
) -> StaffEnrolment:
    """Enrol everybody in a folder who is not enrolled yet, so that it can be called again after an interruption.

    Args:
        recognizer: Where to.
        folder: Holds an image for each person, named after them, or a folder with one image or more, of which
            the best are taken (see `Recognizer.choose`). What is no image is passed over.
        report: Called with the number of the person at hand, and of how many.
        access: When all who are enrolled now may come in; None: always.

    Raises:
        InputError: Reason ``not_found`` or ``empty_folder``.
        IntegrityError: The gallery is damaged, or of another encoder.
        MachineError: The disk or the runtime failed; who was enrolled before stays.
    """
    people, passed = _people(Path(folder))
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
    return StaffEnrolment(str(folder), enrolled, skipped, refused, chosen, passed)


def _people(folder: Path) -> tuple[list[tuple[str, list[Path]]], list[PassedOver]]:
    """Each person's name and images, in order of their names, and what is neither."""
    people: list[tuple[str, list[Path]]] = []
    passed: list[PassedOver] = []
    try:
        for entry in sorted(folder.iterdir()):
            if is_litter(entry.name):
                passed.append(PassedOver(_name(entry, folder), LITTER))
            elif entry.is_dir():
                files = sorted(entry.iterdir())
                passed += [_why(file, folder) for file in files if not _is_photo(file)]
                if images := [file for file in files if _is_photo(file)]:
                    people.append((entry.name, images))
                else:
                    passed.append(PassedOver(_name(entry, folder), NO_IMAGE))
            elif is_image(entry.name):
                people.append((entry.stem, [entry]))
            else:
                passed.append(PassedOver(entry.name, NO_IMAGE))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{folder} is no folder: name one with an image of each person", reason="not_found") from error
    except OSError as error:
        raise MachineError(f"cannot read {folder}: {error.strerror}", reason="cannot_read") from error
    if not people:
        what = f"has no image ({passed_over_text(passed)})" if passed else "is empty"
        raise InputError(f"{folder} {what}: put an image of each person there", reason="empty_folder")
    return people, passed


def _is_photo(file: Path) -> bool:
    return is_image(file.name) and not is_litter(file.name) and not file.is_dir()


def _why(file: Path, folder: Path) -> PassedOver:
    """Why a file or folder in a person's folder is passed over."""
    reason = LITTER if is_litter(file.name) else TOO_DEEP if file.is_dir() else NO_IMAGE
    return PassedOver(_name(file, folder), reason)


def _name(entry: Path, folder: Path) -> str:
    return f"{entry.relative_to(folder)}{'/' if entry.is_dir() else ''}"

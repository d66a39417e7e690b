"""A whole staff enrolled from a folder: one file, or one folder of files, a person."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge_oneshot_device.console import one_line, printable
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.gallery.people import Enrolment, person_name
from edge_oneshot_device.recognition.recognizer import Recognizer


class Refused(msgspec.Struct, frozen=True):
    """Somebody who was not enrolled.

    Attributes:
        person: The name, as file or folder have it; what cannot be printed is spelt out.
        reason: A stable code.
        error: One line.
    """

    person: str
    reason: str
    error: str


class StaffEnrolment(msgspec.Struct, frozen=True):
    """What became of a folder.

    Attributes:
        folder: The folder.
        enrolled: Who was enrolled.
        skipped: Names of who was enrolled already.
        refused: Who was not enrolled, and why.
    """

    folder: str
    enrolled: list[Enrolment]
    skipped: list[str]
    refused: list[Refused]


def enrol_folder(
    recognizer: Recognizer,
    folder: str | os.PathLike[str],
    report: Callable[[int, int], None] | None = None,
) -> StaffEnrolment:
    """Enrol everybody in a folder who is not enrolled yet, so that it can be called again after an interruption.

    Args:
        recognizer: Where to.
        folder: Holds a file for each person, named after them, or a folder with one file or more.
        report: Called with the number of the person at hand, and of how many.

    Raises:
        InputError: Reason ``not_found`` or ``empty_folder``.
        IntegrityError: The gallery is damaged, or of another encoder.
        MachineError: The disk or the runtime failed; who was enrolled before stays.
    """
    people = _people(Path(folder))
    known = {person.person for person in recognizer.people()}
    enrolled: list[Enrolment] = []
    skipped: list[str] = []
    refused: list[Refused] = []
    for done, (name, images) in enumerate(people, start=1):
        if report is not None:
            report(done, len(people))
        try:
            if person_name(name) in known:
                skipped.append(person_name(name))
            else:
                enrolled.append(recognizer.enrol(name, *images))
        except InputError as error:
            refused.append(Refused(printable(name), error.reason, one_line(str(error))))
    return StaffEnrolment(str(folder), enrolled, skipped, refused)


def _people(folder: Path) -> list[tuple[str, list[Path]]]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        people = [(entry.name, _files(entry)) if entry.is_dir() else (entry.stem, [entry]) for entry in entries]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{folder} is no folder: name one with an image of each person", reason="not_found") from error
    except OSError as error:
        raise MachineError(f"cannot read {folder}: {error.strerror}", reason="cannot_read") from error
    if not people:
        raise InputError(f"{folder} is empty: put an image of each person there", reason="empty_folder")
    return people


def _files(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))

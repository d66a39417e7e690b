"""What the gallery says of people."""

import unicodedata
from typing import Final

import msgspec

from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery.access import Access
from edge_oneshot_device.matching.decision import Candidate

LONGEST_NAME: Final = 128


class Person(msgspec.Struct, frozen=True):
    """Somebody enrolled.

    Attributes:
        person: The name.
        templates: How many templates they have.
        enrolled: When first enrolled or last replaced: UTC, ISO 8601.
        fingerprint: Of the encoder that made the templates.
        valid_from, valid_until, hours: When they may come in, see `Access`.
    """

    person: str
    templates: int
    enrolled: str
    fingerprint: str
    valid_from: str | None = None
    valid_until: str | None = None
    hours: str | None = None


class Enrolment(msgspec.Struct, frozen=True):
    """A change of the gallery.

    Attributes:
        person: The name, as it is kept.
        templates: How many templates the person has now.
        reason: ``enrolled``, ``added``, ``replaced`` or ``forgotten``.
        fingerprint: Of the encoder that made the templates.
        resembles: Another person whom an image would be taken for: the same one under another name?
    """

    person: str
    templates: int
    reason: str
    fingerprint: str
    resembles: Candidate | None = None


class Record(msgspec.Struct, frozen=True, array_like=True):
    """What is sealed beside a person's templates."""

    name: str
    enrolled: str
    valid_from: str | None = None
    valid_until: str | None = None
    hours: str | None = None


def with_access(name: str, enrolled: str, access: Record | Access | None) -> Record:
    """A record with the access of another; None: always."""
    if access is None:
        return Record(name, enrolled)
    return Record(name, enrolled, access.valid_from, access.valid_until, access.hours)


def person_name(name: str) -> str:
    """The name as it is kept: NFC, without spaces around it.

    Raises:
        InputError: Reason ``bad_name``: blank, too long or not printable.
    """
    normal = unicodedata.normalize("NFC", name).strip(" ")
    if not normal or len(normal) > LONGEST_NAME or not normal.isprintable():
        message = f"{name[:40]!a} is no name for a person: it takes 1 to {LONGEST_NAME} printable characters"
        raise InputError(message, reason="bad_name")
    return normal


def not_enrolled(person: str) -> InputError:
    """The error for a person whom the gallery does not know."""
    return InputError(f"{person} is not enrolled: enrol them first, or look at people", reason="not_enrolled")

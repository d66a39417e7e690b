"""People as the gallery describes them, and the rules for their names."""

import re
import unicodedata
from typing import Final

import msgspec

from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery.access import Access
from edge_oneshot_device.matching.thresholds import Outlook

LONGEST_NAME: Final = 128

# Invisible characters: the code points with Unicode's property Default_Ignorable_Code_Point (16.0), except those that
# `isprintable` refuses already (direction marks among them), and blank signs: of Braille, of musical notes, of
# hieroglyphs, joiners. They are looked for after NFKC, which maps U+3164 and U+FFA0 to U+1160.
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u2d7f\ufe00-\ufe0f"
    "\U0001107f\U00013441\U00013442\U00016fe4\U0001d159\U000e0100-\U000e01ef]"
)


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


class Resemblance(msgspec.Struct, frozen=True):
    """Another person enrolled, who and whom one another's images may be accepted as; perhaps the same person.

    Attributes:
        person: The name.
        score: The highest that an image of the one has when compared with the other.
        verify: Whether `verify` accepts the one as the other (1:1).
        identify: Whether `identify` (1:N) confuses them too.
    """

    person: str
    score: float
    verify: bool
    identify: bool


class Unlocked(msgspec.Struct, frozen=True):
    """A person who may try 1:1 and the PIN again.

    Attributes:
        person: The name.
        failures: Consecutive failures of 1:1 until now.
        pin_failures: Of the PIN.
    """

    person: str
    failures: int
    pin_failures: int = 0


class Enrolment(msgspec.Struct, frozen=True):
    """A change of the gallery.

    Attributes:
        person: The name, as it is kept.
        templates: How many templates the person has now.
        reason: ``enrolled``, ``added``, ``replaced`` or ``forgotten``.
        fingerprint: Of the encoder that made the templates.
        resembles: The look-alike among the people enrolled whom an image is nearest to, if there is one.
        outlook: The expected errors of the door with everybody who is enrolled now; None where the bundle is not
            calibrated.
    """

    person: str
    templates: int
    reason: str
    fingerprint: str
    resembles: Resemblance | None = None
    outlook: Outlook | None = None


class StoredPin(msgspec.Struct, frozen=True, array_like=True):
    """A person's PIN, and how often somebody failed to give it.

    Attributes:
        number: What the person types before the PIN, where it opens without a face; nobody else's.
        digest: Argon2id of the PIN, as argon2 encodes it, with its salt and parameters.
        failures: Consecutive failures.
        boot, since: When the last one was, on the boot clock.
    """

    number: int
    digest: str
    failures: int = 0
    boot: str = ""
    since: float = 0.0


class PersonDetails(msgspec.Struct, frozen=True, array_like=True):
    """What is sealed about a person, beside their templates.

    Attributes:
        name: As it is kept.
        enrolled: When first enrolled or last replaced: UTC, ISO 8601.
        valid_from, valid_until, hours: When they may come in, see `Access`.
        pin: Their PIN; None: they have none.
    """

    name: str
    enrolled: str
    valid_from: str | None = None
    valid_until: str | None = None
    hours: str | None = None
    pin: StoredPin | None = None

    @classmethod
    def of(cls, name: str, enrolled: str, access: Access, pin: StoredPin | None) -> "PersonDetails":
        """The details of a person who may come in as `access` says.

        Args:
            name: As it is kept.
            enrolled: UTC, ISO 8601.
            access: When they may come in.
            pin: Their PIN.
        """
        return cls(name, enrolled, access.valid_from, access.valid_until, access.hours, pin)

    @property
    def access(self) -> Access:
        """When they may come in."""
        return Access(self.valid_from, self.valid_until, self.hours)

    def person(self, templates: int, fingerprint: str) -> Person:
        """The person, as a caller sees them, with so many templates of an encoder.

        Args:
            templates: How many templates they have.
            fingerprint: Of the encoder that made these.
        """
        return Person(self.name, templates, self.enrolled, fingerprint, self.valid_from, self.valid_until, self.hours)


def new_name(name: str) -> str:
    """The name of a person to enrol, as it is kept: one that can be told from every other name by its look.

    Raises:
        InputError: Reason ``bad_name``: see `person_name`; or it has an invisible character, or begins with a
            combining mark, which would join what is printed before it.
    """
    normal = person_name(name)
    compatible = unicodedata.normalize("NFKC", normal)
    if unicodedata.category(normal[0]).startswith("M") or _INVISIBLE.search(compatible):
        message = f"{name[:40]!a} is no name for a person: it begins with a mark, or has invisible characters"
        raise InputError(f"{message}; leave them out", reason="bad_name")
    return normal


def person_name(name: str) -> str:
    """A name as it is kept: NFC, without spaces around it.

    Raises:
        InputError: Reason ``bad_name``: blank, too long or not printable.
    """
    normal = unicodedata.normalize("NFC", name).strip(" ")
    if not normal or len(normal) > LONGEST_NAME or not normal.isprintable():
        message = f"{name[:40]!a} is no name for a person: it takes 1 to {LONGEST_NAME} printable characters"
        raise InputError(message, reason="bad_name")
    return normal


def not_enrolled(person: str) -> InputError:
    """The error for a person who is not enrolled."""
    return InputError(f"{person} is not enrolled: enrol them first, or look at people", reason="not_enrolled")

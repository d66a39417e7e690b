"""Who is enrolled: looking people up, enrolling, changing and forgetting them, with rows of the audit trail."""

import secrets
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery import audit, wiping
from edge_oneshot_device.gallery.access import ALWAYS, Access, changed
from edge_oneshot_device.gallery.encoders import require_encoder, use_encoder
from edge_oneshot_device.gallery.people import (
    Enrolment,
    Person,
    PersonDetails,
    StoredPin,
    new_name,
    not_enrolled,
    person_name,
)
from edge_oneshot_device.gallery.sealed import as_stored, open_person, write_person, write_photo, write_template
from edge_oneshot_device.gallery.storage_errors import corrupt
from edge_oneshot_device.gallery.transaction import Reading, Transaction
from edge_oneshot_device.matching.thresholds import MAX_TEMPLATES

Act = Literal["enrolled", "added", "replaced"]


class NewTemplates(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Templates to enrol a person with.

    Attributes:
        person: The name.
        templates: (k, d), k >= 1, of finite numbers of float32.
        act: Enrol somebody new, add to the templates of somebody enrolled, or replace these.
        most: Templates that a person may have.
        access: What to change of when the person may come in, see `access.changed`; None: nothing.
        photos: The image files that the templates were made from, to keep.
    """

    person: str
    templates: NDArray[np.float32]
    act: Act = "enrolled"
    most: int = MAX_TEMPLATES
    access: Access | None = None
    photos: Sequence[bytes] = ()

    def __post_init__(self) -> None:
        """Check the shape."""
        if self.templates.ndim != 2 or not len(self.templates):
            raise ValueError(f"templates of shape {self.templates.shape}: expected (k, d)")


def new_number() -> int:
    """A number for a new person; random, so that it says nothing about them."""
    return secrets.randbits(62)


def look_up(transaction: Transaction, name: str) -> tuple[int, int] | None:
    """Number of a person, and how many templates of this encoder they have; None where nobody has the name.

    Args:
        transaction: A transaction.
        name: As it is kept.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``.
    """
    query = """SELECT number, (SELECT count(*) FROM template WHERE person = number AND fingerprint = ?), record
               FROM person WHERE tag = ?"""
    row = transaction.execute(query, (transaction.fingerprint, transaction.vault.tag(name))).fetchone()
    if row is None:
        return None
    number, count, sealed = row
    # the tag alone could have been moved there from another person
    if open_person(transaction, number, sealed).name != name:
        raise corrupt(transaction.path, f"number {number:016x} has the tag of another name")
    return number, count


def find(transaction: Transaction, name: str) -> tuple[int, int]:
    """Number of a person who is enrolled, and how many templates of this encoder they have.

    Args:
        transaction: A transaction.
        name: As a user wrote it.

    Raises:
        InputError: Reason ``bad_name`` or ``not_enrolled``.
        IntegrityError: Reason ``gallery_corrupt``.
    """
    name = person_name(name)
    row = look_up(transaction, name)
    if row is None or not row[1]:
        raise not_enrolled(name)
    return row


def details_of(transaction: Transaction, number: int) -> PersonDetails | None:
    """The details of a person; None where they were forgotten.

    Args:
        transaction: A transaction.
        number: Of the person.
    """
    sealed = transaction.value("SELECT record FROM person WHERE number = ?", (number,))
    return None if sealed is None else open_person(transaction, number, sealed)


def count_of(transaction: Transaction, number: int) -> int:
    """How many templates of this encoder a person has.

    Args:
        transaction: A transaction.
        number: Of the person.
    """
    query = "SELECT count(*) FROM template WHERE person = ? AND fingerprint = ?"
    return int(transaction.value(query, (number, transaction.fingerprint)))


def people(reading: Reading) -> list[Person]:
    """Everybody enrolled with this encoder, by name.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``.
    """
    query = """SELECT number, record, count(*) FROM person JOIN template ON person = number
               WHERE fingerprint = ? GROUP BY number"""
    with reading() as transaction:
        rows = transaction.execute(query, (transaction.fingerprint,)).fetchall()
    # opened after the transaction has ended, for that takes long where many are enrolled
    people = [
        open_person(transaction, number, sealed).person(count, transaction.fingerprint)
        for number, sealed, count in rows
    ]
    return sorted(people, key=lambda person: person.person)


def act_of(*, add: bool, replace: bool) -> Act:
    """The act that two options name.

    Args:
        add: Add to the templates of somebody enrolled.
        replace: Replace the templates of somebody enrolled.
    """
    if add and replace:
        raise InputError("--add and --replace exclude each other: choose one", reason="wrong_use")
    return "added" if add else "replaced" if replace else "enrolled"


def enrol(transaction: Transaction, new: NewTemplates) -> Enrolment:
    """Enrol a person, or change their templates.

    Where templates are replaced, a wipe is due afterwards (see `Gallery.wipe`).

    Args:
        transaction: One that writes.
        new: Whom, and with what.

    Raises:
        InputError: Reason ``bad_name``, ``already_enrolled``, ``not_enrolled``, ``too_many_templates`` or ``bad_date``.
        IntegrityError: Reason ``gallery_of_other_fingerprint``.
        MachineError: Reason ``not_finite``.
    """
    name = new_name(new.person)
    stored = [as_stored(template) for template in new.templates]
    require_encoder(transaction)
    use_encoder(transaction)
    row = look_up(transaction, name)
    there = 0 if row is None else row[1]
    count = _count(new, name, there)
    number = new_number() if row is None else row[0]
    before = details_of(transaction, number)
    if row is not None and new.act != "added":
        _delete_own(transaction, number, there)
    enrolled = before.enrolled if before is not None and new.act == "added" else _now(transaction)
    access = ALWAYS if before is None else before.access
    if new.access is not None:
        access = changed(access, new.access)
    pin = None if before is None else before.pin
    write_person(transaction, number, PersonDetails.of(name, enrolled, access, pin))
    for template in stored:
        write_template(transaction, number, template)
    for photo in new.photos:
        write_photo(transaction, number, photo)
    audit.append(transaction, new.act, number, {"templates": count, "fingerprint": transaction.fingerprint})
    return Enrolment(name, count, new.act, transaction.fingerprint)


def set_access(transaction: Transaction, person: str, access: Access) -> Person:
    """Change when a person may come in; arguments and errors as for `Gallery.set_access`."""
    number, count = find(transaction, person)
    before = details_of(transaction, number)
    assert before is not None
    details = PersonDetails.of(before.name, before.enrolled, changed(before.access, access), before.pin)
    write_person(transaction, number, details)
    audit.append(transaction, "access", number, msgspec.structs.asdict(details.access))
    return details.person(count, transaction.fingerprint)


def write_pin(transaction: Transaction, number: int, pin: StoredPin | None) -> StoredPin | None:
    """Replace a person's PIN, and what is counted of it.

    Args:
        transaction: A transaction that writes.
        number: Of a person who is there.
        pin: From now on; None: they have none.

    Returns:
        The one before.
    """
    details = details_of(transaction, number)
    assert details is not None
    write_person(transaction, number, msgspec.structs.replace(details, pin=pin))
    return details.pin


def reset_pin(transaction: Transaction, number: int) -> int:
    """Let a person try their PIN again; returns how many failures there were.

    Args:
        transaction: A transaction that writes.
        number: Of a person who is there.
    """
    details = details_of(transaction, number)
    if details is None or details.pin is None or not details.pin.failures:
        return 0
    write_pin(transaction, number, msgspec.structs.replace(details.pin, failures=0))
    return details.pin.failures


def forget(transaction: Transaction, person: str) -> Enrolment:
    """Delete a person with all that belongs to them; a wipe is due afterwards (see `Gallery.wipe`).

    Args:
        transaction: A transaction that writes.
        person: The name.

    Raises:
        InputError: Reason ``bad_name`` or ``not_enrolled``.
    """
    person = person_name(person)
    row = look_up(transaction, person)
    if row is None:
        raise not_enrolled(person)
    transaction.write("DELETE FROM person WHERE number = ?", (row[0],))
    wiping.mark(transaction)
    audit.append(transaction, "forgotten", row[0], {"templates": 0})
    return Enrolment(person, 0, "forgotten", transaction.fingerprint)


def _count(new: NewTemplates, name: str, there: int) -> int:
    """How many templates the person will have."""
    if not there and new.act != "enrolled":
        raise not_enrolled(name)
    if there and new.act == "enrolled":
        message = f"{name} is enrolled already: use --add to add images, --replace to start anew"
        raise InputError(message, reason="already_enrolled")
    count = len(new.templates) + (there if new.act == "added" else 0)
    if count > new.most:
        message = f"{name} would have {count} templates: at most {new.most} a person are possible"
        raise InputError(message, reason="too_many_templates")
    return count


def _delete_own(transaction: Transaction, number: int, templates: int) -> None:
    """Delete a person's templates of this encoder, and all photos, which may be from the time of another encoder."""
    own = "DELETE FROM template WHERE person = ? AND fingerprint = ?"
    transaction.write(own, (number, transaction.fingerprint), rows=templates)
    photos = transaction.value("SELECT count(*) FROM photo WHERE person = ?", (number,))
    transaction.write("DELETE FROM photo WHERE person = ?", (number,), rows=photos)
    wiping.mark(transaction)


def _now(transaction: Transaction) -> str:
    return transaction.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")

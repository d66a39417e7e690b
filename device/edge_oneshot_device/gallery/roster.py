"""Who is enrolled: looking people up in the gallery's file."""

import secrets

from edge_oneshot_device.gallery.people import Person, PersonDetails, not_enrolled, person_name
from edge_oneshot_device.gallery.sealed import open_person
from edge_oneshot_device.gallery.storage_errors import corrupt
from edge_oneshot_device.gallery.transaction import Reading, Transaction


def new_number() -> int:
    """A number for a new person; random, so that it says nothing about them."""
    return secrets.randbits(62)


def look_up(transaction: Transaction, name: str) -> tuple[int, int] | None:
    """Number of a person, and how many templates of this encoder they have; None where nobody has the name.

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
    """The details of a person; None where they were forgotten."""
    sealed = transaction.value("SELECT record FROM person WHERE number = ?", (number,))
    return None if sealed is None else open_person(transaction, number, sealed)


def count_of(transaction: Transaction, number: int) -> int:
    """How many templates of this encoder a person has."""
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

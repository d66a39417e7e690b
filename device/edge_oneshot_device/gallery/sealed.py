"""The sealed rows: each is bound to its person, and a template to the fingerprint of its encoder as well."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.gallery.people import PersonDetails
from edge_oneshot_device.gallery.storage_errors import corrupt
from edge_oneshot_device.gallery.transaction import Transaction
from edge_oneshot_device.gallery.vault import SealError, Vault
from edge_oneshot_device.matching.rows import MAX_NORM

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(PersonDetails)


def write_person(transaction: Transaction, number: int, details: PersonDetails, vault: Vault | None = None) -> None:
    """Insert a person, or replace their details; their templates stay.

    Args:
        transaction: One that writes.
        number: Of the person.
        details: What is sealed.
        vault: What seals it; None takes the one in force.
    """
    vault = transaction.vault if vault is None else vault
    transaction.write(
        """INSERT INTO person (number, tag, record) VALUES (?, ?, ?)
           ON CONFLICT (number) DO UPDATE SET tag = excluded.tag, record = excluded.record""",
        (number, vault.tag(details.name), vault.seal(_encoder.encode(details), "person", number)),
    )


def open_person(transaction: Transaction, number: int, sealed: bytes) -> PersonDetails:
    """The details that were sealed for a person.

    Args:
        transaction: Its vault opens them.
        number: Of the person.
        sealed: The row.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``.
    """
    try:
        return _decoder.decode(transaction.vault.open(sealed, "person", number))
    except (SealError, msgspec.DecodeError) as error:
        fault = f"the person of number {number:016x} was altered, or moved there from another row"
        raise corrupt(transaction.path, fault) from error


def as_stored(template: NDArray[np.floating]) -> bytes:
    """A template as it is stored: float32 numbers, little-endian.

    Raises:
        MachineError: Reason ``not_finite``: float32 cannot hold a number, or a score would not be finite.
    """
    with np.errstate(over="ignore"):
        stored = template.astype("<f4")
    if not has_scores(stored):
        message = "a template is no finite number, or far too long: the model or its runtime is at fault"
        raise MachineError(message, reason="not_finite")
    return stored.tobytes()


def has_scores(template: NDArray[np.float32]) -> bool:
    """Whether the scores of a template are finite numbers."""
    # false for NaN as well
    return float(np.linalg.norm(template.astype(np.float64))) < MAX_NORM


def write_template(transaction: Transaction, number: int, embedding: bytes, fingerprint: str | None = None) -> None:
    """Insert a template.

    Args:
        transaction: One that writes.
        number: Of the person.
        embedding: The template, `as_stored`.
        fingerprint: Of its encoder; None takes that of the transaction.
    """
    fingerprint = transaction.fingerprint if fingerprint is None else fingerprint
    transaction.write(
        "INSERT INTO template (person, fingerprint, sealed) VALUES (?, ?, ?)",
        (number, fingerprint, transaction.vault.seal(embedding, "template", number, fingerprint)),
    )


def open_template(
    transaction: Transaction, number: int, sealed: bytes, name: str, fingerprint: str | None = None
) -> bytes:
    """The numbers of a template.

    Args:
        transaction: Its vault opens it.
        number: Of the person.
        sealed: The row.
        name: Of the person, for the error.
        fingerprint: Of the encoder; None takes that of the transaction.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``.
    """
    try:
        of = transaction.fingerprint if fingerprint is None else fingerprint
        return transaction.vault.open(sealed, "template", number, of)
    except SealError as error:
        fault = f"a template of {name} was altered, or moved there from another row"
        raise corrupt(transaction.path, fault) from error


def write_photo(transaction: Transaction, number: int, photo: bytes) -> None:
    """Keep a photo of a person; it belongs to no encoder, since it is there to be enrolled with another one.

    Args:
        transaction: A transaction that writes.
        number: Of the person.
        photo: An image file.
    """
    values = (number, transaction.vault.seal(photo, "photo", number))
    transaction.write("INSERT INTO photo (person, sealed) VALUES (?, ?)", values)


def open_photo(transaction: Transaction, number: int, sealed: bytes) -> bytes:
    """A photo that was kept.

    Args:
        transaction: Its vault opens it.
        number: Of the person.
        sealed: The row.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``.
    """
    try:
        return transaction.vault.open(sealed, "photo", number)
    except SealError as error:
        fault = f"a photo of number {number:016x} was altered, or moved there from another row"
        raise corrupt(transaction.path, fault) from error


def reseal(transaction: Transaction, vault: Vault) -> None:
    """Seal every person, template and photo with a new key.

    Args:
        transaction: One that writes; its own vault opens what there is.
        vault: Seals from now on.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``.
    """
    names = {}
    for number, sealed in transaction.execute("SELECT number, record FROM person").fetchall():
        details = open_person(transaction, number, sealed)
        names[number] = details.name
        write_person(transaction, number, details, vault)
    query = "SELECT id, person, fingerprint, sealed FROM template WHERE id > ? ORDER BY id LIMIT 1000"
    last = 0
    while rows := transaction.execute(query, (last,)).fetchall():
        for id_, number, fingerprint, sealed in rows:
            plain = open_template(transaction, number, sealed, names[number], fingerprint)
            resealed = vault.seal(plain, "template", number, fingerprint)
            transaction.write("UPDATE template SET sealed = ? WHERE id = ?", (resealed, id_))
        last = rows[-1][0]
    for id_, number in transaction.execute("SELECT id, person FROM photo").fetchall():
        plain = open_photo(transaction, number, transaction.value("SELECT sealed FROM photo WHERE id = ?", (id_,)))
        transaction.write("UPDATE photo SET sealed = ? WHERE id = ?", (vault.seal(plain, "photo", number), id_))

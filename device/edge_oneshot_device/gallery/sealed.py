"""The rows that are sealed: each bound to its person and to the fingerprint of the encoder."""

import sqlite3
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.gallery.database import corrupt, write
from edge_oneshot_device.gallery.people import Record
from edge_oneshot_device.gallery.vault import SealError, Vault
from edge_oneshot_device.matching.rows import MAX_NORM

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def write_person(connection: sqlite3.Connection, vault: Vault, number: int, record: Record) -> None:
    """Write a person, or write them anew; what belongs to them stays."""
    write(
        connection,
        """INSERT INTO person (number, tag, record) VALUES (?, ?, ?)
           ON CONFLICT (number) DO UPDATE SET tag = excluded.tag, record = excluded.record""",
        (number, vault.tag(record.name), vault.seal(_encoder.encode(record), "person", number)),
    )


def open_person(path: Path, vault: Vault, number: int, sealed: bytes) -> Record:
    """What is sealed beside a person's templates.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``.
    """
    try:
        return _decoder.decode(vault.open(sealed, "person", number))
    except (SealError, msgspec.DecodeError) as error:
        raise corrupt(
            path, f"the person of number {number:016x} was altered, or moved there from another row"
        ) from error


def as_stored(template: NDArray[np.floating]) -> bytes:
    """A template as it is stored: float32 numbers, little-endian.

    Raises:
        MachineError: Reason ``not_finite``: a number is none that float32 has, or so large that a score would be none.
    """
    with np.errstate(over="ignore"):
        stored = template.astype("<f4")
    if not has_scores(stored):
        message = "a template is no finite number, or far too long: the model or its runtime is at fault"
        raise MachineError(message, reason="not_finite")
    return stored.tobytes()


def has_scores(template: NDArray[np.float32]) -> bool:
    """Whether the scores of a template are finite numbers."""
    # of NaN it is not
    return float(np.linalg.norm(template.astype(np.float64))) < MAX_NORM


def write_template(
    connection: sqlite3.Connection, vault: Vault, number: int, fingerprint: str, embedding: bytes
) -> None:
    """Write a template, `as_stored`."""
    write(
        connection,
        "INSERT INTO template (person, fingerprint, sealed) VALUES (?, ?, ?)",
        (number, fingerprint, vault.seal(embedding, "template", number, fingerprint)),
    )


def open_template(path: Path, vault: Vault, number: int, fingerprint: str, sealed: bytes, name: str) -> bytes:
    """The numbers of a template; `name` is for the error.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``.
    """
    try:
        return vault.open(sealed, "template", number, fingerprint)
    except SealError as error:
        raise corrupt(path, f"a template of {name} was altered, or moved there from another row") from error


def write_photo(connection: sqlite3.Connection, vault: Vault, number: int, photo: bytes) -> None:
    """Keep a photo; of no encoder, since it is there to be enrolled with another one."""
    values = (number, vault.seal(photo, "photo", number))
    write(connection, "INSERT INTO photo (person, sealed) VALUES (?, ?)", values)


def open_photo(path: Path, vault: Vault, number: int, sealed: bytes) -> bytes:
    """A photo that was kept.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``.
    """
    try:
        return vault.open(sealed, "photo", number)
    except SealError as error:
        raise corrupt(path, f"a photo of number {number:016x} was altered, or moved there from another row") from error


def seal_anew(connection: sqlite3.Connection, path: Path, former: Vault, new: Vault) -> None:
    """Seal every person, template and photo with a new key, inside a transaction of the caller.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``.
    """
    names = {}
    for number, sealed in connection.execute("SELECT number, record FROM person").fetchall():
        record = open_person(path, former, number, sealed)
        names[number] = record.name
        write_person(connection, new, number, record)
    query = "SELECT id, person, fingerprint, sealed FROM template WHERE id > ? ORDER BY id LIMIT 1000"
    last = 0
    while rows := connection.execute(query, (last,)).fetchall():
        for id_, number, fingerprint, sealed in rows:
            plain = open_template(path, former, number, fingerprint, sealed, names[number])
            anew = new.seal(plain, "template", number, fingerprint)
            write(connection, "UPDATE template SET sealed = ? WHERE id = ?", (anew, id_))
        last = rows[-1][0]
    for id_, number in connection.execute("SELECT id, person FROM photo").fetchall():
        (sealed,) = connection.execute("SELECT sealed FROM photo WHERE id = ?", (id_,)).fetchone()
        plain = open_photo(path, former, number, sealed)
        write(connection, "UPDATE photo SET sealed = ? WHERE id = ?", (new.seal(plain, "photo", number), id_))

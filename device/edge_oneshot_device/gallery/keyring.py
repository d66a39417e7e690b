"""The keys in force in a gallery: the one that seals it, and those of its record.

The record is chained with a random key, itself sealed. `rotate_key` seals everything anew and begins a part of the
record with a new key; the former parts keep theirs, so that they can still be checked.
"""

import hashlib
import secrets
import sqlite3
from pathlib import Path
from typing import Final

import msgspec

from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_device.gallery import audit, wiping
from edge_oneshot_device.gallery.clock import Clock
from edge_oneshot_device.gallery.database import clear_errors, corrupt, reading, write
from edge_oneshot_device.gallery.encoders import put_in_use
from edge_oneshot_device.gallery.keys import KEY_BYTES, KeySource, find_vault, read_key
from edge_oneshot_device.gallery.people import Record
from edge_oneshot_device.gallery.sealed import write_person, write_template
from edge_oneshot_device.gallery.vault import SealError, Vault

_TRIES: Final = 3  # for another process may rotate the key between a look at the file and one at the gallery


class Keyring(msgspec.Struct, frozen=True):
    """The keys in force.

    Attributes:
        vault: Seals people, templates, photos and settings.
        epoch: How many keys there have been.
        chains: For each part of the record its first row's number and its key.
        sealed_chain: The newest of these keys, as it is in the file.
    """

    vault: Vault
    epoch: int
    chains: tuple[tuple[int, bytes], ...]
    sealed_chain: bytes

    @property
    def chain(self) -> bytes:
        """The key of the record's newest part."""
        return self.chains[-1][1]

    @property
    def identity(self) -> str:
        """Of this gallery and its copies, whatever keys they had; tells those apart that one key seals."""
        return hashlib.sha256(self.chains[0][1]).hexdigest()

    def is_current(self, connection: sqlite3.Connection) -> bool:
        """Whether the gallery is still sealed with these, in a transaction of the caller."""
        # the last one tells galleries apart that one key seals: `restore` may have brought another
        found = connection.execute("SELECT id, check_value, chain FROM epoch ORDER BY id DESC LIMIT 1").fetchone()
        return bool(found == (self.epoch, self.vault.check_value, self.sealed_chain))


def open_keyring(connection: sqlite3.Connection, path: Path, source: KeySource) -> Keyring:
    """The keys of a gallery, whose own may be kept beside the key file (see `find_vault`).

    Raises:
        IntegrityError: Reason ``wrong_key`` or ``gallery_corrupt``, or as `read_key` says.
        MachineError: The key cannot be read.
    """
    rows: list[tuple[int, int, bytes, bytes]] = []
    for _ in range(_TRIES):
        former = rows
        with clear_errors(path), reading(connection):
            rows = connection.execute("SELECT id, first_seq, check_value, chain FROM epoch ORDER BY id").fetchall()
        if not rows:
            raise corrupt(path, "it does not say which key it is sealed with")
        vault = None if rows == former else find_vault(source, rows[-1][2])
        if vault is not None:
            break
    else:
        message = f"{path} is sealed with another key than that from {source}: name the right one with --key"
        raise IntegrityError(message, reason="wrong_key")
    try:
        chains = tuple((first, vault.open(chain, "chain", id_)) for id_, first, _, chain in rows)
    except SealError as error:
        raise corrupt(path, "the keys of its record cannot be opened") from error
    return Keyring(vault, rows[-1][0], chains, rows[-1][3])


def begin_chain(connection: sqlite3.Connection, source: KeySource, clock: Clock) -> None:
    """Begin the record of a new gallery, or of one from before there were keys, whose people are sealed now."""
    vault = Vault(read_key(source))
    chain = secrets.token_bytes(KEY_BYTES)
    write_epoch(connection, vault, 1, 1, chain)
    audit.append(connection, chain, clock.now(), "created", detail={"gallery": secrets.token_hex(8)})
    query = "SELECT id, name, enrolled, fingerprint FROM open_person ORDER BY id"
    wiping.mark(connection)
    for former, name, enrolled, fingerprint in connection.execute(query).fetchall():
        number = secrets.randbits(62)
        put_in_use(connection, fingerprint)
        write_person(connection, vault, number, Record(name, enrolled))
        query = "SELECT embedding FROM open_template WHERE person = ? ORDER BY id"
        templates = connection.execute(query, (former,)).fetchall()
        for (embedding,) in templates:
            write_template(connection, vault, number, fingerprint, embedding)
        detail = {"templates": len(templates), "fingerprint": fingerprint}
        audit.append(connection, chain, clock.now(), "enrolled", number, detail)
    connection.execute("DROP TABLE open_template")
    connection.execute("DROP TABLE open_person")


def write_epoch(connection: sqlite3.Connection, vault: Vault, epoch: int, first_seq: int, chain: bytes) -> None:
    """Say which key the gallery is sealed with from now on, and keep the record's key."""
    write(
        connection,
        "INSERT INTO epoch (id, first_seq, check_value, chain) VALUES (?, ?, ?, ?)",
        (epoch, first_seq, vault.check_value, vault.seal(chain, "chain", epoch)),
    )

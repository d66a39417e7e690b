"""The keys in force in a gallery: the one that seals it, and those that chain its audit trail.

The audit trail is chained with a random key, which is itself sealed. `rotate_key` seals everything with a new key and
begins a new part of the audit trail with a new chain key; the earlier parts keep theirs, so that they can be checked.
"""

import hashlib
from pathlib import Path
from typing import Final

import msgspec

from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_device.gallery.database import Connection, reading
from edge_oneshot_device.gallery.keys import KeySource, find_vault
from edge_oneshot_device.gallery.storage_errors import clear_errors, corrupt
from edge_oneshot_device.gallery.vault import SealError, Vault

_TRIES: Final = 3  # another process may rotate the key between reading the key file and reading the gallery


class Keyring(msgspec.Struct, frozen=True):
    """The keys in force.

    Attributes:
        vault: Seals people, templates, photos and settings.
        epoch: How many keys there have been.
        chains: For each part of the audit trail the number of its first row, and its key.
        sealed_chain: The newest of these keys, as it is in the file.
    """

    vault: Vault
    epoch: int
    chains: tuple[tuple[int, bytes], ...]
    sealed_chain: bytes

    @property
    def chain(self) -> bytes:
        """The key of the newest part of the audit trail."""
        return self.chains[-1][1]

    @property
    def identity(self) -> str:
        """The same for a gallery and its copies, whatever key they have; tells apart galleries that share a key."""
        return hashlib.sha256(self.chains[0][1]).hexdigest()

    def is_current(self, connection: Connection) -> bool:
        """Whether the gallery is still sealed with these keys; the connection is in a transaction."""
        # the chain key tells apart galleries that share a key: `restore` may have brought another gallery
        found = connection.execute("SELECT id, check_value, chain FROM epoch ORDER BY id DESC LIMIT 1").fetchone()
        return bool(found == (self.epoch, self.vault.check_value, self.sealed_chain))


def open_keyring(connection: Connection, path: Path, source: KeySource) -> Keyring:
    """The keys of a gallery. The key that seals it may be kept beside the key file (see `find_vault`).

    Args:
        connection: The gallery's file, outside a transaction.
        path: The same file, for errors.
        source: Where the key is.

    Raises:
        IntegrityError: Reason ``wrong_key`` or ``gallery_corrupt``, or as `read_key` says.
        MachineError: The key cannot be read.
    """
    rows: list[tuple[int, int, bytes, bytes]] = []
    for _ in range(_TRIES):
        before = rows
        with clear_errors(path), reading(connection):
            rows = connection.execute("SELECT id, first_seq, check_value, chain FROM epoch ORDER BY id").fetchall()
        if not rows:
            raise corrupt(path, "it does not say which key it is sealed with")
        vault = None if rows == before else find_vault(source, rows[-1][2])
        if vault is not None:
            break
    else:
        message = f"{path} is sealed with another key than that from {source}: name the right one with --key"
        raise IntegrityError(message, reason="wrong_key")
    try:
        chains = tuple((first, vault.open(chain, "chain", id_)) for id_, first, _, chain in rows)
    except SealError as error:
        raise corrupt(path, "the keys of its audit trail cannot be opened") from error
    return Keyring(vault, rows[-1][0], chains, rows[-1][3])

"""The first rows of a new gallery, and the people of one from before galleries were sealed."""

import secrets

from edge_oneshot_device.gallery import audit, wiping
from edge_oneshot_device.gallery.clock import Clock
from edge_oneshot_device.gallery.database import Connection
from edge_oneshot_device.gallery.encoders import put_in_use
from edge_oneshot_device.gallery.keyring import Keyring
from edge_oneshot_device.gallery.keys import KEY_BYTES, KeySource, read_key
from edge_oneshot_device.gallery.people import PersonDetails
from edge_oneshot_device.gallery.roster import new_number
from edge_oneshot_device.gallery.sealed import write_person, write_template
from edge_oneshot_device.gallery.transaction import Transaction
from edge_oneshot_device.gallery.vault import Vault


def write_first_rows(connection: Connection, source: KeySource, clock: Clock) -> int:
    """Begin the audit trail of a new gallery, and seal the people of one of version 1.

    Args:
        connection: In the transaction that migrates the tables.
        source: Where the key is.
        clock: Dates the rows.

    Returns:
        How many people were sealed.

    Raises:
        IntegrityError: As `read_key` says.
        MachineError: Likewise.
    """
    vault, chain = Vault(read_key(source)), secrets.token_bytes(KEY_BYTES)
    transaction = Transaction(connection, Keyring(vault, 1, ((1, chain),), b""), "", clock)
    write_epoch(transaction, vault, 1, 1, chain)
    audit.append_first(transaction, "created", {"gallery": secrets.token_hex(8)})
    wiping.mark(transaction)
    people = transaction.execute("SELECT id, name, enrolled, fingerprint FROM open_person ORDER BY id").fetchall()
    for id_, name, enrolled, fingerprint in people:
        number = new_number()
        put_in_use(transaction, fingerprint)
        write_person(transaction, number, PersonDetails(name, enrolled))
        query = "SELECT embedding FROM open_template WHERE person = ? ORDER BY id"
        templates = transaction.execute(query, (id_,)).fetchall()
        for (embedding,) in templates:
            write_template(transaction, number, embedding, fingerprint)
        audit.append(transaction, "enrolled", number, {"templates": len(templates), "fingerprint": fingerprint})
    transaction.execute("DROP TABLE open_template")
    transaction.execute("DROP TABLE open_person")
    return len(people)


def write_epoch(transaction: Transaction, vault: Vault, epoch: int, first_seq: int, chain: bytes) -> None:
    """Say which key the gallery is sealed with from now on, and which key chains its audit trail.

    Args:
        transaction: One that writes.
        vault: Of the key that seals from now on.
        epoch: How many keys there have been.
        first_seq: Number of the first audit row that `chain` is for.
        chain: The chain key; it is sealed.
    """
    transaction.write(
        "INSERT INTO epoch (id, first_seq, check_value, chain) VALUES (?, ?, ?, ?)",
        (epoch, first_seq, vault.check_value, vault.seal(chain, "chain", epoch)),
    )

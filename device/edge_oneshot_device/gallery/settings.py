"""What decides at the door, sealed in one row of the gallery; what it says is `recognition.state`'s to know.

The row is bound to the gallery and to the row of the record that says so: neither another gallery's settings nor
former ones of this gallery open in its place.
"""

import sqlite3
from pathlib import Path

from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_device.gallery.database import write as write_rows
from edge_oneshot_device.gallery.keyring import Keyring
from edge_oneshot_device.gallery.vault import SealError, Vault

_DOMAIN = "settings"


def write(connection: sqlite3.Connection, keyring: Keyring, seq: int, content: bytes) -> None:
    """Put settings in the place of those of before, in a transaction that writes.

    Args:
        connection: In the transaction.
        keyring: The keys in force.
        seq: Number of the row of the record that says so, the newest ``installed``.
        content: What is sealed.
    """
    sealed = keyring.vault.seal(content, _DOMAIN, seq, keyring.identity)
    write_rows(connection, "INSERT OR REPLACE INTO settings (id, seq, sealed) VALUES (1, ?, ?)", (seq, sealed))


def read(connection: sqlite3.Connection, path: Path, keyring: Keyring) -> bytes | None:
    """The settings, in a transaction of the caller; None where there are none.

    Raises:
        IntegrityError: Reason ``settings_altered``.
    """
    row = connection.execute("SELECT seq, sealed FROM settings").fetchone()
    if row is None:
        return None
    seq, sealed = row
    content = _open(path, keyring, seq, sealed)
    # found by an index; that nobody removed a later row, only a walk through the whole record can tell
    newest = connection.execute("SELECT max(seq) FROM audit WHERE act = 'installed'").fetchone()[0]
    if newest != seq:
        raise altered(path, "are not those that its record says were installed last")
    return content


def row_of(connection: sqlite3.Connection) -> int | None:
    """Number of the row of the record that the settings are bound to; None where there are none."""
    found = connection.execute("SELECT seq FROM settings").fetchone()
    return None if found is None else int(found[0])


def remove(connection: sqlite3.Connection) -> None:
    """Remove the settings, in a transaction that writes."""
    connection.execute("DELETE FROM settings")


def seal_anew(connection: sqlite3.Connection, path: Path, former: Keyring, new: Vault) -> None:
    """Seal the settings with another key, in a transaction that writes.

    Raises:
        IntegrityError: Reason ``settings_altered``.
    """
    for seq, sealed in connection.execute("SELECT seq, sealed FROM settings").fetchall():
        content = _open(path, former, seq, sealed)
        anew = new.seal(content, _DOMAIN, seq, former.identity)
        write_rows(connection, "UPDATE settings SET sealed = ? WHERE seq = ?", (anew, seq))


def altered(path: Path, how: str) -> IntegrityError:
    """The error for settings that are not as this program left them."""
    message = f"the settings in {path} {how}: run init again with the bundle, and --trust as before; look who wrote it"
    return IntegrityError(message, reason="settings_altered")


def _open(path: Path, keyring: Keyring, seq: int, sealed: bytes) -> bytes:
    try:
        return keyring.vault.open(sealed, _DOMAIN, seq, keyring.identity)
    except SealError as error:
        raise altered(path, "were altered, or moved there from another gallery") from error

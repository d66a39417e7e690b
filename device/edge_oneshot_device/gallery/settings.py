"""The settings of the door, sealed in one row of the gallery; `recognition.state` knows what they say.

The row is bound to the gallery and to the row of the audit trail that installed it: neither the settings of another
gallery nor earlier ones of this gallery open in its place.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_device.gallery import audit
from edge_oneshot_device.gallery.encoders import use_encoder
from edge_oneshot_device.gallery.transaction import Transaction
from edge_oneshot_device.gallery.vault import SealError, Vault

_DOMAIN = "settings"


def install(transaction: Transaction, content: bytes, detail: Mapping[str, Any]) -> None:
    """Put the encoder of a transaction in use with settings, with a row of the audit trail.

    Args:
        transaction: One that writes.
        content: The settings, which are sealed.
        detail: What the audit trail says about them.
    """
    use_encoder(transaction, detail)
    bind(transaction, content)


def bind(transaction: Transaction, content: bytes) -> None:
    """Replace the settings with ones that are bound to the newest row of the audit trail, an ``installed``.

    Args:
        transaction: A transaction that writes.
        content: The settings, which are sealed.
    """
    seq = audit.newest(transaction).seq
    sealed = transaction.vault.seal(content, _DOMAIN, seq, transaction.keyring.identity)
    transaction.write("INSERT OR REPLACE INTO settings (id, seq, sealed) VALUES (1, ?, ?)", (seq, sealed))


def prune_audit(transaction: Transaction, before: datetime) -> int:
    """Delete the rows of the audit trail from before a date; returns how many they were.

    The row that the settings are bound to is written again where it would be deleted.

    Args:
        transaction: A transaction that writes.
        before: Aware.

    Raises:
        IntegrityError: Reason ``settings_altered`` or ``audit_altered``.
    """
    own = installed(transaction)
    pruned = audit.delete_before(transaction, before)
    if own is not None and audit.row_at(transaction, row_of(transaction)) is None:
        content, detail = own
        audit.append(transaction, "installed", detail=detail)
        bind(transaction, content)
    return pruned


def read(transaction: Transaction) -> bytes | None:
    """The settings that were installed; None where there are none.

    Raises:
        IntegrityError: Reason ``settings_altered``; or ``audit_altered``: the newest row is not the program's own.
    """
    audit.newest(transaction)
    row = transaction.execute("SELECT seq, sealed FROM settings").fetchone()
    if row is None:
        return None
    seq, sealed = row
    content = _open(transaction, seq, sealed)
    # found by an index; that nobody removed a later row, only a check of the whole audit trail can tell
    if transaction.value("SELECT max(seq) FROM audit WHERE act = 'installed'") != seq:
        raise altered(transaction.path, "are not those that its audit trail says were installed last")
    return content


def installed(transaction: Transaction) -> tuple[bytes, dict[str, Any]] | None:
    """The settings, and what the audit trail says about them; raises what `read` does."""
    content, row = read(transaction), audit.row_at(transaction, row_of(transaction))
    if content is None or row is None:
        return None
    return content, msgspec.json.decode(row.detail, type=dict[str, Any])


def row_of(transaction: Transaction) -> int | None:
    """Number of the audit row that the settings are bound to; None where there are none."""
    found = transaction.value("SELECT seq FROM settings")
    return None if found is None else int(found)


def remove(transaction: Transaction) -> None:
    """Remove the settings."""
    transaction.execute("DELETE FROM settings")


def reseal(transaction: Transaction, vault: Vault) -> None:
    """Seal the settings with a new key.

    Args:
        transaction: A transaction that writes.
        vault: Of the new key.

    Raises:
        IntegrityError: Reason ``settings_altered``.
    """
    for seq, sealed in transaction.execute("SELECT seq, sealed FROM settings").fetchall():
        resealed = vault.seal(_open(transaction, seq, sealed), _DOMAIN, seq, transaction.keyring.identity)
        transaction.write("UPDATE settings SET sealed = ? WHERE seq = ?", (resealed, seq))


def altered(path: Path, fault: str) -> IntegrityError:
    """The error for settings that are not as this program left them.

    Args:
        path: The gallery's file.
        fault: What is wrong with them.
    """
    message = f"the settings in {path} {fault}: run init again with the bundle, and --trust as before; find out"
    return IntegrityError(f"{message} who wrote it", reason="settings_altered")


def _open(transaction: Transaction, seq: int, sealed: bytes) -> bytes:
    try:
        return transaction.vault.open(sealed, _DOMAIN, seq, transaction.keyring.identity)
    except SealError as error:
        raise altered(transaction.path, "were altered, or moved there from another gallery") from error

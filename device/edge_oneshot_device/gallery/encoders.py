"""The encoder that a gallery is in use with, and the one before it, whose templates are kept for a rollback."""

from collections.abc import Mapping
from typing import Any

from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_device.gallery import audit, wiping
from edge_oneshot_device.gallery.transaction import Transaction


def encoders(transaction: Transaction) -> list[str]:
    """Fingerprints of the encoders that have templates; the last one is in use."""
    return [row[0] for row in transaction.execute("SELECT fingerprint FROM encoder ORDER BY id")]


def people_of(transaction: Transaction, fingerprint: str) -> int:
    """How many people have templates of an encoder.

    Args:
        transaction: A transaction.
        fingerprint: Of the encoder.
    """
    query = "SELECT count(DISTINCT person) FROM template WHERE fingerprint = ?"
    return int(transaction.value(query, (fingerprint,)))


def require_encoder(transaction: Transaction) -> None:
    """Check that the gallery is in use with the encoder of the transaction.

    Raises:
        IntegrityError: Reason ``gallery_of_other_fingerprint``: it is in use with another one.
    """
    fingerprint = transaction.fingerprint
    *_, in_use = [fingerprint, *encoders(transaction)]
    if in_use != fingerprint:
        people = people_of(transaction, in_use)
        who = "1 person is" if people == 1 else f"{people} people are"
        message = f"{who} enrolled in {transaction.path} with another encoder than {fingerprint[:12]}: init with"
        message += " --re-enrol or --empty, or init the bundle that they were enrolled with"
        raise IntegrityError(message, reason="gallery_of_other_fingerprint")


def put_in_use(transaction: Transaction, fingerprint: str) -> list[str]:
    """Use an encoder from now on.

    The templates of the encoder before it are kept. Older ones are deleted, and so is whoever has no others.

    Args:
        transaction: A transaction that writes.
        fingerprint: Of the encoder.

    Returns:
        The encoders whose templates are kept, as `encoders` returns them.
    """
    before = encoders(transaction)
    if before[-1:] == [fingerprint]:
        return before
    if fingerprint in before:
        # moved to the end: deleting it and inserting it again would delete its templates
        last = "UPDATE encoder SET id = (SELECT max(id) + 1 FROM encoder) WHERE fingerprint = ?"
        transaction.write(last, (fingerprint,))
    else:
        transaction.write("INSERT INTO encoder (fingerprint) VALUES (?)", (fingerprint,))
    older = [one for one in before if one != fingerprint][:-1]
    for one in older:
        transaction.write("DELETE FROM encoder WHERE fingerprint = ?", (one,))
    if older:
        without = "FROM person WHERE number NOT IN (SELECT person FROM template)"
        transaction.write(f"DELETE {without}", rows=transaction.value(f"SELECT count(*) {without}"))
        wiping.mark(transaction)
    return encoders(transaction)


def use_encoder(transaction: Transaction, installed: Mapping[str, Any] | None = None) -> None:
    """Put the encoder of a transaction in use (see `put_in_use`), with a row of the audit trail.

    Args:
        transaction: One that writes.
        installed: Further facts for that row; with None there is a row only where another encoder was in use.
    """
    before = encoders(transaction)
    kept = put_in_use(transaction, transaction.fingerprint)
    if installed is not None or (before and kept != before):
        audit.append(transaction, "installed", detail={**(installed or {}), "encoders": kept})

"""Templates of another encoder for everybody enrolled, from the photos that were kept."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.gallery import audit, wiping
from edge_oneshot_device.gallery.encoders import encoders
from edge_oneshot_device.gallery.roster import count_of
from edge_oneshot_device.gallery.sealed import as_stored, open_photo, write_template
from edge_oneshot_device.gallery.transaction import Transaction


def photos(transaction: Transaction) -> dict[int, list[bytes]]:
    """The photos that were kept of everybody enrolled with the encoder in use, by number; an empty list without any.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``.
    """
    in_use = encoders(transaction)[-1:]
    if not in_use:
        return {}
    query = "SELECT DISTINCT person FROM template WHERE fingerprint = ? ORDER BY person"
    found: dict[int, list[bytes]] = {row[0]: [] for row in transaction.execute(query, in_use)}
    for number, sealed in transaction.execute("SELECT person, sealed FROM photo ORDER BY id"):
        if number in found:
            found[number].append(open_photo(transaction, number, sealed))
    return found


def replace_all(transaction: Transaction, people: Mapping[int, NDArray[np.float32]]) -> None:
    """Replace the templates of this encoder, which was just put in use, for everybody; those of others stay.

    Args:
        transaction: One that writes.
        people: Templates (k, d) by number.

    Raises:
        MachineError: Reason ``gallery_busy``: other people are enrolled than when `photos` was read.
    """
    *_, before, _ = ["", "", *encoders(transaction)]
    query = "SELECT DISTINCT person FROM template WHERE fingerprint = ?"
    if {row[0] for row in transaction.execute(query, (before,))} != people.keys():
        message = f"somebody was enrolled or forgotten meanwhile in {transaction.path}: nothing was changed; try again"
        raise MachineError(message, reason="gallery_busy")
    wiping.mark(transaction)
    fingerprint = transaction.fingerprint
    for number, templates in people.items():
        own = "DELETE FROM template WHERE person = ? AND fingerprint = ?"
        transaction.write(own, (number, fingerprint), rows=count_of(transaction, number))
        for template in templates:
            write_template(transaction, number, as_stored(template))
        audit.append(transaction, "replaced", number, {"templates": len(templates), "fingerprint": fingerprint})

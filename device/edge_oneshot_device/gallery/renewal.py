"""Templates of another encoder for everybody enrolled, from the photos that were kept."""

import sqlite3
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.gallery import wiping
from edge_oneshot_device.gallery.database import write
from edge_oneshot_device.gallery.encoders import encoders
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.sealed import as_stored, open_photo, write_template


def photos(gallery: Gallery) -> dict[int, list[bytes]]:
    """The photos that were kept, of everybody enrolled with the encoder in use; none of whom none was kept.

    Raises:
        IntegrityError: Reason ``gallery_corrupt``.
    """

    def work(connection: sqlite3.Connection) -> dict[int, list[bytes]]:
        in_use = encoders(connection)[-1:]
        if not in_use:
            return {}
        query = "SELECT DISTINCT person FROM template WHERE fingerprint = ? ORDER BY person"
        found: dict[int, list[bytes]] = {row[0]: [] for row in connection.execute(query, in_use)}
        for number, sealed in connection.execute("SELECT person, sealed FROM photo ORDER BY id"):
            if number in found:
                found[number].append(open_photo(gallery.path, gallery.keyring.vault, number, sealed))
        return found

    return gallery.read(work)


def replace_all(gallery: Gallery, connection: sqlite3.Connection, people: Mapping[int, NDArray[np.float32]]) -> None:
    """Give people templates of the gallery's encoder, in a transaction of `Gallery.change`; those of others stay.

    Raises:
        MachineError: Reason ``gallery_busy``: not the same people are enrolled as when `photos` was asked.
    """
    *_, before, _ = ["", "", *encoders(connection)]
    query = "SELECT DISTINCT person FROM template WHERE fingerprint = ?"
    if {row[0] for row in connection.execute(query, (before,))} != people.keys():
        message = f"somebody was enrolled or forgotten meanwhile in {gallery.path}: nothing was changed; try again"
        raise MachineError(message, reason="gallery_busy")
    wiping.mark(connection)
    for number, templates in people.items():
        own = "DELETE FROM template WHERE person = ? AND fingerprint = ?"
        write(connection, own, (number, gallery.fingerprint), rows=gallery.count_of(connection, number))
        for template in templates:
            write_template(connection, gallery.keyring.vault, number, gallery.fingerprint, as_stored(template))
        detail = {"templates": len(templates), "fingerprint": gallery.fingerprint}
        gallery.append_audit(connection, "replaced", number, detail)

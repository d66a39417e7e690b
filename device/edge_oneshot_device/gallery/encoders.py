"""Which encoder a gallery is in use with, and the one before it, whose templates are kept for a rollback."""

import sqlite3

from edge_oneshot_device.gallery import wiping
from edge_oneshot_device.gallery.database import write


def encoders(connection: sqlite3.Connection) -> list[str]:
    """Fingerprints of the encoders that there are templates of, the one in use last; in a transaction of the caller."""
    return [row[0] for row in connection.execute("SELECT fingerprint FROM encoder ORDER BY id")]


def people_of(connection: sqlite3.Connection, fingerprint: str) -> int:
    """How many people have templates of an encoder."""
    query = "SELECT count(DISTINCT person) FROM template WHERE fingerprint = ?"
    return int(connection.execute(query, (fingerprint,)).fetchone()[0])


def put_in_use(connection: sqlite3.Connection, fingerprint: str) -> list[str]:
    """Use another encoder from now on, in a transaction that writes.

    The templates of the one in use until now are kept, older ones deleted, and with them whoever has no others.

    Returns:
        The encoders whose templates are kept, as `encoders` does.
    """
    former = encoders(connection)
    if former[-1:] == [fingerprint]:
        return former
    if fingerprint in former:
        # moved to the end: deleted and inserted again, its templates would go with it
        last = "UPDATE encoder SET id = (SELECT max(id) + 1 FROM encoder) WHERE fingerprint = ?"
        write(connection, last, (fingerprint,))
    else:
        write(connection, "INSERT INTO encoder (fingerprint) VALUES (?)", (fingerprint,))
    older = [one for one in former if one != fingerprint][:-1]
    for one in older:
        write(connection, "DELETE FROM encoder WHERE fingerprint = ?", (one,))
    if older:
        without = "FROM person WHERE number NOT IN (SELECT person FROM template)"
        count = connection.execute(f"SELECT count(*) {without}").fetchone()[0]
        write(connection, f"DELETE {without}", rows=count)
        wiping.mark(connection)
    return encoders(connection)

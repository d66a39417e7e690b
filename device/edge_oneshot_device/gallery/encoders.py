"""Which encoder a gallery is in use with, and the one before it, whose templates are kept for a rollback."""

import sqlite3

from edge_oneshot_device.gallery import wiping


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
    # moved to the end: deleted and inserted again, its templates would go with it
    connection.execute(
        "UPDATE encoder SET id = (SELECT max(id) + 1 FROM encoder) WHERE fingerprint = ?", (fingerprint,)
    )
    connection.execute("INSERT OR IGNORE INTO encoder (fingerprint) VALUES (?)", (fingerprint,))
    older = "DELETE FROM encoder WHERE id NOT IN (SELECT id FROM encoder ORDER BY id DESC LIMIT 2)"
    if connection.execute(older).rowcount:
        connection.execute("DELETE FROM person WHERE number NOT IN (SELECT person FROM template)")
        wiping.mark(connection)
    return encoders(connection)

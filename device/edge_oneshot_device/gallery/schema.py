"""The schema of a gallery's file has to be exactly what the migrations make.

Rows are sealed and chained, but SQLite runs whatever the file's schema says: a trigger can discard a row of the audit
trail or keep a copy of what is deleted, and a view or a generated column can take a table's place.
"""

import sqlite3
from collections import Counter
from contextlib import closing
from functools import cache

Entry = tuple[str, str, str, str]
"""Type, name, table and SQL text of an entry of the schema."""


def schema_difference(
    connection: sqlite3.Connection, statements: tuple[str, ...], dropped: tuple[str, ...] = ()
) -> str | None:
    """How the schema differs from the one that statements make, in short; None where it does not.

    Args:
        connection: In a transaction, so that what is read is what SQLite uses.
        statements: The migrations up to the file's version.
        dropped: Tables that are dropped after them.
    """
    found = _entries(connection)
    expected = _made_by(statements, dropped)
    if found == expected:
        return None
    for said, more, fewer in (("it has", found, expected), ("it lacks", expected, found)):
        for kind, name, *_ in Counter(more) - Counter(fewer):
            return f"{said} the {kind} {str(name)[:60]!a}"
    raise AssertionError("two sorted lists that differ have other entries")


@cache
def _made_by(statements: tuple[str, ...], dropped: tuple[str, ...]) -> list[Entry]:
    """The schema as SQLite itself writes it, whose text may differ from the statements; 0.3 ms once a process."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
        for table in dropped:
            connection.execute(f"DROP TABLE {table}")
        return _entries(connection)


def _entries(connection: sqlite3.Connection) -> list[Entry]:
    query = "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master ORDER BY 1, 2, 3, 4"
    return connection.execute(query).fetchall()

"""The schema of a gallery's file is exactly what the migrations make: a trigger in it would be somebody else's program.

Rows are sealed and chained, but SQLite runs whatever the file's schema says: a trigger can swallow a row of the record
or keep a copy of what is deleted, and a view or a generated column can take a table's place.
"""

import sqlite3
from collections import Counter
from contextlib import closing
from functools import cache

Entry = tuple[str, str, str, str]
"""Type, name, table and SQL text of an entry of the schema."""


def foreign_schema(
    connection: sqlite3.Connection, statements: tuple[str, ...], dropped: tuple[str, ...] = ()
) -> str | None:
    """What differs from the schema that statements make, in short; None where nothing does.

    Args:
        connection: In a transaction, so that what is read is what SQLite goes by.
        statements: Of the migrations up to the file's version.
        dropped: Tables that are dropped after them.
    """
    found = _entries(connection)
    wanted = _made_by(statements, dropped)
    if found == wanted:
        return None
    for said, more, fewer in (("it has", found, wanted), ("it lacks", wanted, found)):
        for kind, name, *_ in Counter(more) - Counter(fewer):
            return f"{said} the {kind} {str(name)[:60]!a}"
    raise AssertionError("two sorted lists that differ have other entries")


@cache
def _made_by(statements: tuple[str, ...], dropped: tuple[str, ...]) -> list[Entry]:
    """0.3 ms once a process; the text in a constant could differ from what SQLite makes of it."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
        for table in dropped:
            connection.execute(f"DROP TABLE {table}")
        return _entries(connection)


def _entries(connection: sqlite3.Connection) -> list[Entry]:
    query = "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master ORDER BY 1, 2, 3, 4"
    return connection.execute(query).fetchall()

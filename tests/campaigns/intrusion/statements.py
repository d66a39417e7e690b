"""Attacks by SQL without the key: statements drawn from a grammar over the schema that the gallery's file has."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from tests.campaigns.intrusion.acts import Act, Scene

T = TypeVar("T")

_WAIT_SECONDS = 0.5
_WILD = (
    "NULL", "0", "-1", "1", "2", "50", "1000000000000", "4611686018427387904", "9223372036854775807", "1e308", "-1e308",
    "9e999", "''", "'x'", "'{}'", "'[]'", "'null'", "x''", "zeroblob(28)", "zeroblob(64)", "randomblob(40)",
    "cast(x'ff' AS TEXT)", "'2999-01-01T00:00:00Z'", "zeroblob(3000000)", "CURRENT_TIMESTAMP", "random()",
    "'{\"accepted\":true,\"encoders\":[]}'", "strftime('%s','now','+1 year') * 1000000",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    columns: tuple[str, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class _Draw:
    """What statements are drawn from: a scene, and the schema of its gallery."""

    scene: Scene
    tables: tuple[_Table, ...]
    names: tuple[str, ...]  # of tables and indexes

    def pick(self, of: Sequence[T]) -> T:
        return self.scene.numbers.choice(of)

    def table(self) -> _Table:
        return self.pick([one for one in self.tables if one.rows] if self.scene.chance(0.7) else self.tables)

    def value(self, table: _Table, column: str) -> str:
        """Of another row, another column, another table, or wild."""
        kind = self.scene.numbers.random()
        if kind < 0.35:
            return f"(SELECT {column} FROM {table.name} {self.row(table)})"
        if kind < 0.5:
            other = self.table()
            return f"(SELECT {self.pick(other.columns)} FROM {other.name} {self.row(other)})"
        if kind < 0.6:
            return f"x'{self.scene.blob().hex()}'"
        if kind < 0.7:
            return f"{column} {self.pick(('+ 1', '- 1', '* 2', '|| x' + repr('00'), '* -1', '+ 1000000000000'))}"
        return self.pick(_WILD)

    def row(self, table: _Table) -> str:
        return f"LIMIT 1 OFFSET {self.scene.numbers.randrange(max(table.rows, 1))}"

    def where(self, table: _Table) -> str:
        if self.scene.chance(0.3):
            return ""
        if self.scene.chance(0.2):
            return f" WHERE rowid % 2 = {self.scene.numbers.randrange(2)}"
        return f" WHERE rowid = (SELECT rowid FROM {table.name} {self.row(table)})"


def draw(scene: Scene) -> Act:
    """A script of one to three statements, told and to be done."""
    file = scene.database()
    draw = _Draw(scene, *_schema(file))
    kinds, weights = zip(*_GRAMMAR, strict=True)
    kind = scene.numbers.choices(kinds, weights)[0]
    script = kind(draw)
    before, other = "'loot'" in " ".join(script), "'other'" in " ".join(script)
    places = {"'loot'": scene.loot / "state", "'other'": scene.place / "other"}
    full = []
    for statement in script:
        for name, folder in places.items():
            if name in statement:
                statement = statement.replace(name, f"'{scene.database(folder)}'")
        full.append(statement)
    return Act("; ".join(script), partial(perform, file, full), before, other)


def perform(file: Path, script: Sequence[str]) -> None:
    """Run a script; the first error ends it."""
    with closing(sqlite3.connect(file, timeout=_WAIT_SECONDS, isolation_level=None)) as connection:
        for statement in script:
            connection.execute(statement).fetchall()


def _schema(file: Path) -> tuple[tuple[_Table, ...], tuple[str, ...]]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master ORDER BY name")]
        found = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
        tables = []
        for name in found:
            columns = tuple(row[1] for row in connection.execute(f"PRAGMA table_info({name})"))
            rows = connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            tables.append(_Table(name, columns, rows))
    return tuple(tables), tuple(names)


# rows


def _update(draw: _Draw) -> list[str]:
    table = draw.table()
    columns = draw.scene.numbers.sample(table.columns, draw.scene.numbers.randint(1, min(2, len(table.columns))))
    values = ", ".join(f"{column} = {draw.value(table, column)}" for column in columns)
    return [f"UPDATE OR {draw.pick(('REPLACE', 'IGNORE'))} {table.name} SET {values}{draw.where(table)}"]


def _swap(draw: _Draw) -> list[str]:
    table = draw.table()
    column = draw.pick(table.columns)
    first, second = (f"(SELECT rowid FROM {table.name} {draw.row(table)})" for _ in range(2))
    return [
        f"UPDATE OR IGNORE {table.name} SET {column} = (SELECT {column} FROM {table.name} WHERE rowid = "
        f"CASE {table.name}.rowid WHEN {first} THEN {second} ELSE {first} END) WHERE rowid IN ({first}, {second})"
    ]


def _delete(draw: _Draw) -> list[str]:
    table = draw.table()
    statement = f"DELETE FROM {table.name}{draw.where(table)}"
    return ["PRAGMA foreign_keys = ON", statement] if draw.scene.chance(0.3) else [statement]


def _insert(draw: _Draw) -> list[str]:
    table = draw.table()
    values = ", ".join(draw.value(table, column) for column in table.columns)
    row = f"SELECT {values} FROM {table.name} {draw.row(table)}"
    return [f"INSERT OR {draw.pick(('REPLACE', 'IGNORE'))} INTO {table.name} {row}"]


def _many(draw: _Draw) -> list[str]:
    table = draw.table()
    values = ", ".join(
        "n + 1000" if not number else draw.value(table, column) for number, column in enumerate(table.columns)
    )
    count = draw.pick((100, 3000))
    series = f"WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {count})"
    return [f"{series} INSERT OR IGNORE INTO {table.name} SELECT {values} FROM s"]


def _replay(draw: _Draw) -> list[str]:
    """Rows of before, or of the other gallery under the same key."""
    source = draw.pick(("'loot'", "'loot'", "'other'"))
    tables = draw.scene.numbers.sample(draw.tables, draw.scene.numbers.randint(1, min(3, len(draw.tables))))
    how = draw.pick(("REPLACE", "IGNORE"))
    return [
        f"ATTACH {source} AS former",
        *(f"INSERT OR {how} INTO main.{one.name} SELECT * FROM former.{one.name}" for one in tables),
    ]


def _person_replayed(draw: _Draw) -> list[str]:
    """All earlier rows, or those of the other gallery, of every table but the audit trail: the forgotten are back."""
    source = draw.pick(("'loot'", "'loot'", "'other'"))
    sealed = [one.name for one in draw.tables if "mac" not in one.columns and "check_value" not in one.columns]
    return [
        f"ATTACH {source} AS former",
        *(f"INSERT OR IGNORE INTO main.{one} SELECT * FROM former.{one}" for one in sealed),
    ]


# programs in the file


def _trigger(draw: _Draw) -> list[str]:
    table, other = draw.table(), draw.table()
    act = draw.pick(("INSERT", "UPDATE", "DELETE"))
    time = draw.pick(("BEFORE", "BEFORE", "AFTER"))
    row = "NEW" if act != "DELETE" else "OLD"
    column = draw.pick(other.columns)
    bodies = [
        "SELECT RAISE(IGNORE)", "SELECT RAISE(IGNORE)", "SELECT RAISE(ABORT, 'no')", "SELECT RAISE(FAIL, 'no')",
        "SELECT RAISE(ROLLBACK, 'no')", f"DELETE FROM {other.name}",
        f"UPDATE {other.name} SET {column} = {draw.value(other, column).replace('OFFSET', '+ 0 * ')}",
        f"INSERT OR IGNORE INTO {other.name} SELECT * FROM {other.name}",
        f"DELETE FROM {table.name} WHERE rowid = {row}.rowid",
    ]  # fmt: skip
    when = draw.pick(("", "", f" WHEN {row}.rowid > 1", " WHEN (SELECT count(*) FROM sqlite_master) > 0"))
    return [f"CREATE TRIGGER stealth {time} {act} ON {table.name}{when} BEGIN {draw.pick(bodies)}; END"]


def _keeper(draw: _Draw) -> list[str]:
    """Keeps the rows that are deleted, and puts them back."""
    table = draw.table()
    columns = ", ".join(f"OLD.{column}" for column in table.columns)
    back = draw.pick([one.name for one in draw.tables])
    return [
        f"CREATE TABLE kept AS SELECT * FROM {table.name} WHERE 0",
        f"CREATE TRIGGER keeper BEFORE DELETE ON {table.name} BEGIN INSERT INTO kept VALUES ({columns}); END",
        f"CREATE TRIGGER giver AFTER INSERT ON {back} BEGIN INSERT OR IGNORE INTO {table.name} SELECT * FROM kept; END",
    ]


def _view(draw: _Draw) -> list[str]:
    table = draw.table()
    columns = ", ".join(table.columns)
    limit = draw.pick(("", " WHERE 0", " WHERE rowid % 2", " LIMIT 1", f" UNION ALL SELECT {columns} FROM real_one"))
    act = draw.pick(("INSERT", "UPDATE", "DELETE"))
    body = draw.pick(("SELECT 1", "SELECT RAISE(IGNORE)", "DELETE FROM real_one"))
    return [
        f"ALTER TABLE {table.name} RENAME TO real_one",
        f"CREATE VIEW {table.name} AS SELECT {columns} FROM real_one{limit}",
        f"CREATE TRIGGER instead INSTEAD OF {act} ON {table.name} BEGIN {body}; END",
    ]


def _index(draw: _Draw) -> list[str]:
    table = draw.table()
    column = draw.pick(table.columns)
    unique = draw.pick(("", "UNIQUE "))
    part = draw.pick(("", f" WHERE {column} IS NULL", " WHERE rowid < 3"))
    on = draw.pick((column, f"length({column})", f"{column} COLLATE NOCASE", "1 + 1"))
    return [f"CREATE {unique}INDEX foreign_one ON {table.name} ({on}){part}"]


def _alter(draw: _Draw) -> list[str]:
    table = draw.table()
    column = draw.pick(table.columns)
    return [
        draw.pick((
            f"ALTER TABLE {table.name} ADD COLUMN more TEXT DEFAULT 'x'",
            f"ALTER TABLE {table.name} ADD COLUMN more ANY AS (length({column})) VIRTUAL",
            f"ALTER TABLE {table.name} ADD COLUMN more INTEGER NOT NULL DEFAULT 1 CHECK (more < 2)",
            f"ALTER TABLE {table.name} RENAME COLUMN {column} TO other_one",
            f"ALTER TABLE {table.name} DROP COLUMN {column}",
            f"ALTER TABLE {table.name} RENAME TO other_one",
            f"DROP TABLE {table.name}",
            "CREATE TABLE foreign_one (a, b)",
            f"CREATE TABLE foreign_one AS SELECT * FROM {table.name}",
            "CREATE VIRTUAL TABLE foreign_one USING fts5 (a)",
            "CREATE VIRTUAL TABLE foreign_one USING rtree (a, b, c)",
            f"CREATE VIEW foreign_one AS SELECT * FROM {table.name}",
            f"DROP INDEX {draw.pick(draw.names)}",
            "ANALYZE",
            "REINDEX",
            "VACUUM",
        ))
    ]  # fmt: skip


def _looser(draw: _Draw) -> list[str]:
    """The same table without what holds its rows to a form, or with a default or a check of one's own."""
    table = draw.table()
    columns = ", ".join(table.columns)
    types = draw.pick(("", " ANY", " TEXT", " CHECK (1)", " DEFAULT 7"))
    return [
        f"CREATE TABLE looser ({', '.join(one + types for one in table.columns)})",
        f"INSERT INTO looser SELECT {columns} FROM {table.name}",
        f"DROP TABLE {table.name}",
        f"ALTER TABLE looser RENAME TO {table.name}",
    ]


def _master(draw: _Draw) -> list[str]:
    """The schema written as rows."""
    first, second = draw.pick(draw.names), draw.pick(draw.names)
    table = draw.table()
    body = "BEGIN SELECT RAISE(IGNORE); END"
    trigger = f"CREATE TRIGGER hidden BEFORE {draw.pick(('INSERT', 'DELETE'))} ON {table.name} {body}"
    statement = draw.pick((
        f"UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = '{second}') "
        f"WHERE name = '{first}'",
        f"UPDATE sqlite_master SET sql = replace(sql, ' STRICT', '') WHERE name = '{first}'",
        f"UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '') WHERE name = '{first}'",
        f"UPDATE sqlite_master SET sql = replace(sql, 'CASCADE', 'NO ACTION') WHERE name = '{first}'",
        f"UPDATE sqlite_master SET sql = sql || ' -- {'x' * 2000}' WHERE name = '{first}'",
        f"UPDATE sqlite_master SET sql = replace(sql, 'INTEGER PRIMARY KEY', 'INTEGER') WHERE name = '{first}'",
        f"UPDATE sqlite_master SET tbl_name = '{second}' WHERE name = '{first}'",
        f"UPDATE sqlite_master SET name = 'sqlite_{first}' WHERE name = '{first}'",
        f"UPDATE sqlite_master SET sql = NULL WHERE name = '{first}'",
        f"DELETE FROM sqlite_master WHERE name = '{first}'",
        f"INSERT INTO sqlite_master VALUES ('trigger', 'hidden', '{table.name}', 0, '{trigger}')",
        f"INSERT INTO sqlite_master VALUES ('trigger', 'sqlite_hidden', '{table.name}', 0, '{trigger}')",
        f"INSERT INTO sqlite_master VALUES ('view', 'v', 'v', 0, 'CREATE VIEW v AS SELECT * FROM {table.name}')",
    ))  # fmt: skip
    return ["PRAGMA writable_schema = ON", statement, "PRAGMA schema_version = 99"]


def _pragma(draw: _Draw) -> list[str]:
    number = draw.pick((0, 1, 2, 3, 99, -1, 2147483647))
    return draw.pick((
        [f"PRAGMA user_version = {number}"],
        [f"PRAGMA application_id = {number}"],
        [f"PRAGMA schema_version = {number}"],
        ["PRAGMA journal_mode = WAL"],
        ["PRAGMA journal_mode = WAL", "CREATE TABLE foreign_one (a)"],
        ["PRAGMA journal_mode = PERSIST", "CREATE TABLE foreign_one (a)", "DROP TABLE foreign_one"],
        ["PRAGMA page_size = 512", "VACUUM"],
        ["PRAGMA page_size = 65536", "VACUUM"],
        ["PRAGMA auto_vacuum = FULL", "VACUUM"],
        ["PRAGMA encoding = 'UTF-16'", "VACUUM"],
        ["PRAGMA default_cache_size = 1"],
        ["PRAGMA legacy_file_format = ON", "VACUUM"],
    ))  # fmt: skip


_GRAMMAR: tuple[tuple[Callable[[_Draw], list[str]], int], ...] = (
    (_update, 18), (_swap, 6), (_delete, 10), (_insert, 8), (_many, 3), (_replay, 8), (_person_replayed, 3),
    (_trigger, 20), (_keeper, 4), (_view, 6), (_index, 4), (_alter, 8), (_looser, 4), (_master, 8), (_pragma, 6),
)  # fmt: skip

"""The record of every act: rows chained by a keyed digest, so that nobody without the key can change one unseen.

The digest of a row is HMAC-SHA256 over the digest before it and the row itself. What the chain alone cannot
show is that its end was cut off, or that the whole gallery is an older copy: for that, keep its head elsewhere.
"""

import hashlib
import hmac
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from edge_oneshot_device.errors import InputError, IntegrityError
from edge_oneshot_device.gallery.database import clear_errors, reading, write
from edge_oneshot_device.gallery.encoders import encoders

CHANGES: Final = ("enrolled", "added", "replaced", "forgotten", "imported")
"""Acts that change somebody's templates."""

Enrolled = dict[tuple[int, str], int]
"""How many templates a person, by number, has of an encoder, by fingerprint."""

NOBODY: Final = ""
"""Stands for all encoders, of somebody who was forgotten."""

GENESIS: Final = bytes(32)
_CHUNK: Final = 1000  # rows read at once: a door that writes waits for no more than these

_encoder = msgspec.msgpack.Encoder()


class Row(NamedTuple):
    """A row, as its columns are in the file; `person` is a number, whose name only the gallery knows."""

    seq: int
    at: int
    act: str
    person: int | None
    detail: str
    mac: bytes


class Head(msgspec.Struct, frozen=True):
    """The end of the chain: what to keep elsewhere.

    Attributes:
        seq: Number of the last row.
        mac: Its digest, in hex.
    """

    seq: int
    mac: str

    def __str__(self) -> str:
        """As it is printed and read again."""
        return f"{self.seq}:{self.mac}"


class _LetGo(msgspec.Struct, frozen=True):
    """The detail of a checkpoint: number and digest of the last row that was let go."""

    through: int
    mac: str


class AuditReport(msgspec.Struct, frozen=True):
    """A chain that holds.

    Attributes:
        rows: How many rows there are.
        first: Number of the first; above 1 where older ones were let go.
        since: Date and time of the first: UTC, ISO 8601.
        people: How many are enrolled, each by an act of the chain.
        head: Its end.
    """

    rows: int
    first: int
    since: str
    people: int
    head: Head


def parse_head(text: str) -> Head:
    """The head that `audit --head` printed.

    Raises:
        InputError: Reason ``bad_head``.
    """
    seq, _, mac = text.strip().partition(":")
    try:
        found = Head(int(seq), bytes.fromhex(mac).hex())
    except ValueError:
        found = Head(0, "")
    if found.seq < 1 or len(found.mac) != 2 * len(GENESIS):
        raise InputError(f"{text[:80]!a} is no head: give what audit --head printed", reason="bad_head")
    return found


def timestamp(microseconds: int) -> str:
    """UTC, ISO 8601, to the millisecond."""
    at = datetime.fromtimestamp(microseconds / 1e6, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def last_row(connection: sqlite3.Connection) -> Row | None:
    """The newest row, inside a transaction of the caller."""
    row = connection.execute("SELECT * FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    return None if row is None else Row(*row)


def row_at(connection: sqlite3.Connection, seq: int | None) -> Row | None:
    """A row by its number, inside a transaction of the caller; None where there is none."""
    found = connection.execute("SELECT * FROM audit WHERE seq = ?", (seq,)).fetchone()
    return None if found is None else Row(*found)


def append(
    connection: sqlite3.Connection,
    key: bytes,
    now: datetime,
    act: str,
    person: int | None = None,
    detail: Mapping[str, Any] | None = None,
    *,
    after: Row | None = None,
) -> Row:
    """Append a row, inside the transaction of what it records; returns it.

    Args:
        connection: In a transaction that writes.
        key: Of this part of the chain.
        now: Date and time; a clock that was set back is held at the date of the row before.
        act: What was done.
        person: Number of whom it was done to.
        detail: Further facts, as JSON takes them; no names.
        after: The newest row, where the caller knows it.

    Raises:
        IntegrityError: Reason ``gallery_altered``: the row did not land.
    """
    last = last_row(connection) if after is None else after
    seq = 1 if last is None else last.seq + 1
    at = max(int(now.timestamp() * 1e6), 0 if last is None else last.at)
    text = msgspec.json.encode(detail or {}).decode()
    mac = _digest(key, GENESIS if last is None else last.mac, seq, at, act, person, text)
    row = Row(seq, at, act, person, text, mac)
    write(connection, "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?)", row)
    return row


def verify_row(connection: sqlite3.Connection, path: Path, keys: Sequence[tuple[int, bytes]], row: Row) -> None:
    """Make sure of one row by the one before it, in a transaction of the caller; `check` walks them all.

    Args:
        connection: Of the gallery.
        path: The gallery's file, for errors.
        keys: As of `check`.
        row: One of the record.

    Raises:
        IntegrityError: Reason ``audit_altered``.
    """
    found = connection.execute("SELECT mac FROM audit WHERE seq = ?", (row.seq - 1,)).fetchone()
    before = GENESIS if row.seq == 1 else None if found is None else found[0]
    if before is None and row.act == "checkpoint":
        # all that was before it was let go
        through, mac = _let_go(row.detail) or (0, None)
        before = mac if through == row.seq - 1 else None
    if before is None:
        raise altered(path, row.seq - 1, "is missing")
    key = [key for first, key in keys if first <= row.seq or first == keys[0][0]][-1]
    if not hmac.compare_digest(_digest(key, before, *row[:5]), row.mac):
        raise altered(path, row.seq, "is not as it was written")


def changed_since(connection: sqlite3.Connection, seen: Row) -> set[int] | None:
    """Numbers of whose templates changed after a row, in a transaction of the caller; None when it is not there."""
    found = connection.execute("SELECT mac FROM audit WHERE seq = ?", (seen.seq,)).fetchone()
    if found is None or found[0] != seen.mac:
        return None
    rows = connection.execute("SELECT DISTINCT act, person FROM audit WHERE seq > ?", (seen.seq,))
    return {person for act, person in rows if act in CHANGES and person is not None}


def rows(connection: sqlite3.Connection, path: Path, after: int = 0) -> Iterator[Row]:
    """The rows after a number, some at a time, so that no writer waits for long."""
    while True:
        with clear_errors(path), reading(connection):
            chunk = _chunk(connection, after)
        yield from chunk
        if len(chunk) < _CHUNK:
            return
        after = chunk[-1].seq


def check(
    connection: sqlite3.Connection, path: Path, keys: Sequence[tuple[int, bytes]], against: Head | None = None
) -> AuditReport:
    """Walk the whole chain, and compare who it says is enrolled with who is.

    Args:
        connection: Of the gallery, outside a transaction.
        path: The gallery's file, for errors.
        keys: For each part of the chain its first row's number and its key, in order.
        against: A head that was kept elsewhere.

    Raises:
        IntegrityError: Reason ``audit_altered`` or, with a head, ``audit_cut``.
        InputError: Reason ``head_too_old``: the row of the head was let go.
    """
    with clear_errors(path), reading(connection):
        first = connection.execute("SELECT min(seq) FROM audit").fetchone()[0]
        before = _checkpoint(connection)
    if first is None:
        raise altered(path, 1, "is missing")
    through, mac = (0, GENESIS) if before is None or first == 1 else before
    if first != through + 1:
        raise altered(path, through + 1, "is missing")
    if against is not None and against.seq < first:
        message = f"the head {against.seq} is older than the first row that is kept, {first}: compare a newer one"
        raise InputError(message, reason="head_too_old")
    enrolled: Enrolled = {}
    people: Enrolled = {}
    in_use: list[str] = []
    installed, settings = None, None
    seq, since, count = through, 0, 0
    part = -1
    while True:
        with clear_errors(path), reading(connection):
            chunk = _chunk(connection, seq)
            if len(chunk) < _CHUNK:
                people, in_use = _people(connection), encoders(connection)[-1:]
                settings = connection.execute("SELECT seq FROM settings").fetchone()
        for row in chunk:
            if row.seq != seq + 1:
                raise altered(path, seq + 1, "is missing")
            while part + 1 < len(keys) and row.seq >= keys[part + 1][0]:
                part += 1
            expected = _digest(keys[max(part, 0)][1], mac, row.seq, row.at, row.act, row.person, row.detail)
            if not hmac.compare_digest(expected, row.mac):
                raise altered(path, row.seq, "is not as it was written")
            if against is not None and row.seq == against.seq and row.mac.hex() != against.mac:
                raise _cut(path, against)
            _replay(row, enrolled)
            installed = row.seq if row.act == "installed" else installed
            seq, mac, since, count = row.seq, row.mac, since or row.at, count + 1
        if len(chunk) < _CHUNK:
            break
    if against is not None and seq < against.seq:
        raise _cut(path, against)
    _compare(path, enrolled, people, whole=through == 0)
    if settings is not None and settings[0] != installed:
        message = f"the settings in {path} are not those that the record says were installed last: run init again"
        raise IntegrityError(message, reason="audit_altered")
    now = len({person for person, fingerprint in people if [fingerprint] == in_use})
    return AuditReport(count, through + 1, timestamp(since), now, Head(seq, mac.hex()))


def beginning(connection: sqlite3.Connection) -> tuple[int, int]:
    """The first row's number and how many keys there have been, in a transaction of the caller."""
    found: tuple[int, int] = connection.execute(
        "SELECT (SELECT min(seq) FROM audit), (SELECT max(id) FROM epoch)"
    ).fetchone()
    return found


def prune(connection: sqlite3.Connection, key: bytes, now: datetime, before: datetime) -> int:
    """Let go of rows older than a date, in a transaction of the caller; a checkpoint ties the rest to them.

    Returns:
        How many were let go.
    """
    query = "SELECT * FROM audit WHERE at < ? ORDER BY seq DESC LIMIT 1"
    limit = int(before.timestamp() * 1e6)
    found = connection.execute(query, (limit,)).fetchone()
    if found is None:
        return 0
    last = Row(*found)
    append(connection, key, now, "checkpoint", detail={"through": last.seq, "mac": last.mac.hex()})
    older = connection.execute("SELECT count(*) FROM audit WHERE seq <= ?", (last.seq,)).fetchone()[0]
    write(connection, "DELETE FROM audit WHERE seq <= ?", (last.seq,), rows=older)
    return int(older)


def _chunk(connection: sqlite3.Connection, after: int) -> list[Row]:
    query = "SELECT * FROM audit WHERE seq > ? ORDER BY seq LIMIT ?"
    return [Row(*row) for row in connection.execute(query, (after, _CHUNK))]


def _checkpoint(connection: sqlite3.Connection) -> tuple[int, bytes] | None:
    """Number and digest of the last row that was let go."""
    found = connection.execute("SELECT detail FROM audit WHERE act = 'checkpoint' ORDER BY seq DESC LIMIT 1").fetchone()
    return None if found is None else _let_go(found[0])


def _let_go(detail: str) -> tuple[int, bytes] | None:
    """What a checkpoint says; None where it makes no sense: the chain does not hold, and the walk says where."""
    try:
        found = msgspec.json.decode(detail, type=_LetGo)
        return found.through, bytes.fromhex(found.mac)
    except (msgspec.DecodeError, UnicodeError, ValueError):
        return None


def _replay(row: Row, enrolled: Enrolled) -> None:
    """What a row changes."""
    if row.act == "installed":
        kept = msgspec.json.decode(row.detail)["encoders"]
        for person, fingerprint in list(enrolled):
            if fingerprint not in kept:
                del enrolled[person, fingerprint]
    elif row.act == "forgotten" and row.person is not None:
        for person, fingerprint in list(enrolled):
            if person == row.person:
                del enrolled[person, fingerprint]
        enrolled[row.person, NOBODY] = 0
    elif row.act in CHANGES and row.person is not None:
        detail = msgspec.json.decode(row.detail)
        enrolled[row.person, detail["fingerprint"]] = detail["templates"]


def _people(connection: sqlite3.Connection) -> Enrolled:
    query = """SELECT number, fingerprint, count(*) FROM person JOIN template ON person = number
               GROUP BY number, fingerprint"""
    return {(person, fingerprint): count for person, fingerprint, count in connection.execute(query)}


def _compare(path: Path, enrolled: Enrolled, people: Enrolled, *, whole: bool) -> None:
    """The people of the gallery are those of the chain; where rows were let go, as far as it goes back."""
    for (person, fingerprint), templates in enrolled.items():
        there = people.get((person, fingerprint), 0)
        if there != templates:
            raise _altered_people(path, person, f"has {there} templates, the record says {templates}")
    for person, fingerprint in people:
        if (person, fingerprint) not in enrolled and (whole or (person, NOBODY) in enrolled):
            raise _altered_people(path, person, "was enrolled without a record")


def _digest(key: bytes, before: bytes, seq: int, at: int, act: str, person: int | None, detail: str) -> bytes:
    return hmac.digest(key, before + _encoder.encode((seq, at, act, person, detail)), hashlib.sha256)


def altered(path: Path, seq: int, how: str) -> IntegrityError:
    """The error for a record that cannot be what this program wrote."""
    message = f"the record in {path} was altered: row {seq} {how}; keep a copy of the file and look who could write it"
    return IntegrityError(message, reason="audit_altered")


def _altered_people(path: Path, number: int, how: str) -> IntegrityError:
    message = f"the people in {path} were altered: number {number:016x} {how}; restore a backup that you trust"
    return IntegrityError(message, reason="audit_altered")


def _cut(path: Path, against: Head) -> IntegrityError:
    message = (
        f"the record in {path} does not hold row {against.seq} as it was: its end was cut off, or the file is "
        "an older copy; restore a backup that you trust"
    )
    return IntegrityError(message, reason="audit_cut")

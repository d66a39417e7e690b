"""The audit trail: a row for every act, in the transaction of what it says, chained by a keyed digest.

The digest of a row is HMAC-SHA256 over the digest of the row before it and the row itself, so that nobody without the
key can change a row unseen. The chain alone cannot show that its end was cut off, or that the whole gallery is an older
copy: for that, keep its head elsewhere.
"""

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from edge_oneshot_device.errors import InputError, IntegrityError
from edge_oneshot_device.gallery.transaction import Reading, Transaction

CHANGES: Final = ("enrolled", "added", "replaced", "forgotten", "imported")
"""Acts that change somebody's templates."""

GENESIS: Final = bytes(32)
"""Stands for the digest of the row before the first one."""

CHUNK: Final = 1000
"""Rows that are read at once: a door that writes waits for no more than these."""

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

    @classmethod
    def of(cls, row: Row) -> "Head":
        """The head of a chain that ends with a row."""
        return cls(row.seq, row.mac.hex())

    def __str__(self) -> str:
        """As it is printed, and as `parse_head` reads it."""
        return f"{self.seq}:{self.mac}"


class Checkpoint(msgspec.Struct, frozen=True):
    """The detail of a checkpoint: number and digest of the last row that was pruned."""

    through: int
    mac: str


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


def parse_checkpoint(detail: str) -> tuple[int, bytes] | None:
    """Number and digest of the last row that was pruned; None where the detail makes no sense."""
    try:
        found = msgspec.json.decode(detail, type=Checkpoint)
        return found.through, bytes.fromhex(found.mac)
    except (msgspec.DecodeError, UnicodeError, ValueError):
        return None


def digest(key: bytes, before: bytes, seq: int, at: int, act: str, person: int | None, detail: str) -> bytes:
    """The digest of a row, from its columns and the digest of the row before it.

    Args:
        key: The chain key.
        before: The digest of the row before.
        seq: Number of the row.
        at: Microseconds since 1970, UTC.
        act: What was done.
        person: Number of the person it was done to.
        detail: Further facts, as JSON.
    """
    return hmac.digest(key, before + _encoder.encode((seq, at, act, person, detail)), hashlib.sha256)


def holds(row: Row, key: bytes, before: bytes) -> bool:
    """Whether a row has the digest that belongs to it and to the digest of the row before it.

    Args:
        row: A row.
        key: The chain key of its part.
        before: The digest of the row before.
    """
    return hmac.compare_digest(digest(key, before, *row[:5]), row.mac)


def timestamp(microseconds: int) -> str:
    """UTC, ISO 8601, to the millisecond."""
    at = datetime.fromtimestamp(microseconds / 1e6, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def altered_row(path: Path, seq: int, fault: str) -> IntegrityError:
    """The error for an audit trail that cannot be what this program wrote.

    Args:
        path: The gallery's file.
        seq: Number of the row.
        fault: What is wrong with it.
    """
    message = f"the audit trail in {path} was altered: row {seq} {fault}; keep a copy of the file and find out"
    return IntegrityError(f"{message} who could write it", reason="audit_altered")


def newest(transaction: Transaction) -> Row:
    """The newest row, verified by the one before it.

    Raises:
        IntegrityError: Reason ``audit_altered``.
    """
    row = last_row(transaction)
    if row is None:
        raise altered_row(transaction.path, 1, "is missing")
    if row != transaction.verified:
        _verify(transaction, row)
        transaction.verified = row
    return row


def append(
    transaction: Transaction,
    act: str,
    person: int | None = None,
    detail: Mapping[str, Any] | None = None,
    *,
    key: bytes | None = None,
) -> Row:
    """Append a row, in the transaction of what it says.

    Args:
        transaction: One that writes.
        act: What was done.
        person: Number of the person it was done to.
        detail: Further facts, as JSON; no names.
        key: The chain key of a part that begins with this row; None takes the one in force.

    Returns:
        The row. A clock that was set back is held at the date of the row before.

    Raises:
        IntegrityError: Reason ``audit_altered``: the row before it is not the program's own; or ``gallery_altered``:
            the row was not written.
    """
    if act in CHANGES:
        transaction.templates_changed = True
    key = transaction.keyring.chain if key is None else key
    return _insert(transaction, key, newest(transaction), act, person, detail)


def append_first(transaction: Transaction, act: str, detail: Mapping[str, Any]) -> Row:
    """Append the first row of a new audit trail; arguments as for `append`.

    Args:
        transaction: A transaction that writes.
        act: What was done.
        detail: Further facts, as JSON; no names.
    """
    return _insert(transaction, transaction.keyring.chain, None, act, None, detail)


def last_row(transaction: Transaction) -> Row | None:
    """The newest row, as it is in the file."""
    return _row(transaction, "SELECT * FROM audit ORDER BY seq DESC LIMIT 1", ())


def row_at(transaction: Transaction, seq: int | None) -> Row | None:
    """A row by its number; None where there is none.

    Args:
        transaction: A transaction.
        seq: Its number.
    """
    return _row(transaction, "SELECT * FROM audit WHERE seq = ?", (seq,))


def last_until(transaction: Transaction, at: int) -> Row | None:
    """The last row that is no newer than a moment; None where all are.

    Args:
        transaction: A transaction.
        at: Microseconds since 1970, UTC.
    """
    return _row(transaction, "SELECT * FROM audit WHERE at <= ? ORDER BY seq DESC LIMIT 1", (at,))


def chunk_after(transaction: Transaction, seq: int, most: int | None = None) -> list[Row]:
    """The rows after a number.

    Args:
        transaction: A transaction.
        seq: Number of a row; 0 for the beginning.
        most: How many of them, at most; None: `CHUNK`.
    """
    query = "SELECT * FROM audit WHERE seq > ? ORDER BY seq LIMIT ?"
    return [Row(*row) for row in transaction.execute(query, (seq, CHUNK if most is None else most))]


def require_following(transaction: Transaction, row: Row, before: bytes) -> None:
    """Check that a row has the digest that belongs to it and to the row before it.

    Args:
        transaction: A transaction.
        row: The row.
        before: The digest of the row before.

    Raises:
        IntegrityError: Reason ``audit_altered``.
    """
    keys = transaction.keyring.chains
    key = [key for first, key in keys if first <= row.seq or first == keys[0][0]][-1]
    if not holds(row, key, before):
        raise altered_row(transaction.path, row.seq, "is not as it was written")


def rows(reading: Reading, after: int = 0) -> Iterator[Row]:
    """The rows from the first one, or after a number; they are read some at a time.

    Args:
        reading: `Gallery.reading`.
        after: Number of a row.
    """
    while True:
        with reading() as transaction:
            chunk = chunk_after(transaction, after)
        yield from chunk
        if len(chunk) < CHUNK:
            return
        after = chunk[-1].seq


def changed_since(transaction: Transaction, seen: Row) -> set[int] | None:
    """Numbers of the people whose templates changed after a row; None where that row is gone.

    Args:
        transaction: A transaction.
        seen: The row.
    """
    if transaction.value("SELECT mac FROM audit WHERE seq = ?", (seen.seq,)) != seen.mac:
        return None
    rows = transaction.execute("SELECT DISTINCT act, person FROM audit WHERE seq > ?", (seen.seq,))
    return {person for act, person in rows if act in CHANGES and person is not None}


def beginning(transaction: Transaction) -> tuple[int, int]:
    """Number of the first row, and how many keys there have been."""
    found: tuple[int, int] = transaction.execute(
        "SELECT (SELECT min(seq) FROM audit), (SELECT max(id) FROM epoch)"
    ).fetchone()
    return found


def delete_before(transaction: Transaction, date: datetime) -> int:
    """Delete the rows older than a date; a checkpoint row ties the others to them.

    Args:
        transaction: A transaction that writes.
        date: Aware.

    Returns:
        How many rows were deleted.
    """
    query = "SELECT * FROM audit WHERE at < ? ORDER BY seq DESC LIMIT 1"
    last = _row(transaction, query, (int(date.timestamp() * 1e6),))
    if last is None:
        return 0
    append(transaction, "checkpoint", detail=msgspec.structs.asdict(Checkpoint(last.seq, last.mac.hex())))
    older = int(transaction.value("SELECT count(*) FROM audit WHERE seq <= ?", (last.seq,)))
    transaction.write("DELETE FROM audit WHERE seq <= ?", (last.seq,), rows=older)
    return older


def _insert(
    transaction: Transaction,
    key: bytes,
    last: Row | None,
    act: str,
    person: int | None,
    detail: Mapping[str, Any] | None,
) -> Row:
    seq = 1 if last is None else last.seq + 1
    at = max(int(transaction.clock.now().timestamp() * 1e6), 0 if last is None else last.at)
    text = msgspec.json.encode(detail or {}).decode()
    mac = digest(key, GENESIS if last is None else last.mac, seq, at, act, person, text)
    row = Row(seq, at, act, person, text, mac)
    transaction.write("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?)", row)
    transaction.verified = row
    return row


def _verify(transaction: Transaction, row: Row) -> None:
    """Verify one row by the one before it; `audit_check.check` verifies them all."""
    before = GENESIS if row.seq == 1 else transaction.value("SELECT mac FROM audit WHERE seq = ?", (row.seq - 1,))
    if before is None and row.act == "checkpoint":
        # all rows before it were deleted
        through, mac = parse_checkpoint(row.detail) or (0, None)
        before = mac if through == row.seq - 1 else None
    if before is None:
        raise altered_row(transaction.path, row.seq - 1, "is missing")
    require_following(transaction, row, before)


def _row(transaction: Transaction, query: str, values: tuple[object, ...]) -> Row | None:
    found = transaction.execute(query, values).fetchone()
    return None if found is None else Row(*found)

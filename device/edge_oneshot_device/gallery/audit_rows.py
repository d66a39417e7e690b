"""The rows of the audit trail, chained by a keyed digest, so that nobody without the key can change one unseen.

The digest of a row is HMAC-SHA256 over the digest of the row before it and the row itself. The chain alone cannot show
that its end was cut off, or that the whole gallery is an older copy: for that, keep its head elsewhere.
"""

import hashlib
import hmac
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from edge_oneshot_device.errors import InputError, IntegrityError

CHANGES: Final = ("enrolled", "added", "replaced", "forgotten", "imported")
"""Acts that change somebody's templates."""

GENESIS: Final = bytes(32)
"""Stands for the digest of the row before the first one."""

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
    """The digest of a row, from its columns and the digest of the row before it."""
    return hmac.digest(key, before + _encoder.encode((seq, at, act, person, detail)), hashlib.sha256)


def holds(row: Row, key: bytes, before: bytes) -> bool:
    """Whether a row has the digest that belongs to it and to the digest of the row before it."""
    return hmac.compare_digest(digest(key, before, *row[:5]), row.mac)


def timestamp(microseconds: int) -> str:
    """UTC, ISO 8601, to the millisecond."""
    at = datetime.fromtimestamp(microseconds / 1e6, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def altered_row(path: Path, seq: int, fault: str) -> IntegrityError:
    """The error for an audit trail that cannot be what this program wrote."""
    message = f"the audit trail in {path} was altered: row {seq} {fault}; keep a copy of the file and look who could"
    return IntegrityError(f"{message} write it", reason="audit_altered")

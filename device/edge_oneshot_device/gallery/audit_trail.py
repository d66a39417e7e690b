"""The audit trail as an administrator reads it: with names, as far as they are still known."""

from collections import deque
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import msgspec

from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery import audit
from edge_oneshot_device.gallery.audit import Head, altered_row, parse_head, timestamp
from edge_oneshot_device.gallery.audit_check import AuditReport
from edge_oneshot_device.gallery.gallery import Gallery

_MOST_DAYS: Final = 36_525  # a century
_MOST_ROWS: Final = 1_000_000  # to show; `entries` has all of them


class AuditEntry(msgspec.Struct, frozen=True):
    """A row of the audit trail.

    Attributes:
        seq: Its number.
        at: UTC, ISO 8601.
        act: What was done.
        person: Whom it was done to, while they are enrolled.
        number: The number of that person, 16 hexadecimal digits; it stays when they are forgotten.
        detail: Further facts.
        mac: Its digest, in hex.
    """

    seq: int
    at: str
    act: str
    person: str | None
    number: str | None
    detail: dict[str, Any]
    mac: str


class PrunedAudit(msgspec.Struct, frozen=True):
    """Rows that were deleted.

    Attributes:
        rows: How many.
        head: The end of the audit trail now.
    """

    rows: int
    head: str


def check(gallery: Gallery, against: str | None = None) -> AuditReport:
    """Verify the whole audit trail; errors as for `audit_check.check`.

    Args:
        gallery: Whose audit trail.
        against: What `head` was, when it was kept elsewhere.
    """
    return gallery.check_audit(None if against is None else parse_head(against))


def head(gallery: Gallery) -> Head:
    """The end of the audit trail, to be kept elsewhere."""
    with gallery.reading() as transaction:
        return Head.of(audit.newest(transaction))


def prune(gallery: Gallery, days: int) -> PrunedAudit:
    """Delete the rows that are older than so many days.

    Args:
        gallery: Whose audit trail.
        days: 1 to 36,525.

    Raises:
        InputError: Reason ``bad_age``.
        MachineError: The disk does not allow it.
    """
    if not 1 <= days <= _MOST_DAYS:
        raise InputError(f"{days} days: 1 to {_MOST_DAYS:,} can be kept", reason="bad_age")
    rows = gallery.prune_audit(gallery.clock.now() - timedelta(days=days))
    return PrunedAudit(rows, str(head(gallery)))


def entries(gallery: Gallery, after: int = 0) -> Iterator[AuditEntry]:
    """The audit trail from its first row, or after a number.

    Args:
        gallery: Whose audit trail.
        after: Number of a row.

    Raises:
        IntegrityError: Reason ``audit_altered``: a row makes no sense; `check` says whether the others hold.
    """
    names: dict[int, str | None] = {}
    for row in gallery.rows(after):
        if row.person is not None and row.person not in names:
            names[row.person] = gallery.name_of(row.person)
        try:
            at, detail = timestamp(row.at), msgspec.json.decode(row.detail, type=dict[str, Any])
        except (msgspec.DecodeError, ValueError, OverflowError) as error:
            raise altered_row(gallery.path, row.seq, "makes no sense") from error
        yield AuditEntry(
            seq=row.seq,
            at=at,
            act=row.act,
            person=None if row.person is None else names[row.person],
            number=None if row.person is None else f"{row.person:016x}",
            detail=detail,
            mac=row.mac.hex(),
        )


def last(gallery: Gallery, count: int) -> list[AuditEntry]:
    """The newest rows, oldest first.

    Args:
        gallery: Whose audit trail.
        count: How many, 1 to 1,000,000.

    Raises:
        InputError: Reason ``bad_count``.
        IntegrityError: Reason ``audit_altered``, as `entries` says.
    """
    if not 1 <= count <= _MOST_ROWS:
        raise InputError(f"{count} rows: 1 to {_MOST_ROWS:,} can be shown; --export has all", reason="bad_count")
    return list(deque(entries(gallery, head(gallery).seq - count), maxlen=count))

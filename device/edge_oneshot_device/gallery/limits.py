"""How often one may try: after NIST SP 800-63B-4, section 3.2.3 (biometrics), for 1:1; a rate for 1:N.

Delays run on the boot clock, which nobody can set. After a restart nobody knows how long the machine was
off, so that a running delay begins anew; and so it does where that clock went back, as that of a virtual machine may.
A delay is never longer than itself, whatever the file says of its beginning.
"""

import sqlite3
from typing import Final

import msgspec

from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery.clock import Clock
from edge_oneshot_device.gallery.database import write

MOST_REJECTIONS: Final = 1000
"""That a door may take a minute."""

_MINUTE: Final = 60.0


class Limits(msgspec.Struct, frozen=True):
    """How often one may try.

    Attributes:
        failures: Of 1:1 in a row, for one claimed person, after which a delay comes before each further attempt.
        delay: Seconds of the first delay; every further failure doubles it.
        longest_delay: Seconds.
        most_failures: In a row, at which recognition, 1:N too, is off for that person until `unlock`.
        rejections_per_minute: Of 1:N, for the whole door, after which it makes everybody wait: 1 to 1,000.
    """

    failures: int = 5
    delay: float = 30.0
    longest_delay: float = 3600.0
    most_failures: int = 50
    rejections_per_minute: int = 10

    def __post_init__(self) -> None:
        """Refuse a rate that makes no sense."""
        if not 1 <= self.rejections_per_minute <= MOST_REJECTIONS:
            message = f"{self.rejections_per_minute} rejections a minute: 1 to {MOST_REJECTIONS:,} are possible"
            raise InputError(message, reason="bad_limit")


class Refusal(msgspec.Struct, frozen=True):
    """Why an attempt is not even looked at.

    Attributes:
        reason: ``delayed`` or ``disabled`` (1:1), or ``rate_limited`` (1:N).
        retry_after: Seconds until the next attempt is looked at; None: an administrator has to act.
    """

    reason: str
    retry_after: float | None


def refuse_verification(
    connection: sqlite3.Connection, limits: Limits, clock: Clock, person: int, *, renew: bool = False
) -> Refusal | None:
    """Whether somebody who claims to be `person` has to wait.

    Args:
        connection: In a transaction of the caller.
        limits: How often one may try.
        clock: Its boot and seconds.
        person: Number of the person.
        renew: Begin a delay from before a restart anew; takes a transaction that writes.
    """
    row = connection.execute("SELECT failures, boot, since FROM attempts WHERE person = ?", (person,)).fetchone()
    if row is None:
        return None
    failures, boot, since = row
    if failures >= limits.most_failures:
        return Refusal("disabled", None)
    if failures < limits.failures:
        return None
    delay = min(limits.delay * 2.0 ** min(failures - limits.failures, 60), limits.longest_delay)
    now, this = clock.seconds(), clock.boot()
    if renew and not (boot == this and since <= now):
        write(connection, "UPDATE attempts SET boot = ?, since = ? WHERE person = ?", (this, now, person))
    wait = delay - _elapsed(boot, since, this, now)
    return Refusal("delayed", wait) if wait > 0.0 else None


def is_disabled(connection: sqlite3.Connection, limits: Limits, person: int) -> bool:
    """Whether recognition is off for a person, after too many failures of 1:1; in a transaction of the caller."""
    row = connection.execute("SELECT failures FROM attempts WHERE person = ?", (person,)).fetchone()
    return row is not None and row[0] >= limits.most_failures


def note_verification(connection: sqlite3.Connection, clock: Clock, person: int, *, accepted: bool) -> None:
    """Count a failure of 1:1, or start the count anew; in a transaction that writes."""
    if accepted:
        unlock(connection, person)
        return
    write(
        connection,
        """INSERT INTO attempts (person, failures, boot, since) VALUES (?, 1, ?, ?)
           ON CONFLICT (person) DO UPDATE SET failures = failures + 1, boot = excluded.boot, since = excluded.since""",
        (person, clock.boot(), clock.seconds()),
    )


def unlock(connection: sqlite3.Connection, person: int) -> int:
    """Start the count of 1:1 anew for a person; returns how many failures there were."""
    row = connection.execute("SELECT failures FROM attempts WHERE person = ?", (person,)).fetchone()
    if row is None:
        return 0
    write(connection, "DELETE FROM attempts WHERE person = ?", (person,))
    return int(row[0])


def refuse_identification(
    connection: sqlite3.Connection, limits: Limits, clock: Clock, *, renew: bool = False
) -> Refusal | None:
    """Whether the door has to wait; arguments as of `refuse_verification`."""
    # not the last rows: somebody else may have written one with the greatest number
    newest = "SELECT boot, at FROM rejection ORDER BY at DESC LIMIT ?"
    found = connection.execute(newest, (limits.rejections_per_minute,)).fetchall()
    if len(found) < limits.rejections_per_minute:
        return None
    this, now = clock.boot(), clock.seconds()
    if renew:
        query = "SELECT count(*) FROM rejection WHERE boot != ? OR at > ?"
        if stale := connection.execute(query, (this, now)).fetchone()[0]:
            change = "UPDATE rejection SET boot = ?, at = ? WHERE boot != ? OR at > ?"
            write(connection, change, (this, now, this, now), rows=stale)
        _drop_surplus(connection, limits)
    wait = _MINUTE - max(_elapsed(boot, at, this, now) for boot, at in found)
    return Refusal("rate_limited", wait) if wait > 0.0 else None


def note_rejection(connection: sqlite3.Connection, limits: Limits, clock: Clock) -> int:
    """Remember a rejection of 1:N; in a transaction that writes. Returns its number, for `take_back`."""
    write(connection, "INSERT INTO rejection (boot, at) VALUES (?, ?)", (clock.boot(), clock.seconds()))
    number = int(connection.execute("SELECT last_insert_rowid()").fetchone()[0])
    _drop_surplus(connection, limits)
    return number


def take_back(connection: sqlite3.Connection, number: int) -> None:
    """Count a rejection no longer; in a transaction that writes. Newer ones may have pushed it out already."""
    connection.execute("DELETE FROM rejection WHERE id = ?", (number,))


def _drop_surplus(connection: sqlite3.Connection, limits: Limits) -> None:
    """Keep as many rejections as count."""
    surplus = connection.execute("SELECT count(*) FROM rejection").fetchone()[0] - limits.rejections_per_minute
    if surplus > 0:
        oldest = "DELETE FROM rejection WHERE id IN (SELECT id FROM rejection ORDER BY at, id LIMIT ?)"
        write(connection, oldest, (surplus,), rows=surplus)


def _elapsed(boot: str, at: float, this: str, now: float) -> float:
    """Seconds since a moment of the boot clock; 0 from before a restart, or of a clock that was ahead of now."""
    return now - at if boot == this and at <= now else 0.0

"""How often one may try: after NIST SP 800-63B-4, section 3.2.3 (biometrics), for 1:1; a rate for 1:N.

Delays run on the boot clock, which nobody can set. After a restart nobody knows how long the machine was
off, so that a running delay begins anew.
"""

import sqlite3
from typing import Final

import msgspec

from edge_oneshot_device.gallery.clock import Clock

_MINUTE: Final = 60.0


class Limits(msgspec.Struct, frozen=True):
    """How often one may try.

    Attributes:
        failures: Of 1:1 in a row, for one claimed person, after which a delay comes before each further attempt.
        delay: Seconds of the first delay; every further failure doubles it.
        longest_delay: Seconds.
        most_failures: In a row, at which recognition, 1:N too, is off for that person until `unlock`.
        rejections_per_minute: Of 1:N, for the whole door, after which it makes everybody wait.
    """

    failures: int = 5
    delay: float = 30.0
    longest_delay: float = 3600.0
    most_failures: int = 50
    rejections_per_minute: int = 10


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
    now = clock.seconds()
    if boot != clock.boot():
        since = now
        if renew:
            change = "UPDATE attempts SET boot = ?, since = ? WHERE person = ?"
            connection.execute(change, (clock.boot(), now, person))
    wait = delay - (now - since)
    return Refusal("delayed", wait) if wait > 0.0 else None


def is_disabled(connection: sqlite3.Connection, limits: Limits, person: int) -> bool:
    """Whether recognition is off for a person, after too many failures of 1:1; in a transaction of the caller."""
    row = connection.execute("SELECT failures FROM attempts WHERE person = ?", (person,)).fetchone()
    return row is not None and row[0] >= limits.most_failures


def note_verification(connection: sqlite3.Connection, clock: Clock, person: int, *, accepted: bool) -> None:
    """Count a failure of 1:1, or start the count anew; in a transaction that writes."""
    if accepted:
        connection.execute("DELETE FROM attempts WHERE person = ?", (person,))
        return
    connection.execute(
        """INSERT INTO attempts (person, failures, boot, since) VALUES (?, 1, ?, ?)
           ON CONFLICT (person) DO UPDATE SET failures = failures + 1, boot = excluded.boot, since = excluded.since""",
        (person, clock.boot(), clock.seconds()),
    )


def unlock(connection: sqlite3.Connection, person: int) -> int:
    """Start the count of 1:1 anew for a person; returns how many failures there were."""
    row = connection.execute("SELECT failures FROM attempts WHERE person = ?", (person,)).fetchone()
    connection.execute("DELETE FROM attempts WHERE person = ?", (person,))
    return 0 if row is None else int(row[0])


def refuse_identification(
    connection: sqlite3.Connection, limits: Limits, clock: Clock, *, renew: bool = False
) -> Refusal | None:
    """Whether the door has to wait; arguments as of `refuse_verification`."""
    newest = "SELECT boot, at FROM rejection ORDER BY id DESC LIMIT ?"
    found = connection.execute(newest, (limits.rejections_per_minute,)).fetchall()
    if len(found) < limits.rejections_per_minute:
        return None
    boot, now = clock.boot(), clock.seconds()
    if renew:
        connection.execute("UPDATE rejection SET boot = ?, at = ? WHERE boot != ?", (boot, now, boot))
    oldest = min(now if booted != boot else at for booted, at in found)
    wait = _MINUTE - (now - oldest)
    return Refusal("rate_limited", wait) if wait > 0.0 else None


def note_rejection(connection: sqlite3.Connection, limits: Limits, clock: Clock) -> int:
    """Remember a rejection of 1:N; in a transaction that writes. Returns its number, for `take_back`."""
    remember = "INSERT INTO rejection (boot, at) VALUES (?, ?)"
    number = connection.execute(remember, (clock.boot(), clock.seconds())).lastrowid
    assert number is not None  # of an insertion
    surplus = "DELETE FROM rejection WHERE id NOT IN (SELECT id FROM rejection ORDER BY id DESC LIMIT ?)"
    connection.execute(surplus, (limits.rejections_per_minute,))
    return number


def take_back(connection: sqlite3.Connection, number: int) -> None:
    """Count a rejection no longer; in a transaction that writes. Newer ones may have pushed it out already."""
    connection.execute("DELETE FROM rejection WHERE id = ?", (number,))

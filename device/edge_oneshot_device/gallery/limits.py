"""How often one may try: NIST SP 800-63B-4, section 3.2.3 (biometrics), for 1:1; a rate of rejections for 1:N.

Delays are measured by the boot clock, which nobody can set. After a restart nobody knows how long the machine was off,
so that a running delay begins again; and so it does where that clock went back, as that of a virtual machine may. A
delay is never longer than its own length, whatever the file says about its beginning.

`refuse_verification` and `refuse_identification` only read. The other functions write.
"""

from typing import Final

import msgspec

from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery.clock import Clock
from edge_oneshot_device.gallery.transaction import Transaction

MOST_REJECTIONS: Final = 1000
"""The largest rate of rejections that a door may be told, a minute."""

_MINUTE: Final = 60.0


class Limits(msgspec.Struct, frozen=True):
    """How often one may try.

    Attributes:
        failures: Consecutive failures of 1:1, for one claimed person, after which a delay comes before each further
            attempt.
        delay: Seconds of the first delay; every further failure doubles it.
        longest_delay: Seconds.
        most_failures: Consecutive failures at which recognition, 1:N too, is off for that person until `unlock`.
        rejections_per_minute: Rejections of 1:N, for the whole door, after which everybody has to wait: 1 to 1,000.
    """

    failures: int = 5
    delay: float = 30.0
    longest_delay: float = 3600.0
    most_failures: int = 50
    rejections_per_minute: int = 10

    def __post_init__(self) -> None:
        """Refuse a rate out of range."""
        if not 1 <= self.rejections_per_minute <= MOST_REJECTIONS:
            message = f"{self.rejections_per_minute} rejections a minute: 1 to {MOST_REJECTIONS:,} are possible"
            raise InputError(message, reason="bad_limit")


class Refusal(msgspec.Struct, frozen=True):
    """Why an attempt is refused before anything is compared.

    Attributes:
        reason: ``delayed`` or ``disabled`` (1:1), or ``rate_limited`` (1:N).
        retry_after: Seconds until the next attempt is compared; None: an administrator has to act.
    """

    reason: str
    retry_after: float | None


def refuse_verification(transaction: Transaction, limits: Limits, person: int) -> Refusal | None:
    """Why an attempt of 1:1 is refused; None where it is not.

    Args:
        transaction: It is only read.
        limits: How often one may try.
        person: Number of the claimed person.
    """
    row = _attempts(transaction, person)
    return None if row is None else refusal_after(limits, transaction.clock, *row)


def refusal_after(limits: Limits, clock: Clock, failures: int, boot: str, since: float) -> Refusal | None:
    """Why an attempt is refused after so many consecutive failures; None where it is not.

    Args:
        limits: How often one may try.
        clock: Its boot clock.
        failures: How many.
        boot: The boot at which the delay after the last one began.
        since: When it began, in seconds of that boot's clock.
    """
    if failures >= limits.most_failures:
        return Refusal("disabled", None)
    if failures < limits.failures:
        return None
    delay = min(limits.delay * 2.0 ** min(failures - limits.failures, 60), limits.longest_delay)
    remaining = delay - _elapsed(boot, since, clock.boot(), clock.seconds())
    return Refusal("delayed", remaining) if remaining > 0.0 else None


def restart_delay(transaction: Transaction, limits: Limits, person: int) -> None:
    """Begin a delay of 1:1 again that began before a restart, or later than now.

    Args:
        transaction: A transaction that writes.
        limits: How often one may try.
        person: Number of the claimed person.
    """
    row = _attempts(transaction, person)
    if row is None or not limits.failures <= row[0] < limits.most_failures:
        return
    _, boot, since = row
    this, now = transaction.clock.boot(), transaction.clock.seconds()
    if not (boot == this and since <= now):
        transaction.write("UPDATE attempts SET boot = ?, since = ? WHERE person = ?", (this, now, person))


def is_disabled(transaction: Transaction, limits: Limits, person: int) -> bool:
    """Whether recognition is off for a person, after too many failures of 1:1.

    Args:
        transaction: A transaction.
        limits: How often one may try.
        person: Number of the person.
    """
    row = _attempts(transaction, person)
    return row is not None and row[0] >= limits.most_failures


def count_verification(transaction: Transaction, person: int, *, accepted: bool) -> None:
    """Count a failure of 1:1; or reset the count, where the attempt was accepted.

    Args:
        transaction: A transaction that writes.
        person: Number of the claimed person.
        accepted: Whether the score was good enough.
    """
    if accepted:
        unlock(transaction, person)
        return
    transaction.write(
        """INSERT INTO attempts (person, failures, boot, since) VALUES (?, 1, ?, ?)
           ON CONFLICT (person) DO UPDATE SET failures = failures + 1, boot = excluded.boot, since = excluded.since""",
        (person, transaction.clock.boot(), transaction.clock.seconds()),
    )


def unlock(transaction: Transaction, person: int) -> int:
    """Reset the count of 1:1 for a person; returns how many failures there were.

    Args:
        transaction: A transaction that writes.
        person: Number of the person.
    """
    row = _attempts(transaction, person)
    if row is None:
        return 0
    transaction.write("DELETE FROM attempts WHERE person = ?", (person,))
    return row[0]


def refuse_identification(transaction: Transaction, limits: Limits) -> Refusal | None:
    """Why an attempt of 1:N is refused; arguments as for `refuse_verification`.

    Args:
        transaction: It is only read.
        limits: How often one may try.
    """
    # not the last rows: another program may have written one with the greatest number
    newest = "SELECT boot, at FROM rejection ORDER BY at DESC LIMIT ?"
    found = transaction.execute(newest, (limits.rejections_per_minute,)).fetchall()
    if len(found) < limits.rejections_per_minute:
        return None
    this, now = transaction.clock.boot(), transaction.clock.seconds()
    remaining = _MINUTE - max(_elapsed(boot, at, this, now) for boot, at in found)
    return Refusal("rate_limited", remaining) if remaining > 0.0 else None


def restart_minute(transaction: Transaction, limits: Limits) -> None:
    """Date rejections of 1:N now that are from before a restart, or later than now, where they make the door wait.

    Args:
        transaction: A transaction that writes.
        limits: How often one may try.
    """
    if transaction.value("SELECT count(*) FROM rejection") < limits.rejections_per_minute:
        return
    this, now = transaction.clock.boot(), transaction.clock.seconds()
    if stale := transaction.value("SELECT count(*) FROM rejection WHERE boot != ? OR at > ?", (this, now)):
        change = "UPDATE rejection SET boot = ?, at = ? WHERE boot != ? OR at > ?"
        transaction.write(change, (this, now, this, now), rows=stale)
    _delete_surplus(transaction, limits)


def count_rejection(transaction: Transaction, limits: Limits) -> int:
    """Count a rejection of 1:N; returns its number, for `uncount_rejection`.

    Args:
        transaction: A transaction that writes.
        limits: How often one may try.
    """
    clock = transaction.clock
    transaction.write("INSERT INTO rejection (boot, at) VALUES (?, ?)", (clock.boot(), clock.seconds()))
    number = int(transaction.value("SELECT last_insert_rowid()"))
    _delete_surplus(transaction, limits)
    return number


def uncount_rejection(transaction: Transaction, number: int) -> None:
    """Count a rejection no longer, where newer ones have not replaced it already.

    Args:
        transaction: A transaction that writes.
        number: What `count_rejection` returned.
    """
    transaction.execute("DELETE FROM rejection WHERE id = ?", (number,))


def _attempts(transaction: Transaction, person: int) -> tuple[int, str, float] | None:
    """Consecutive failures of a person, and when the last one was on the boot clock."""
    query = "SELECT failures, boot, since FROM attempts WHERE person = ?"
    found: tuple[int, str, float] | None = transaction.execute(query, (person,)).fetchone()
    return found


def _delete_surplus(transaction: Transaction, limits: Limits) -> None:
    """Keep as many rejections as count."""
    surplus = transaction.value("SELECT count(*) FROM rejection") - limits.rejections_per_minute
    if surplus > 0:
        oldest = "DELETE FROM rejection WHERE id IN (SELECT id FROM rejection ORDER BY at, id LIMIT ?)"
        transaction.write(oldest, (surplus,), rows=surplus)


def _elapsed(boot: str, at: float, this: str, now: float) -> float:
    """Seconds since a time of the boot clock; 0 where it is of another boot, or later than now."""
    return now - at if boot == this and at <= now else 0.0

"""When somebody may come in: from a date, until a date, at hours of the week."""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import msgspec

from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.gallery.zone import require_zone

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW: Final = re.compile(r"([a-z]{3})(?:-([a-z]{3}))? (\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII)
_DAY_MINUTES: Final = 24 * 60


class Access(msgspec.Struct, frozen=True):
    """When a person may come in; the default is always.

    Attributes:
        valid_from: UTC, ISO 8601; None: from the beginning.
        valid_until: UTC, ISO 8601, the first instant that is too late; None: without end.
        hours: For example ``mon-fri 07:00-19:00, sat 08:00-12:00``, in the device's own time zone; a
            window whose end is not after its start ends on the next day. None: at any hour.
    """

    valid_from: str | None = None
    valid_until: str | None = None
    hours: str | None = None


ALWAYS: Final = Access()


def parse_access(valid_from: str | None, valid_until: str | None, hours: str | None) -> Access:
    """When a person may come in, from what a user wrote.

    Args:
        valid_from: A date, or date and time, ISO 8601; without a zone it is in the device's own. A date
            means its beginning.
        valid_until: The same; a date means its end.
        hours: See `Access`.

    Raises:
        InputError: Reason ``bad_date`` or ``bad_hours``.
        MachineError: Reason ``unknown_zone``.
    """
    if valid_from is not None or valid_until is not None or hours is not None:
        require_zone()
    start, end = _parse_time(valid_from, 0), _parse_time(valid_until, 1)
    if start is not None and end is not None and end <= start:
        raise InputError(f"valid until {valid_until} is before valid from {valid_from}: swap them", reason="bad_date")
    if hours is not None:
        # normalised to one blank between day and time, and none elsewhere
        words = re.sub(r" ?- ?", "-", " ".join(hours.lower().replace("\u2013", "-").split()))
        hours = ", ".join(part.strip() for part in words.split(","))
        _windows(hours)
    return Access(_utc(start), _utc(end), hours)


def changed(before: Access, change: Access) -> Access:
    """The access after a change, which replaces the fields that it sets.

    Args:
        before: The access until now.
        change: What is changed; `ALWAYS` removes all limits.

    Raises:
        InputError: Reason ``bad_date``: the end would not be after the beginning, of which only one was changed.
    """
    if change == ALWAYS:
        return ALWAYS
    names = Access.__struct_fields__
    both = Access(*(getattr(before if getattr(change, name) is None else change, name) for name in names))
    start, end = both.valid_from, both.valid_until
    if start is not None and end is not None and datetime.fromisoformat(end) <= datetime.fromisoformat(start):
        message = f"valid until {end} is not after valid from {start}, of which only one was named: name both"
        raise InputError(f"{message}, or say --always first", reason="bad_date")
    return both


def refuse_access(access: Access, now: datetime) -> str | None:
    """Why a person may not come in now; None where they may.

    Args:
        access: When they may come in.
        now: Aware; it is converted to the device's own time zone.

    Returns:
        ``not_yet_valid``, ``expired``, ``outside_hours`` or, where the device's time zone is not known,
        ``unknown_zone``.
    """
    if access.valid_from is not None and now < datetime.fromisoformat(access.valid_from):
        return "not_yet_valid"
    if access.valid_until is not None and now >= datetime.fromisoformat(access.valid_until):
        return "expired"
    if access.hours is not None:
        try:
            require_zone()
        except MachineError as error:
            return error.reason
        local = now.astimezone()
        minute = (local.weekday() * 24 + local.hour) * 60 + local.minute
        if not any((minute - start) % (7 * _DAY_MINUTES) < length for start, length in _windows(access.hours)):
            return "outside_hours"
    return None


def _windows(hours: str) -> list[tuple[int, int]]:
    """Start, in minutes since Monday 00:00, and length in minutes, of the window of each day."""
    found = []
    for part in hours.split(", "):
        match = _WINDOW.fullmatch(part)
        if match is None or match[1] not in _DAYS or (match[2] or match[1]) not in _DAYS:
            raise _bad_hours(part)
        first, last = _DAYS.index(match[1]), _DAYS.index(match[2] or match[1])
        start, end = _minutes(match[3], match[4]), _minutes(match[5], match[6])
        if start is None or end is None or start == _DAY_MINUTES:
            raise _bad_hours(part)
        length = (end - start) % _DAY_MINUTES or _DAY_MINUTES
        days = [(first + step) % 7 for step in range((last - first) % 7 + 1)]
        found += [(day * _DAY_MINUTES + start, length) for day in days]
    return found


def _minutes(hours: str, minutes: str) -> int | None:
    total = int(hours) * 60 + int(minutes)
    return total if int(minutes) < 60 and total <= _DAY_MINUTES else None


def _bad_hours(part: str) -> InputError:
    message = f"{part[:60]!a} are no hours of the week: write such as 'mon-fri 07:00-19:00, sat 08:00-12:00'"
    return InputError(message, reason="bad_hours")


def _parse_time(text: str | None, days: int) -> datetime | None:
    """A time in UTC; a date means its beginning, so many days later."""
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(text)
        if "T" not in text and " " not in text:
            parsed = datetime.combine(date.fromisoformat(text) + timedelta(days=days), time())
        # without a zone it is in the device's own
        return parsed.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        message = f"{text[:60]!a} is no date: write such as 2026-12-31 or 2026-12-31T18:00"
        raise InputError(message, reason="bad_date") from error


def _utc(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds").replace("+00:00", "Z")

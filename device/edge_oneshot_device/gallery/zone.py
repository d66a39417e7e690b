"""The device's own time zone, in which hours of the week and dates without a zone are meant."""

import os
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Final

from edge_oneshot_device.errors import MachineError

_LOCALTIME: Final = Path("/etc/localtime")
_NAME: Final = r"(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)"
_OFFSET: Final = r"[+-]?\d{1,3}(?::\d\d){0,2}"
_DAY: Final = 86_400
# a zone that needs no file, as POSIX writes it: CET-1CEST,M3.5.0,M10.5.0/3
_RULE: Final = re.compile(
    rf"{_NAME}{_OFFSET}(?:{_NAME}(?:{_OFFSET})?(?:,[JM\d.]+(?:/{_OFFSET})?,[JM\d.]+(?:/{_OFFSET})?)?)?", re.ASCII
)


def require_zone() -> None:
    """Check that the time zone is known, and follow a change of it; the C library takes an unknown one for UTC.

    Raises:
        MachineError: Reason ``unknown_zone``.
    """
    chosen = os.environ.get("TZ", "").removeprefix(":")
    known = chosen in ("", "UTC", "GMT") or bool(_RULE.fullmatch(chosen)) or _has_file(chosen)
    time.tzset()  # otherwise the C library keeps the zone that the process started with
    if not known or max(abs(time.timezone), abs(time.altzone)) >= _DAY:  # a day off is no zone to Python
        message = f"the time zone {chosen[:60]!a}, which TZ names, is not known on this machine, so that hours cannot"
        raise MachineError(
            f"{message} be told: correct TZ, or install the system's package tzdata", reason="unknown_zone"
        )


def describe_zone(at: datetime) -> str:
    """The zone, and the local time there.

    Raises:
        MachineError: Reason ``unknown_zone``.
    """
    require_zone()
    local = at.astimezone()
    return f"{_zone()}, {local:%Y-%m-%d %H:%M} there (UTC{local:%z})"


def _zone() -> str:
    if chosen := os.environ.get("TZ", "").removeprefix(":"):
        return f"{chosen} (from TZ)"
    try:
        # a link into the time zone database, as timedatectl makes it
        _, known, name = str(_LOCALTIME.readlink()).partition("zoneinfo/")
    except OSError:
        known, name = "", ""
    if not _LOCALTIME.exists():
        return f"UTC, as {_LOCALTIME} leads nowhere" if known else f"UTC, as there is no {_LOCALTIME}"
    return name or f"that of {_LOCALTIME}"


def _has_file(zone: str) -> bool:
    try:
        with Path(os.environ.get("TZDIR") or "/usr/share/zoneinfo", zone).open("rb") as file:
            return file.read(4) == b"TZif"
    except (OSError, ValueError):
        return False

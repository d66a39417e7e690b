"""The clocks that dates and delays are taken from."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec


class Clock(msgspec.Struct, frozen=True):
    """Two clocks: one for dates, which can be set, and one for delays, which cannot.

    Attributes:
        boot: Identifies the machine's boot, from which `seconds` counts.
        seconds: Seconds since that boot, including sleep.
        now: Date and time, aware.
    """

    boot: Callable[[], str]
    seconds: Callable[[], float]
    now: Callable[[], datetime]


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


SYSTEM: Final = Clock(
    boot=_boot_id, seconds=lambda: time.clock_gettime(time.CLOCK_BOOTTIME), now=lambda: datetime.now(UTC)
)

"""Check how the machine is: its temperature, its supply, and whether its clock follows another one."""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge_oneshot_device.diagnostics.equipment import Finding

WARM_CELSIUS: Final = 75.0
"""From here on `doctor` warns; a Raspberry Pi slows down at 80 degrees, and more at 85."""

# of the Raspberry Pi's firmware, as `vcgencmd get_throttled` prints them; 16 bits further up: since the start
_NOW: Final = {0: "the supply's voltage is too low", 1: "its clock is held down", 2: "it is throttled", 3: "it is hot"}
_SINCE_START: Final = {16: "the supply's voltage was too low", 18: "it was throttled"}
_TIME_ERROR: Final = 5  # of adjtimex(2): the clock is not synchronized
_TIMEX_BYTES: Final = 512  # struct timex has 208


def find_temperature(root: Path = Path("/")) -> Iterator[Finding]:
    """The temperature of the hottest part that has a sensor, and what the Raspberry Pi's firmware says of heat and
    supply; nothing where there is no sensor.

    Args:
        root: The folder that holds sys.
    """
    sensors = [_number(zone / "temp") for zone in root.glob("sys/class/thermal/thermal_zone*")]
    known = [thousandths / 1000 for thousandths in sensors if thousandths is not None]
    if known:
        text = f"{max(known):.0f} °C"
        if max(known) >= WARM_CELSIUS:
            yield Finding("temperature", "warning", f"{text}: give it a heat sink or a fan, and room for air")
        else:
            yield Finding("temperature", "ok", text)
    for file in root.glob("sys/devices/platform/soc*/soc*firmware/get_throttled"):
        bits = _number(file, 16) or 0
        told = [text for bit, text in (_NOW | _SINCE_START).items() if bits >> bit & 1]
        if told:
            text = (
                f"{', '.join(told)} (get_throttled {bits:#x}): use the supply that the board's maker names, and cool it"
            )
            yield Finding("supply", "warning", text)
        else:
            yield Finding("supply", "ok", "neither too low in voltage nor throttled since the start")


def is_synchronized() -> bool | None:
    """Whether the kernel's clock is kept right by another clock, as NTP clients tell it; None: it does not say."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))  # mode 0: reads
    except (AttributeError, OSError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def _number(file: Path, base: int = 10) -> int | None:
    try:
        return int(file.read_text(), base)
    except (OSError, ValueError):
        return None

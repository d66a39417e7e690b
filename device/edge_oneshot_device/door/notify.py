"""Telling systemd how the service is: ready, alive, stopping. Without systemd nothing is told, and nothing fails.

The protocol is that of sd_notify(3): lines in one datagram to the socket that NOTIFY_SOCKET names.
"""

import os
import socket
from contextlib import suppress

from edge_oneshot_device.text import one_line

_MOST_CHARACTERS = 200  # of a status


def ready(status: str = "") -> None:
    """The service works; `status` is shown by ``systemctl status``."""
    _notify("READY=1", f"STATUS={_status(status)}")


def alive(status: str | None = None) -> None:
    """The service is not hung: to be said more often than every `watchdog_seconds`; None leaves the status as it is."""
    _notify("WATCHDOG=1", *(() if status is None else (f"STATUS={_status(status)}",)))


def stopping() -> None:
    """The service ends."""
    _notify("STOPPING=1")


def watchdog_seconds() -> float | None:
    """Seconds without `alive` after which systemd kills the service; None: it does not watch this process."""
    try:
        seconds = int(os.environ["WATCHDOG_USEC"]) / 1e6
        process = int(os.environ.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    return seconds if seconds > 0 and process == os.getpid() else None


def _status(text: str) -> str:
    return one_line(text)[:_MOST_CHARACTERS]


def _notify(*lines: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    # an abstract name begins with a null byte, for which systemd writes @
    target = f"\0{address[1:]}" if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
        link.setblocking(False)  # systemd that is behind must not hold up the door
        link.sendto("\n".join(lines).encode(errors="backslashreplace"), target)

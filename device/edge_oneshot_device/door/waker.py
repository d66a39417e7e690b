"""Waking a thread that waits, also one that waits for a socket."""

import select
import socket
from contextlib import suppress


class Waker:
    """Wakes the one thread that waits; any thread may call `wake`, and never waits itself."""

    def __init__(self) -> None:
        self._inner, self._outer = socket.socketpair()
        self._inner.setblocking(False)
        self._outer.setblocking(False)

    def fileno(self) -> int:
        """What `select` waits for."""
        return self._inner.fileno()

    def wake(self) -> None:
        """End the wait, or the next one."""
        with suppress(OSError):  # full: it is awake already
            self._outer.send(b"\0")

    def clear(self) -> None:
        """Wait again from now on."""
        with suppress(BlockingIOError):
            self._inner.recv(4096)

    def wait(self, seconds: float) -> None:
        """Wait until somebody wakes it, so many seconds at most."""
        if select.select([self], [], [], seconds)[0]:
            self.clear()

"""Waking a thread that waits, also one that waits for a socket."""

import os
import select
import weakref
from contextlib import suppress


class Waker:
    """Wakes the one thread that waits; any thread may call `wake`, and never waits itself."""

    def __init__(self) -> None:
        self._counter = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._counter)

    def fileno(self) -> int:
        """What `select` waits for."""
        return self._counter

    def wake(self) -> None:
        """End the wait, or the next one."""
        os.eventfd_write(self._counter, 1)

    def clear(self) -> None:
        """Wait again from now on."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._counter)

    def wait(self, seconds: float) -> None:
        """Wait until somebody wakes it, so many seconds at most."""
        if select.select([self], [], [], seconds)[0]:
            self.clear()

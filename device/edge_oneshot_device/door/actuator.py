"""The lock as it is wanted: a driver is called until the lock is in the state wanted, and a call that hangs is passed.

A call of a driver that waits (a request, a broker) runs in a thread of its own, so that a lock that does not answer
stops neither the end of a pulse nor the exit button. An order to open that ends after the lock was locked again may
have opened it: the lock is locked once more then.
"""

import threading
from typing import Final, Literal

from edge_oneshot_device.door.lock_drivers import LockDriver
from edge_oneshot_device.text import one_line

CALL_SECONDS: Final = 4.0
"""Seconds after which a call counts as hung, and the next one is made beside it."""

PAUSES: Final = (0.25, 0.5, 1.0, 2.0, 5.0)
"""Seconds from a failed call to the next one; the last goes on."""

MOST_CALLS: Final = 8
"""Calls that may hang at the same time; one of them is kept free for locking."""

Settled = Literal["locked", "unlocked"]


class _Call:
    """A call of the driver, under way or over."""

    def __init__(self, driver: LockDriver, seconds: float | None, started: float) -> None:
        self.opens, self.started = seconds is not None, started
        self.over, self.error = False, ""
        self._driver, self._seconds = driver, seconds
        if driver.waits:
            threading.Thread(target=self._run, daemon=True).start()
        else:
            self._run()

    def _run(self) -> None:
        try:
            if self._seconds is None:
                self._driver.lock()
            else:
                self._driver.unlock(self._seconds)
        except Exception as error:  # whatever a driver's library raises: it is told, and tried again
            self.error = one_line(f"{error}" or type(error).__name__)
        self.over = True


class Actuator:
    """Keeps a lock in the state that is wanted; at first that is locked, and not known to be so.

    Args:
        driver: What moves the lock.

    Attributes:
        fault: Why the lock is not known to be as wanted; None: it is, or a call is still under way.
    """

    def __init__(self, driver: LockDriver) -> None:
        self._driver = driver
        self._until: float | None = None
        self._settled = False
        self._was: Settled | None = None
        self._calls: list[_Call] = []
        self._current: _Call | None = None
        self._failures, self._next = 0, 0.0
        self.fault: str | None = None

    @property
    def is_locked(self) -> bool:
        """Whether the lock is known to be locked, with no order to open under way."""
        return self._settled and self._until is None and not any(call.opens for call in self._calls)

    @property
    def is_open(self) -> bool:
        """Whether the lock may be open."""
        return self._until is not None or not self._settled

    def turn(self, until: float | None, now: float) -> Settled | None:
        """Do what is due now.

        Args:
            until: When the lock has to be locked again; None: now.
            now: Seconds of a monotonic clock.

        Returns:
            What the lock has become since the last turn; None: it is as it was, or not yet known to be as wanted.
        """
        if until != self._until:
            self._until, self._settled, self._failures, self._next, self._current = until, False, 0, now, None
        self._collect(now)
        if not self._settled and self._current is None and now >= self._next:
            self._call(now)
            self._collect(now)
        became: Settled = "locked" if self._until is None else "unlocked"
        if not self._settled or became == self._was:
            return None
        self._was = became
        return became

    def _call(self, now: float) -> None:
        opens = self._until is not None
        if len(self._calls) >= MOST_CALLS - opens:
            return
        seconds = None if self._until is None else self._until - now
        try:
            self._current = _Call(self._driver, seconds, now)
        except RuntimeError as error:  # no thread can be started
            self.fault = f"the lock cannot be moved: {error}"
            self._pause(now)
            return
        self._calls.append(self._current)

    def _collect(self, now: float) -> None:
        overdue = [call for call in self._calls if not call.over and now - call.started > CALL_SECONDS]
        for call in [call for call in self._calls if call.over]:
            self._calls.remove(call)
            if call.error:
                self._say(call, call.error)
            if call is self._current:
                self._current = None
                if call.error:
                    self._pause(now)
                else:
                    self._settled = True
                    self.fault = None if not overdue else self.fault
            if call.opens and self._until is None:
                # an order to open has ended late: whatever was settled since is not
                self._settled, self._current, self._next = False, None, now
        for call in overdue:
            self._say(call, f"no answer within {CALL_SECONDS:g} seconds")
        if self._current in overdue:
            self._current = None
            self._pause(now)

    def _say(self, call: _Call, error: str) -> None:
        self.fault = f"the lock could not be {'unlocked' if call.opens else 'locked'}: {error}"

    def _pause(self, now: float) -> None:
        self._next = now + PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1

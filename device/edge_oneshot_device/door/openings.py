"""Why the lock may be open, and until when: pure logic, without a clock of its own."""

from typing import Final

HARD_LIMIT: Final = 60.0
"""Seconds that a pulse lasts at most, whatever was asked for and configured."""


class Openings:
    """The deadlines of all that opens the lock; it is open while one of them lies ahead.

    Args:
        pulse: Seconds that a pulse lasts at most.
        hold_at_most: Seconds that a hold lasts at most.
    """

    def __init__(self, pulse: float, hold_at_most: float) -> None:
        self._pulse = min(pulse, HARD_LIMIT)
        self._hold = hold_at_most
        self._asked = self._held = self._exit = self._emergency = float("-inf")

    def unlock(self, seconds: float, now: float) -> None:
        """A pulse that the loop asked for.

        Args:
            seconds: How long it asked for.
            now: When.
        """
        self._asked = max(self._asked, now + min(seconds, self._pulse))

    def hold(self, now: float) -> None:
        """A hold that the loop asked for; asking again does not prolong it."""
        if self._held <= now:
            self._held = now + self._hold

    def lock(self) -> None:
        """End what the loop asked for; exit button and emergency release are not its own."""
        self._asked = self._held = float("-inf")

    def press_exit(self, now: float) -> None:
        """A pulse of the exit button."""
        self._exit = now + self._pulse

    def emergency(self, closed: bool, now: float) -> None:
        """What the contact of the emergency release says now; while it is closed, its deadline moves on."""
        if not closed:
            self._emergency = float("-inf")
        elif self._emergency - now < self._hold / 2:
            self._emergency = now + self._hold

    def is_kept_open(self, now: float) -> bool:
        """Whether the door may stand open: it is held, or the emergency release is closed."""
        return max(self._held, self._emergency) > now

    def until(self, now: float) -> float | None:
        """When the lock has to be locked again; None where it has to be locked now."""
        latest = max(self._asked, self._held, self._exit, self._emergency)
        return latest if latest > now else None

"""What the door records: changes of state and alarms, as rows of the audit trail, once and in order.

What opens is recorded first, or does not open. All else that a full disk or a damaged gallery keeps from being recorded
waits in memory, in order, and is recorded when that is over.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from edge_oneshot_device.door.events import Command, record_alarm, record_change, record_command
from edge_oneshot_device.door.states import Change
from edge_oneshot_device.errors import OneShotError
from edge_oneshot_device.gallery.gallery import Gallery

_MOST_WAITING: Final = 1000
_SILENT: Final = ("approaching",)  # not recorded, nor is the way back from it: it decides nothing


class Journal:
    """Records in a gallery; for the thread that opened it.

    Args:
        gallery: Its audit trail is written.

    Attributes:
        fault: Why nothing can be recorded; None while it can.
    """

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._waiting: deque[Callable[[], None]] = deque(maxlen=_MOST_WAITING)
        self.fault: str | None = None

    def change(self, change: Change, reason: str, person: str | None) -> bool:
        """Record a change of state.

        Args:
            change: The change.
            reason: Why, a code.
            person: Whom it is about, if anybody is known.

        Returns:
            Whether it is recorded now.
        """
        if change.after in _SILENT or (change.before in _SILENT and change.after == "idle"):
            return True
        return self._record(lambda: record_change(self._gallery, change, reason=reason, person=person))

    def alarm(self, kind: str, text: str) -> bool:
        """Record an alarm, such as a door that is held open.

        Args:
            kind: A code.
            text: What happened, in one line.

        Returns:
            Whether it is recorded now.
        """
        return self._record(lambda: record_alarm(self._gallery, kind, text))

    def command(self, command: Command) -> bool:
        """Record a command of the broker before it is obeyed; returns whether it is recorded."""
        if self._record(lambda: record_command(self._gallery, command)):
            return True
        self.withdraw()
        return False

    def flush(self) -> bool:
        """Record what waits; returns whether nothing waits any more."""
        while self._waiting:
            try:
                self._waiting[0]()
            except OneShotError as error:
                self.fault = str(error)
                return False
            self._waiting.popleft()
        self.fault = None
        return True

    def withdraw(self) -> None:
        """Drop what was asked to be recorded last, because it did not happen."""
        if self._waiting:
            self._waiting.pop()

    def _record(self, write: Callable[[], None]) -> bool:
        self._waiting.append(write)
        return self.flush()

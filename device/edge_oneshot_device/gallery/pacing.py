"""Pauses between the transactions of one process, so that others that wait for the file get their turn."""

import time

from edge_oneshot_device.gallery.database import PAUSE_SECONDS, Connection, data_version
from edge_oneshot_device.gallery.storage_errors import clear_errors


class Pacing:
    """The pauses of one connection.

    Args:
        connection: The gallery's file.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._released = 0.0  # when this process last let go of the file, and the file's version then
        self._version = -1

    def pause(self) -> None:
        """Before a transaction that writes: pause where another process has written, since it looks only at times."""
        with clear_errors(self._connection.path):
            version = data_version(self._connection)
        if version != self._version:
            time.sleep(max(0.0, self._released + 2 * PAUSE_SECONDS - time.monotonic()))
        self._version = version

    def released(self) -> None:
        """After such a transaction."""
        self._released = time.monotonic()

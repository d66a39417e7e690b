"""A transaction on a gallery: what every function that reads or changes the file works with; and when to try again."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.gallery.clock import Clock
from edge_oneshot_device.gallery.database import Connection, write
from edge_oneshot_device.gallery.keyring import Keyring
from edge_oneshot_device.gallery.vault import Vault

if TYPE_CHECKING:
    from edge_oneshot_device.gallery.audit import Row

TRIES: Final = 10
"""How often something is tried where the gallery changes meanwhile."""

P = ParamSpec("P")
T = TypeVar("T")


class Transaction:
    """A transaction on a gallery's file, from `Gallery.reading` or `Gallery.writing`.

    What is read is of one moment. What is written is committed as a whole when the transaction ends, or not at all.

    Attributes:
        connection: The file.
        keyring: The keys in force.
        fingerprint: The encoder that the gallery is used with.
        clock: The clocks that dates and delays are taken from.
        verified: The newest row of the audit trail, once it was verified or appended.
        templates_changed: Whether an appended row says that templates changed.
        wipe_due: Whether something was deleted, so that a wipe is due after the commit.
    """

    def __init__(
        self, connection: Connection, keyring: Keyring, fingerprint: str, clock: Clock, verified: "Row | None" = None
    ) -> None:
        self.connection = connection
        self.keyring = keyring
        self.fingerprint = fingerprint
        self.clock = clock
        self.verified = verified
        self.templates_changed = False
        self.wipe_due = False

    @property
    def path(self) -> Path:
        """The file, for errors."""
        return self.connection.path

    @property
    def vault(self) -> Vault:
        """Seals and opens what is in the file."""
        return self.keyring.vault

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run a statement, such as a query.

        Args:
            statement: SQL.
            values: Its parameters.
        """
        return self.connection.execute(statement, values)

    def value(self, query: str, values: Sequence[Any] = ()) -> Any:
        """The first column of the first row that a query finds; None where it finds no row.

        Args:
            query: SQL.
            values: Its parameters.
        """
        row = self.connection.execute(query, values).fetchone()
        return None if row is None else row[0]

    def write(self, statement: str, values: Sequence[Any] = (), *, rows: int = 1) -> None:
        """Run a statement that changes exactly `rows` rows.

        Args:
            statement: An INSERT, UPDATE or DELETE.
            values: Its parameters.
            rows: How many rows it has to change.

        Raises:
            IntegrityError: Reason ``gallery_altered``: it changed more or fewer, so that the transaction is undone.
        """
        write(self.connection, statement, values, rows=rows)


Reading = Callable[[], AbstractContextManager[Transaction]]
"""`Gallery.reading`, for what takes several transactions so that writers need not wait for long."""


class ChangedError(MachineError):
    """The gallery changed since it was read: read it, and compare, again; at most `TRIES` times.

    Its reason is ``gallery_changing``, which is what a caller sees when all of these were in vain.

    Args:
        path: The gallery's file.
    """

    def __init__(self, path: Path) -> None:
        message = f"{path} was changed again and again meanwhile: try again; if it goes on, see what writes to it"
        super().__init__(message, reason="gallery_changing")


class ReserveReleasedError(MachineError):
    """The disk was full, and the reserve has been given back to it: the transaction is worth one more try."""


def with_reserve(function: Callable[P, T]) -> Callable[P, T]:
    """Call a function that writes to the gallery once more where the disk was full and the reserve made room."""

    @wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> T:
        try:
            return function(*arguments, **keywords)
        except ReserveReleasedError:
            return function(*arguments, **keywords)

    return call

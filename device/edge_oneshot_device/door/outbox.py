"""The outbox: the rows of the audit trail that a receiver has not acknowledged yet.

There is no second queue to keep in step: a decision is a row in the transaction that makes it, and all that is kept
beside the gallery is how far each receiver is. Rows are read one at a time, when they are sent, so that nothing piles
up in memory and a name is what it is then.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import msgspec

from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.files import read_file, write_atomically
from edge_oneshot_device.gallery import audit, roster
from edge_oneshot_device.gallery.audit import Row
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.transaction import Transaction

_CHUNK: Final = 50
_MAX_FILE_BYTES: Final = 4096


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a receiver is.

    Attributes:
        seq: Number of the last row that needs not be sent any more.
        mac: Its digest in hex, by which it is known again; empty where the row is gone.
        at: Its date, in microseconds since 1970.
    """

    seq: int
    mac: str
    at: int

    @classmethod
    def of(cls, row: Row) -> Self:
        """The position behind a row."""
        return cls(row.seq, row.mac.hex(), row.at)


class Waiting(NamedTuple):
    """A row that is to be sent.

    Attributes:
        row: The row.
        detail: Its facts.
        person: The name of the person it is about; None where it is about nobody who is enrolled.
    """

    row: Row
    detail: dict[str, Any]
    person: str | None


class Outbox:
    """The rows for one receiver, for one thread. It begins at the end that the audit trail has then.

    Args:
        open_gallery: Opens the gallery; called in the thread that uses the outbox.
        receiver: The receiver's name, of which the name of the file is made.
        wanted: Whether a row with its facts is for the receiver.

    Attributes:
        fault: Why it could not be kept how far the receiver is; None: it was.
    """

    def __init__(
        self, open_gallery: Callable[[], Gallery], receiver: str, wanted: Callable[[Row, dict[str, Any]], bool]
    ) -> None:
        self._open_gallery, self._receiver, self._wanted = open_gallery, receiver, wanted
        self._gallery: Gallery | None = None
        self._position: Position | None = None
        self.fault: str | None = None

    def next(self) -> Waiting | None:
        """The first row that was not acknowledged; None: there is none.

        Raises:
            InputError, IntegrityError, MachineError: The gallery cannot be opened or read; a reason is
                ``audit_altered``: a row is not as it was written.
        """
        try:
            gallery = self._opened()
            if self.fault is not None:
                self._save()
            while True:
                with gallery.reading() as transaction:
                    found, more = self._search(transaction, self._resume(transaction))
                if found is not None or not more:
                    return found
        except BaseException:
            self.close()
            raise

    def acknowledge(self, waiting: Waiting) -> None:
        """Keep that the receiver has a row, which `next` returned."""
        self._position = Position.of(waiting.row)
        self._save()

    def left(self) -> int:
        """How many rows, wanted or not, are behind the receiver's position; raises what `next` does."""
        try:
            with self._opened().reading() as transaction:
                newest = audit.last_row(transaction)
                return max(0, (0 if newest is None else newest.seq) - self._resume(transaction).seq)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the gallery; the next call opens it again."""
        if self._gallery is not None:
            self._gallery.close()
            self._gallery = None

    def _opened(self) -> Gallery:
        if self._gallery is None:
            self._gallery = self._open_gallery()
        return self._gallery

    def _file(self) -> Path:
        return self._opened().path.with_name(f"events-{self._receiver}.json")

    def _save(self) -> None:
        """Write the position down. Where that fails it holds in memory, and is written down with the next one."""
        assert self._position is not None
        try:
            write_atomically(self._file(), msgspec.json.encode(self._position), mode=0o600)
            self.fault = None
        except MachineError as error:
            self.fault = str(error)

    def _resume(self, transaction: Transaction) -> Position:
        """The position, in the audit trail as it is now: its rows may be pruned, or it may be another one."""
        if self._position is None:
            self._position = self._kept()
        if self._position is None:
            self._position = Position.of(audit.newest(transaction))
            self._save()
        position = self._position
        row = audit.row_at(transaction, position.seq)
        if row is None or row.mac.hex() != position.mac:
            rest = audit.chunk_after(transaction, 0, 1)
            first = rest[0].seq if rest else 1
            # by the dates, because a restored copy counts anew; rows of one date are pruned together
            found = audit.last_until(transaction, position.at)
            self._position = Position(first - 1, "", position.at) if found is None else Position.of(found)
        return self._position

    def _kept(self) -> Position | None:
        try:
            return msgspec.json.decode(read_file(self._file(), _MAX_FILE_BYTES), type=Position)
        except (InputError, msgspec.DecodeError, UnicodeError):
            return None

    def _search(self, transaction: Transaction, position: Position) -> tuple[Waiting | None, bool]:
        """The first wanted row of the next ones, and whether there are more after them."""
        rows = audit.chunk_after(transaction, position.seq, _CHUNK)
        for row in rows:
            if position.mac:
                audit.require_following(transaction, row, bytes.fromhex(position.mac))
            try:
                detail = msgspec.json.decode(row.detail, type=dict[str, Any])
            except msgspec.DecodeError as error:
                raise audit.altered_row(transaction.path, row.seq, "makes no sense") from error
            if self._wanted(row, detail):
                details = None if row.person is None else roster.details_of(transaction, row.person)
                return Waiting(row, detail, None if details is None else details.name), True
            position = self._position = Position.of(row)
        return None, len(rows) == _CHUNK

"""Verifying the whole audit trail, and comparing who it says is enrolled with who is."""

from pathlib import Path
from typing import Final

import msgspec

from edge_oneshot_device.errors import InputError, IntegrityError
from edge_oneshot_device.gallery import audit
from edge_oneshot_device.gallery.audit import (
    CHANGES,
    GENESIS,
    Head,
    Row,
    altered_row,
    holds,
    parse_checkpoint,
    timestamp,
)
from edge_oneshot_device.gallery.encoders import encoders
from edge_oneshot_device.gallery.keyring import Keyring
from edge_oneshot_device.gallery.transaction import TRIES, ChangedError, Reading, Transaction

Counts = dict[tuple[int, str], int]
"""How many templates a person, by number, has for an encoder, by fingerprint."""

_EVERY_ENCODER: Final = ""  # in place of a fingerprint, for a person who was forgotten


class AuditReport(msgspec.Struct, frozen=True):
    """An audit trail that was verified.

    Attributes:
        rows: How many rows there are.
        first: Number of the first row; above 1 where older ones were deleted.
        since: Date and time of the first row: UTC, ISO 8601.
        people: How many people are enrolled.
        head: The end of the chain.
    """

    rows: int
    first: int
    since: str
    people: int
    head: Head


class _File(msgspec.Struct, frozen=True):
    """What the file holds, at the moment of the last row: to be compared with what the rows say."""

    templates: Counts
    in_use: str | None
    settings: int | None


class _Replay:
    """The state of the walk: the chain so far, and who its rows say is enrolled."""

    def __init__(self, path: Path, keyring: Keyring, first: int, before: bytes) -> None:
        self.seq, self.mac = first - 1, before
        self.since, self.count = 0, 0
        self.templates: Counts = {}
        self.installed: int | None = None
        self._path, self._keys, self._part = path, keyring.chains, 0

    def add(self, row: Row) -> None:
        """Verify the next row, and apply it."""
        if row.seq != self.seq + 1:
            raise altered_row(self._path, self.seq + 1, "is missing")
        while self._part + 1 < len(self._keys) and row.seq >= self._keys[self._part + 1][0]:
            self._part += 1
        if not holds(row, self._keys[self._part][1], self.mac):
            raise altered_row(self._path, row.seq, "is not as it was written")
        self.seq, self.mac = row.seq, row.mac
        self.since, self.count = self.since or row.at, self.count + 1
        self._apply(row)

    def _apply(self, row: Row) -> None:
        if row.act == "installed":
            self.installed = row.seq
            kept = msgspec.json.decode(row.detail)["encoders"]
            self.templates = {key: count for key, count in self.templates.items() if key[1] in kept}
        elif row.act == "forgotten" and row.person is not None:
            self.templates = {key: count for key, count in self.templates.items() if key[0] != row.person}
            self.templates[row.person, _EVERY_ENCODER] = 0
        elif row.act in CHANGES and row.person is not None:
            detail = msgspec.json.decode(row.detail)
            self.templates[row.person, detail["fingerprint"]] = detail["templates"]


def check(reading: Reading, path: Path, against: Head | None = None) -> AuditReport:
    """Verify the whole chain, and compare who it says is enrolled with who is.

    Args:
        reading: `Gallery.reading`.
        path: The gallery's file, for errors.
        against: A head that was kept elsewhere.

    Raises:
        IntegrityError: Reason ``audit_altered`` or, with a head, ``audit_cut``.
        InputError: Reason ``head_too_old``: the row of the head was deleted.
        MachineError: Reason ``gallery_changing``, or the disk failed.
    """
    for _ in range(TRIES):
        with reading() as transaction:
            before = audit.beginning(transaction)
        try:
            return _check(reading, path, against)
        except IntegrityError:
            # another process pruned rows or rotated the key meanwhile: that is no alteration
            with reading() as transaction:
                if audit.beginning(transaction) == before:
                    raise
    raise ChangedError(path)


def _check(reading: Reading, path: Path, against: Head | None) -> AuditReport:
    with reading() as transaction:
        first = _first_row(transaction)
        before = GENESIS if first == 1 else _mac_before(transaction, first)
        replay = _Replay(path, transaction.keyring, first, before)
    if against is not None and against.seq < first:
        message = f"the head {against.seq} is older than the first row that is kept, {first}: compare a newer one"
        raise InputError(message, reason="head_too_old")
    while True:
        with reading() as transaction:
            chunk = audit.chunk_after(transaction, replay.seq)
            held = _read_file(transaction) if len(chunk) < audit.CHUNK else None
        for row in chunk:
            replay.add(row)
            if against is not None and row.seq == against.seq and row.mac.hex() != against.mac:
                raise _cut(path, against)
        if held is not None:
            break
    if against is not None and replay.seq < against.seq:
        raise _cut(path, against)
    _compare(path, replay, held, whole=first == 1)
    people = len({person for person, fingerprint in held.templates if fingerprint == held.in_use})
    return AuditReport(replay.count, first, timestamp(replay.since), people, Head(replay.seq, replay.mac.hex()))


def _first_row(transaction: Transaction) -> int:
    first = transaction.value("SELECT min(seq) FROM audit")
    if first is None:
        raise altered_row(transaction.path, 1, "is missing")
    return int(first)


def _mac_before(transaction: Transaction, first: int) -> bytes:
    """The digest of the last row that was deleted, as the newest checkpoint says."""
    detail = transaction.value("SELECT detail FROM audit WHERE act = 'checkpoint' ORDER BY seq DESC LIMIT 1")
    through, mac = (None if detail is None else parse_checkpoint(detail)) or (0, GENESIS)
    if first != through + 1:
        raise altered_row(transaction.path, through + 1, "is missing")
    return mac


def _read_file(transaction: Transaction) -> _File:
    query = """SELECT number, fingerprint, count(*) FROM person JOIN template ON person = number
               GROUP BY number, fingerprint"""
    templates = {(person, fingerprint): count for person, fingerprint, count in transaction.execute(query)}
    *_, in_use = [None, *encoders(transaction)]
    return _File(templates, in_use, transaction.value("SELECT seq FROM settings"))


def _compare(path: Path, replay: _Replay, held: _File, *, whole: bool) -> None:
    """Compare the people and settings of the file with those of the rows, as far as the rows go back."""
    for (person, fingerprint), templates in replay.templates.items():
        there = held.templates.get((person, fingerprint), 0)
        if there != templates:
            raise _altered_people(path, person, f"has {there} templates, the audit trail says {templates}")
    for person, fingerprint in held.templates:
        if (person, fingerprint) not in replay.templates and (whole or (person, _EVERY_ENCODER) in replay.templates):
            raise _altered_people(path, person, "was enrolled without a row of the audit trail")
    if held.settings is not None and held.settings != replay.installed:
        message = f"the settings in {path} are not those that the audit trail says were installed last: run init again"
        raise IntegrityError(message, reason="audit_altered")


def _altered_people(path: Path, number: int, fault: str) -> IntegrityError:
    message = f"the people in {path} were altered: number {number:016x} {fault}; restore a backup that you trust"
    return IntegrityError(message, reason="audit_altered")


def _cut(path: Path, against: Head) -> IntegrityError:
    message = (
        f"the audit trail in {path} does not hold row {against.seq} as it was: its end was cut off, or the file is "
        "an older copy; restore a backup that you trust"
    )
    return IntegrityError(message, reason="audit_cut")

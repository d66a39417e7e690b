"""Copies of a gallery, and people from one device to another."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np

from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.files import read_file, sync_folder, write_atomically
from edge_oneshot_device.gallery import settings
from edge_oneshot_device.gallery.aside import aside
from edge_oneshot_device.gallery.audit import last_row
from edge_oneshot_device.gallery.database import clear_errors, corrupt, is_sealed, open_file, reading
from edge_oneshot_device.gallery.encoders import people_of
from edge_oneshot_device.gallery.gallery import Gallery, new_number
from edge_oneshot_device.gallery.keys import KeySource
from edge_oneshot_device.gallery.locking import locked
from edge_oneshot_device.gallery.owned import require_own
from edge_oneshot_device.gallery.people import Record, new_name
from edge_oneshot_device.gallery.rotation import seal_with
from edge_oneshot_device.gallery.sealed import has_scores, open_person, open_template, write_person, write_template
from edge_oneshot_device.gallery.vault import SealError, Vault
from edge_oneshot_device.matching.thresholds import MAX_TEMPLATES
from edge_oneshot_device.outputs import check_output

_PAGES: Final = 4096  # copied at once: writers wait for no more than these
_MAX_PEOPLE_BYTES: Final = 4 << 30
_PLACE: Final = "people file 1"


class Passenger(msgspec.Struct, frozen=True, array_like=True):
    """Somebody in a file of people; the templates are float32 numbers, little-endian."""

    record: Record
    templates: tuple[bytes, ...]


class PeopleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file of people: what is sealed in it are `Passenger`s, packed by msgpack."""

    format: Literal[1]
    fingerprint: str
    people: Annotated[int, msgspec.Meta(ge=0)]
    sealed: bytes


class Backup(msgspec.Struct, frozen=True):
    """A copy of a gallery.

    Attributes:
        file: Where it is.
        people: How many are enrolled in it.
        bytes: Its size.
        head: The end of its record, see `Head`.
    """

    file: str
    people: int
    bytes: int
    head: str


class Transfer(msgspec.Struct, frozen=True):
    """People written to a file, or taken from one.

    Attributes:
        file: The file.
        people: Their names.
        skipped: Names of those who were enrolled already.
        fingerprint: Of the encoder that made the templates.
    """

    file: str
    people: list[str]
    skipped: list[str]
    fingerprint: str


def back_up(gallery: Gallery, file: Path) -> Backup:
    """Copy a gallery that is in use, whole and of one moment. The copy opens with the key of that moment.

    Raises:
        InputError: Reason ``bad_output`` or ``no_folder``, see `outputs.check_output`.
        IntegrityError: The gallery is damaged.
        MachineError: The disk does not allow it; a file of that name is as it was.
    """
    _check_output(gallery, file, backup=True)
    gallery.change(lambda connection: gallery.append_audit(connection, "backup_begun"))
    with aside(file.parent) as copied:
        try:
            with clear_errors(file), closing(open_file(copied, create=True)) as copy:
                gallery.copy_to(copy, _PAGES)
                with reading(copy):
                    people = people_of(copy, gallery.fingerprint)
                    last = last_row(copy)
            _write(copied)
            size = copied.stat().st_size
            _check_output(gallery, file, backup=True)
            copied.replace(file)
            sync_folder(file.parent)
        except OSError as error:
            raise MachineError(f"cannot write {file}: {error.strerror}", reason="cannot_write") from error
    assert last is not None
    return Backup(str(file), people, size, f"{last.seq}:{last.mac.hex()}")


def restore(gallery: Gallery, file: Path, key: KeySource | None = None) -> Backup:
    """Put a copy in the place of everything that the gallery holds, in one transaction, but for this device's settings.

    The record says so, and from where it went on. Whoever was forgotten since is enrolled again.

    Args:
        gallery: What is replaced.
        file: The copy.
        key: Where the key of the copy is, when the gallery has another one by now that the copy's is not kept beside.

    Raises:
        InputError: The file cannot be read, or is the gallery's own (``wrong_use``).
        IntegrityError: The copy is damaged, of another encoder, or sealed with another key; nothing was changed.
        MachineError: The disk does not allow it.
    """
    if file.exists() and file.samefile(gallery.path):
        raise InputError(f"{file} is the gallery itself: name another file", reason="wrong_use")
    content = read_file(file, 1 << 40)
    source = gallery.source if key is None else key
    with aside(gallery.path.parent) as copied, _of_the_copy(copied, file, source):
        _write(copied, content)
        if not is_sealed(copied):
            raise corrupt(copied, "there is no gallery in it")
        with (
            locked(gallery.path.parent),  # lest another init is undone
            Gallery.open(copied, gallery.fingerprint, gallery.size, source, gallery.clock) as copy,
        ):
            copy.check_audit()
            copy.mirror("cosine", "best")  # opens every template, and sees that all are of this encoder
            before, own = gallery.read(lambda connection: (last_row(connection), gallery.installed(connection)))
            if gallery.keyring.vault.check_value != copy.keyring.vault.check_value:
                seal_with(copy, gallery.keyring.vault.key)
                copy.source = gallery.source
            head = None if before is None else f"{before.seq}:{before.mac.hex()}"
            copy.change(partial(_take_over, copy, head, own))
            last = copy.read(last_row)
            people = len(copy.people())
            gallery.copy_from(copy)
        gallery.wipe()
    assert last is not None
    return Backup(str(file), people, len(content), f"{last.seq}:{last.mac.hex()}")


def _take_over(
    copy: Gallery, head: str | None, own: tuple[bytes, dict[str, Any]] | None, connection: sqlite3.Connection
) -> None:
    """Say in a copy what it replaces, and give it this device's settings for those that it brings along."""
    copy.append_audit(connection, "restored", detail={"instead_of": head})
    if own is None:
        settings.remove(connection)
    else:
        content, detail = own
        copy.install(connection, content, {**detail, "restored": True})


def export_people(gallery: Gallery, file: Path, key: bytes) -> Transfer:
    """Write everybody's templates to a file, for another device with the same encoder.

    Args:
        gallery: Whose people.
        file: Where to.
        key: Seals the file; whoever imports it needs the same one.

    Raises:
        InputError: Reason ``bad_output`` or ``no_folder``, see `outputs.check_output`.
        IntegrityError: The gallery is damaged, or holds people of another encoder.
        MachineError: The disk does not allow it.
    """
    _check_output(gallery, file)

    def work(connection: sqlite3.Connection) -> list[Passenger]:
        vault = gallery.keyring.vault
        gallery.require_encoder(connection)
        passengers = []
        own = gallery.fingerprint
        query = "SELECT sealed FROM template WHERE person = ? AND fingerprint = ? ORDER BY id"
        for number, sealed in connection.execute("SELECT number, record FROM person"):
            record = open_person(gallery.path, vault, number, sealed)
            rows = connection.execute(query, (number, own)).fetchall()
            templates = tuple(open_template(gallery.path, vault, number, own, row[0], record.name) for row in rows)
            if templates:
                passengers.append(Passenger(record, templates))
        gallery.append_audit(connection, "exported", detail={"people": len(passengers)})
        return sorted(passengers, key=lambda passenger: passenger.record.name)

    passengers = gallery.change(work)
    sealed = Vault(key).seal(msgspec.msgpack.encode(passengers), _PLACE, gallery.fingerprint)
    content = PeopleFile(format=1, fingerprint=gallery.fingerprint, people=len(passengers), sealed=sealed)
    write_atomically(file, msgspec.json.encode(content), mode=0o600, check=lambda: _check_output(gallery, file))
    return Transfer(str(file), [one.record.name for one in passengers], [], gallery.fingerprint)


def import_people(gallery: Gallery, file: Path, key: bytes, most: int = MAX_TEMPLATES) -> Transfer:
    """Enrol everybody of a file that `export_people` wrote, in one transaction; who is enrolled already stays.

    Args:
        gallery: Where to.
        file: The file.
        key: What it was sealed with.
        most: Templates that a person may have.

    Raises:
        InputError: Reason ``not_a_people_file`` or ``too_many_templates``, or the file cannot be read.
        IntegrityError: Reason ``other_fingerprint``, ``wrong_key`` (or the file was altered), or
            ``gallery_of_other_fingerprint``.
        MachineError: The disk does not allow it.
    """
    passengers = _read(gallery, file, key)
    for passenger in passengers:
        if (count := len(passenger.templates)) > most:
            message = (
                f"{passenger.record.name} has {count} templates in {file}: at most {most} a person are possible here"
            )
            raise InputError(f"{message}; calibrate the bundle for more", reason="too_many_templates")

    def work(connection: sqlite3.Connection) -> Transfer:
        gallery.require_encoder(connection)
        gallery.use_encoder(connection)
        vault = gallery.keyring.vault
        taken: list[str] = []
        skipped: list[str] = []
        for passenger in passengers:
            name = new_name(passenger.record.name)
            number, there = gallery.look_up(connection, name) or (new_number(), 0)
            if there:
                skipped.append(name)
                continue
            write_person(connection, vault, number, passenger.record)
            for template in passenger.templates:
                write_template(connection, vault, number, gallery.fingerprint, template)
            detail = {"templates": len(passenger.templates), "fingerprint": gallery.fingerprint}
            gallery.append_audit(connection, "imported", number, detail)
            taken.append(name)
        return Transfer(str(file), taken, skipped, gallery.fingerprint)

    return gallery.change(work)


def _read(gallery: Gallery, file: Path, key: bytes) -> list[Passenger]:
    try:
        found = msgspec.json.decode(read_file(file, _MAX_PEOPLE_BYTES), type=PeopleFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"{file} is no file of people ({error}): give one that people export wrote"
        raise InputError(message, reason="not_a_people_file") from error
    if found.fingerprint != gallery.fingerprint:
        message = (
            f"{file} holds templates of the encoder {found.fingerprint[:12]}, here is {gallery.fingerprint[:12]}: "
            "init the same bundle and variant on both devices, or enrol from images"
        )
        raise IntegrityError(message, reason="other_fingerprint")
    try:
        plain = Vault(key).open(found.sealed, _PLACE, found.fingerprint)
        passengers = msgspec.msgpack.decode(plain, type=list[Passenger])
        if len(passengers) != found.people:
            raise SealError
    except (SealError, msgspec.DecodeError) as error:
        message = f"{file} does not open: it was sealed with another key, or altered; name the key with --transfer-key"
        raise IntegrityError(message, reason="wrong_key") from error
    for passenger in passengers:
        numbers = [np.frombuffer(template, "<f4") for template in passenger.templates if len(template) % 4 == 0]
        whole = [one for one in numbers if len(one) == gallery.size and has_scores(one)]
        if not 0 < len(whole) == len(passenger.templates) <= MAX_TEMPLATES:
            message = f"{file}: the templates of {passenger.record.name} are none of this encoder; export them again"
            raise IntegrityError(message, reason="other_fingerprint")
    return passengers


def _check_output(gallery: Gallery, file: Path, *, backup: bool = False) -> None:
    check_output(file, state=gallery.path.parent, key=gallery.source.path, backup=backup)


@contextmanager
def _of_the_copy(copied: Path, file: Path, source: KeySource) -> Iterator[None]:
    """Have errors name the file that was copied, and the option for its key."""
    try:
        yield
    except IntegrityError as error:
        message = str(error).replace(str(copied), str(file))
        if error.reason == "wrong_key":
            message = f"{file} is sealed with another key than that from {source}: name its own with --backup-key"
        raise IntegrityError(message, reason=error.reason) from error


def _write(path: Path, content: bytes = b"") -> None:
    """Write into a file that is there, and have the disk confirm all that is in it.

    Raises:
        IntegrityError: Reason ``foreign_file``.
        MachineError: Reason ``cannot_write``.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+b") as file:
            require_own(path, os.fstat(file.fileno()))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror}", reason="cannot_write") from error

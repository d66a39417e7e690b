"""Backups of a gallery, and files that bring people from one device to another."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np

from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.files import read_file, sync_folder, write_atomically
from edge_oneshot_device.gallery import audit, settings
from edge_oneshot_device.gallery.aside import aside
from edge_oneshot_device.gallery.audit import Head
from edge_oneshot_device.gallery.database import is_sealed, open_file, reading
from edge_oneshot_device.gallery.encoders import people_of, require_encoder, use_encoder
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource
from edge_oneshot_device.gallery.locking import locked
from edge_oneshot_device.gallery.owned import require_own
from edge_oneshot_device.gallery.people import PersonDetails, new_name
from edge_oneshot_device.gallery.roster import look_up, new_number
from edge_oneshot_device.gallery.rotation import reseal
from edge_oneshot_device.gallery.sealed import has_scores, open_person, open_template, write_person, write_template
from edge_oneshot_device.gallery.storage_errors import clear_errors, corrupt
from edge_oneshot_device.gallery.transaction import Transaction, with_reserve
from edge_oneshot_device.gallery.vault import SealError, Vault
from edge_oneshot_device.matching.thresholds import MAX_TEMPLATES
from edge_oneshot_device.outputs import check_output

_PAGES: Final = 4096  # copied at once: writers wait for no more than these
_MAX_PEOPLE_BYTES: Final = 4 << 30
_PLACE: Final = "people file 1"


class ExportedPerson(msgspec.Struct, frozen=True, array_like=True):
    """A person in a file of people; the templates are float32 numbers, little-endian."""

    details: PersonDetails
    templates: tuple[bytes, ...]


class PeopleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file of people: what is sealed in it are `ExportedPerson` values, packed by msgpack."""

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
        head: The end of its audit trail, see `Head`.
    """

    file: str
    people: int
    bytes: int
    head: str


class Transfer(msgspec.Struct, frozen=True):
    """People written to a file, or read from one.

    Attributes:
        file: The file.
        people: Their names.
        skipped: Names of people who were enrolled already.
        fingerprint: Of the encoder that made the templates.
    """

    file: str
    people: list[str]
    skipped: list[str]
    fingerprint: str


def back_up(gallery: Gallery, file: Path) -> Backup:
    """Copy a gallery that is in use, whole and of one moment. The copy opens with the key of that moment.

    Args:
        gallery: What is copied.
        file: Where the copy goes.

    Raises:
        InputError: Reason ``bad_output`` or ``no_folder``, see `outputs.check_output`.
        IntegrityError: The gallery is damaged.
        MachineError: The disk does not allow it; a file of that name is as it was.
    """
    _check_output(gallery, file, backup=True)
    _record(gallery, "backup_begun")
    with aside(file.parent) as copied:
        try:
            with clear_errors(file), closing(open_file(copied, create=True)) as copy:
                gallery.copy_to(copy, _PAGES)
                with reading(copy):
                    transaction = Transaction(copy, gallery.keyring, gallery.fingerprint, gallery.clock)
                    people, last = people_of(transaction, gallery.fingerprint), audit.last_row(transaction)
            _write(copied)
            size = copied.stat().st_size
            _check_output(gallery, file, backup=True)
            copied.replace(file)
            sync_folder(file.parent)
        except OSError as error:
            raise MachineError(f"cannot write {file}: {error.strerror}", reason="cannot_write") from error
    assert last is not None
    return Backup(str(file), people, size, str(Head.of(last)))


def restore(gallery: Gallery, file: Path, key: KeySource | None = None) -> Backup:
    """Replace everything in the gallery, except this device's settings, with a copy, in one transaction.

    A row of the audit trail says so, and with which head the audit trail before it ended. People who were forgotten
    since the backup are enrolled again.

    Args:
        gallery: What is replaced.
        file: The copy.
        key: Where the copy's key is, if it is neither the gallery's present key nor kept beside it.

    Raises:
        InputError: The file cannot be read, or is the gallery's own (``wrong_use``).
        IntegrityError: The copy is damaged, of another encoder, or sealed with another key; nothing was changed.
        MachineError: The disk does not allow it.
    """
    if file.exists() and file.samefile(gallery.path):
        raise InputError(f"{file} is the gallery itself: name another file", reason="wrong_use")
    content = read_file(file, 1 << 40)
    source = gallery.source if key is None else key
    with aside(gallery.path.parent) as copied, _errors_of_copy(copied, file, source):
        _write(copied, content)
        if not is_sealed(copied):
            raise corrupt(copied, "there is no gallery in it")
        with (
            locked(gallery.path.parent),  # another init at the same time would be undone
            Gallery.open(copied, gallery.fingerprint, gallery.size, source, gallery.clock) as copy,
        ):
            copy.check_audit()
            copy.template_cache("cosine", "best")  # opens every template, and checks that all are of this encoder
            with gallery.reading() as transaction:
                before, own = audit.last_row(transaction), settings.installed(transaction)
            if gallery.keyring.vault.check_value != copy.keyring.vault.check_value:
                reseal(copy, gallery.keyring.vault.key)
                copy.source = gallery.source
            _take_over(copy, None if before is None else Head.of(before), own)
            with copy.reading() as transaction:
                last = audit.newest(transaction)
            people = len(copy.people())
            gallery.copy_from(copy)
        gallery.wipe()
    return Backup(str(file), people, len(content), str(Head.of(last)))


@with_reserve
def _take_over(copy: Gallery, head: Head | None, own: tuple[bytes, dict[str, Any]] | None) -> None:
    """Write in a copy what it replaces, and replace the settings in it with this device's own."""
    with copy.writing() as transaction:
        audit.append(transaction, "restored", detail={"instead_of": None if head is None else str(head)})
        if own is None:
            settings.remove(transaction)
        else:
            content, detail = own
            settings.install(transaction, content, {**detail, "restored": True})


def export_people(gallery: Gallery, file: Path, key: bytes) -> Transfer:
    """Write everybody's templates to a file, for another device with the same encoder.

    Args:
        gallery: Whose people.
        file: Where to.
        key: Seals the file; whoever imports it needs the same key.

    Raises:
        InputError: Reason ``bad_output`` or ``no_folder``, see `outputs.check_output`.
        IntegrityError: The gallery is damaged, or holds people of another encoder.
        MachineError: The disk does not allow it.
    """
    _check_output(gallery, file)
    people = _collect(gallery)
    sealed = Vault(key).seal(msgspec.msgpack.encode(people), _PLACE, gallery.fingerprint)
    content = PeopleFile(format=1, fingerprint=gallery.fingerprint, people=len(people), sealed=sealed)
    write_atomically(file, msgspec.json.encode(content), mode=0o600, check=lambda: _check_output(gallery, file))
    return Transfer(str(file), [one.details.name for one in people], [], gallery.fingerprint)


@with_reserve
def _collect(gallery: Gallery) -> list[ExportedPerson]:
    """Everybody enrolled, by name, with a row of the audit trail that says that they were exported."""
    query = "SELECT sealed FROM template WHERE person = ? AND fingerprint = ? ORDER BY id"
    people = []
    with gallery.writing() as transaction:
        require_encoder(transaction)
        for number, sealed in transaction.execute("SELECT number, record FROM person"):
            details = open_person(transaction, number, sealed)
            rows = transaction.execute(query, (number, transaction.fingerprint)).fetchall()
            templates = tuple(open_template(transaction, number, row[0], details.name) for row in rows)
            if templates:  # a PIN stays here: its number may be somebody else's there
                people.append(ExportedPerson(msgspec.structs.replace(details, pin=None), templates))
        audit.append(transaction, "exported", detail={"people": len(people)})
    return sorted(people, key=lambda one: one.details.name)


def import_people(gallery: Gallery, file: Path, key: bytes, most: int = MAX_TEMPLATES) -> Transfer:
    """Enrol everybody of a file that `export_people` wrote, in one transaction; who is enrolled already is skipped.

    Args:
        gallery: Where to.
        file: The file.
        key: The key that it was sealed with.
        most: Templates that a person may have.

    Raises:
        InputError: Reason ``not_a_people_file`` or ``too_many_templates``, or the file cannot be read.
        IntegrityError: Reason ``other_fingerprint``, ``wrong_key`` (or the file was altered), or
            ``gallery_of_other_fingerprint``.
        MachineError: The disk does not allow it.
    """
    people = _read(gallery, file, key)
    for one in people:
        if (count := len(one.templates)) > most:
            message = f"{one.details.name} has {count} templates in {file}: at most {most} a person are possible here"
            raise InputError(f"{message}; calibrate the bundle for more", reason="too_many_templates")
    taken, skipped = _import(gallery, people)
    return Transfer(str(file), taken, skipped, gallery.fingerprint)


@with_reserve
def _import(gallery: Gallery, people: list[ExportedPerson]) -> tuple[list[str], list[str]]:
    """The names of the people who were enrolled, and of those who were already."""
    taken: list[str] = []
    skipped: list[str] = []
    with gallery.writing() as transaction:
        require_encoder(transaction)
        use_encoder(transaction)
        for one in people:
            name = new_name(one.details.name)
            number, there = look_up(transaction, name) or (new_number(), 0)
            if there:
                skipped.append(name)
                continue
            write_person(transaction, number, one.details)
            for template in one.templates:
                write_template(transaction, number, template)
            detail = {"templates": len(one.templates), "fingerprint": transaction.fingerprint}
            audit.append(transaction, "imported", number, detail)
            taken.append(name)
    return taken, skipped


def _read(gallery: Gallery, file: Path, key: bytes) -> list[ExportedPerson]:
    """The people of a file, whose templates are checked."""
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
        people = msgspec.msgpack.decode(plain, type=list[ExportedPerson])
        if len(people) != found.people:
            raise SealError
    except (SealError, msgspec.DecodeError) as error:
        message = f"{file} does not open: it was sealed with another key, or altered; name the key with --transfer-key"
        raise IntegrityError(message, reason="wrong_key") from error
    for one in people:
        numbers = [np.frombuffer(template, "<f4") for template in one.templates if len(template) % 4 == 0]
        valid = [template for template in numbers if len(template) == gallery.size and has_scores(template)]
        if not 0 < len(valid) == len(one.templates) <= MAX_TEMPLATES:
            message = f"{file}: the templates of {one.details.name} are none of this encoder; export them again"
            raise IntegrityError(message, reason="other_fingerprint")
    return people


@with_reserve
def _record(gallery: Gallery, act: str) -> None:
    with gallery.writing() as transaction:
        audit.append(transaction, act)


def _check_output(gallery: Gallery, file: Path, *, backup: bool = False) -> None:
    check_output(file, state=gallery.path.parent, key=gallery.source.path, backup=backup)


@contextmanager
def _errors_of_copy(copied: Path, file: Path, source: KeySource) -> Iterator[None]:
    """Errors that name the file that was copied, and the option for its key."""
    try:
        yield
    except IntegrityError as error:
        message = str(error).replace(str(copied), str(file))
        if error.reason == "wrong_key":
            message = f"{file} is sealed with another key than that from {source}: name its own with --backup-key"
        raise IntegrityError(message, reason=error.reason) from error


def _write(path: Path, content: bytes = b"") -> None:
    """Write to a file that exists, and sync all that is in it to the disk.

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

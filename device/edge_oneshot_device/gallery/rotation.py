"""Another key: everything is sealed anew in one transaction.

A new key is on the disk before the transaction, and a replaced one stays, each beside the key file under a name of
its own. So at every instant every gallery finds its key, also where one key file serves several.
"""

import secrets
import sqlite3
from pathlib import Path

import msgspec

from edge_oneshot_device.errors import InputError, IntegrityError, MachineError, OneShotError
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.gallery import audit, settings, wiping
from edge_oneshot_device.gallery.database import write
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keyring import write_epoch
from edge_oneshot_device.gallery.keys import (
    KEY_BYTES,
    KeySource,
    create_key,
    encode_key,
    is_credential,
    keep_key,
    kept_at,
    kept_keys,
    read_key,
)
from edge_oneshot_device.gallery.locking import locked
from edge_oneshot_device.gallery.sealed import seal_anew
from edge_oneshot_device.gallery.vault import Vault


class Rotation(msgspec.Struct, frozen=True):
    """A change of the key.

    Attributes:
        people: How many were sealed anew.
        keys: How many keys there have been, the new one included.
        key: The file of the new key.
        former: Where the one before is kept, which older backups need; None: where it always was.
    """

    people: int
    keys: int
    key: str
    former: str | None = None


class Dropped(msgspec.Struct, frozen=True):
    """Former keys that were deleted.

    Attributes:
        dropped: Their files.
        kept: Files of keys beside them that may be another gallery's, or the one in force.
    """

    dropped: list[str]
    kept: list[str]


def rotate_key(gallery: Gallery, new: Path | None = None) -> Rotation:
    """Seal the whole gallery with another key.

    Whatever interrupts it, the gallery opens with the key file as it is then, and no key is lost.

    Args:
        gallery: Opened with its present key.
        new: The file of the new key, made if it is not there; None makes a key and puts it in
            the place of the former one, which stays beside it.

    Raises:
        InputError: Reason ``wrong_use``: the present key is in no file that could be replaced.
        IntegrityError: The gallery is damaged, or the new key is (see `read_key`).
        MachineError: The disk does not allow it; the former key is in force, unless the reason is ``not_confirmed`` or
            ``not_wiped`` (see `Gallery.wipe`).
    """
    if new is not None:
        key = read_key(KeySource(new)) if new.exists() else create_key(new)
        if Vault(key).check_value == gallery.keyring.vault.check_value:
            raise InputError(f"{new} holds the key that is in force: name another file", reason="wrong_use")
        done = Rotation(*seal_with(gallery, key), str(new))
    else:
        done = _rotate_in_place(gallery, _key_file(gallery, "say --new-key FILE for the new one"))
    gallery.wipe()
    return done


def drop_former(gallery: Gallery) -> Dropped:
    """Delete the keys that this gallery was sealed with before, as far as its record proves it.

    What other galleries or backups were sealed with them opens no more: nothing here can know of those.

    Raises:
        InputError: Reason ``wrong_use``: the key is in no file that others are kept beside.
        IntegrityError: The gallery is damaged, or its record does not hold.
        MachineError: The disk does not allow it.
    """
    path = _key_file(gallery, "former ones are kept beside a key file alone")
    gallery.check_audit()
    own: set[str] = set()
    for row in gallery.rows():
        if row.act == "restored":  # what a copy brought along may be another gallery's key
            own.clear()
        elif row.act == "key_rotated":
            own.add(str(msgspec.json.decode(row.detail).get("former")))

    def work(connection: sqlite3.Connection) -> list[Path]:
        in_force = kept_at(path, gallery.keyring.vault.check_value)
        former = [one for one in kept_keys(path) if one != in_force and one.name[len(path.name) + 1 :] in own]
        proven = [one for one in former if kept_at(path, Vault(read_key(KeySource(one))).check_value) == one]
        if proven:
            names = [one.name[len(path.name) + 1 :] for one in proven]
            gallery.append_audit(connection, "keys_dropped", detail={"keys": names})
        return proven

    with locked(path.parent):
        dropped = gallery.change(work)
        for one in dropped:
            try:
                one.unlink()
            except OSError as error:
                raise MachineError(f"cannot delete {one}: {error.strerror}", reason="cannot_write") from error
        return Dropped([str(one) for one in dropped], [str(one) for one in kept_keys(path)])


def _key_file(gallery: Gallery, what_to_do: str) -> Path:
    path = gallery.source.path
    if path is None or is_credential(path):
        where = "a command" if path is None else "a credential of systemd's"
        raise InputError(f"the key comes from {where}: {what_to_do}", reason="wrong_use")
    return path


def _rotate_in_place(gallery: Gallery, path: Path) -> Rotation:
    key = secrets.token_bytes(KEY_BYTES)
    kept = keep_key(path, key)
    try:
        people, epoch = seal_with(gallery, key)
    except OneShotError:
        _discard(gallery, kept, key)
        raise
    former = kept_at(path, gallery.keyring.vault.check_value)
    try:
        keep_key(path, gallery.keyring.vault.key)
        put_in_place(gallery, path, key)
    except (IntegrityError, MachineError) as error:
        message = f"the new key is in force and lies in {kept}, where it is found; {path} is as it was: {error}"
        raise MachineError(message, reason="not_confirmed") from error
    return Rotation(people, epoch, str(path), str(former))


def put_in_place(gallery: Gallery, path: Path, key: bytes) -> None:
    """Write the key of a gallery into its key file, unless it was rotated again; what is there now stays beside it.

    Raises:
        IntegrityError: What is there is no key, or open to others.
        MachineError: The disk does not allow it.
    """
    with locked(path.parent):  # of two rotations at once, the newest key comes to lie there
        if gallery.read(lambda _: gallery.keyring.vault.key) == key:
            if path.exists():
                keep_key(path, read_key(KeySource(path)))
            write_atomically(path, encode_key(key), mode=0o600)


def _discard(gallery: Gallery, kept: Path, key: bytes) -> None:
    """Remove a new key that came to nothing, where the gallery itself can say that it never was in force."""
    query = "SELECT EXISTS (SELECT * FROM epoch WHERE check_value = ?)"
    value = Vault(key).check_value
    try:
        if not gallery.read(lambda connection: connection.execute(query, (value,)).fetchone()[0]):
            kept.unlink()
    except (OneShotError, OSError):
        return  # a key too many harms nobody


def seal_with(gallery: Gallery, key: bytes) -> tuple[int, int]:
    """Seal everything with another key, whose file is the caller's care.

    Returns:
        How many people were sealed anew, and how many keys there have been.

    Raises:
        IntegrityError: The gallery is damaged.
        MachineError: The disk does not allow it; the former key is in force.
    """
    return gallery.change(lambda connection: _seal(connection, gallery, key))


def _seal(connection: sqlite3.Connection, gallery: Gallery, key: bytes) -> tuple[int, int]:
    former, vault = gallery.keyring, Vault(key)
    seal_anew(connection, gallery.path, former.vault, vault)
    settings.seal_anew(connection, gallery.path, former, vault)
    for epoch, (_, chain) in enumerate(former.chains, start=former.epoch - len(former.chains) + 1):
        write(connection, "UPDATE epoch SET chain = ? WHERE id = ?", (vault.seal(chain, "chain", epoch), epoch))
    last = gallery.newest(connection)
    chain = secrets.token_bytes(KEY_BYTES)
    epoch = former.epoch + 1
    write_epoch(connection, vault, epoch, last.seq + 1, chain)
    names = {"former": former.vault.check_value[:8].hex(), "key": vault.check_value[:8].hex()}
    audit.append(connection, chain, gallery.clock.now(), "key_rotated", detail={"keys": epoch, **names})
    wiping.mark(connection)
    people = int(connection.execute("SELECT count(*) FROM person").fetchone()[0])
    return people, epoch

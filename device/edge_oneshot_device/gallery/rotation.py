"""Replacing the key of a gallery: everything is sealed with the new one in one transaction.

A new key is on the disk before that transaction, and a replaced one stays, each beside the key file under a name of its
own. So at every instant every gallery finds its key, also where several galleries share a key file.
"""

import secrets
from pathlib import Path

import msgspec

from edge_oneshot_device.errors import InputError, IntegrityError, MachineError, OneShotError
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.gallery import audit, sealed, settings, wiping
from edge_oneshot_device.gallery.first_rows import write_epoch
from edge_oneshot_device.gallery.gallery import Gallery
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
from edge_oneshot_device.gallery.transaction import Transaction, with_reserve
from edge_oneshot_device.gallery.vault import Vault


class KeyRotation(msgspec.Struct, frozen=True):
    """A change of the key.

    Attributes:
        people: How many people were sealed with the new key.
        keys: How many keys there have been, the new one included.
        key: The file of the new key.
        former: Where the key before is kept, which older backups need; None: where it always was.
    """

    people: int
    keys: int
    key: str
    former: str | None = None


class DroppedKeys(msgspec.Struct, frozen=True):
    """Former keys that were deleted.

    Attributes:
        dropped: Their files.
        kept: Files of keys beside them that may be another gallery's, or the one in force.
    """

    dropped: list[str]
    kept: list[str]


def rotate_key(gallery: Gallery, new: Path | None = None) -> KeyRotation:
    """Seal the whole gallery with another key.

    Whatever interrupts it, the gallery opens with the key file as it is then, and no key is lost.

    Args:
        gallery: Opened with its present key.
        new: The file of the new key, created if it does not exist; None makes a key and writes it to the key file,
            and the former key stays beside it.

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
        done = KeyRotation(*reseal(gallery, key), str(new))
    else:
        done = _rotate_in_place(gallery, _key_file(gallery, "say --new-key FILE for the new one"))
    gallery.wipe()
    return done


def drop_former(gallery: Gallery) -> DroppedKeys:
    """Delete the keys that this gallery was sealed with before, as far as its audit trail proves it.

    Other galleries and backups that are sealed with them no longer open: this gallery cannot know of those.

    Raises:
        InputError: Reason ``wrong_use``: the key is in no file that others are kept beside.
        IntegrityError: The gallery is damaged, or its audit trail was altered.
        MachineError: The disk does not allow it.
    """
    path = _key_file(gallery, "former ones are kept beside a key file alone")
    gallery.check_audit()
    own: set[str] = set()
    for row in gallery.rows():
        if row.act == "restored":  # keys from before may be those of another gallery
            own.clear()
        elif row.act == "key_rotated":
            own.add(str(msgspec.json.decode(row.detail).get("former")))

    with locked(path.parent):
        dropped = _record_dropped(gallery, path, own)
        for one in dropped:
            try:
                one.unlink()
            except OSError as error:
                raise MachineError(f"cannot delete {one}: {error.strerror}", reason="cannot_write") from error
        return DroppedKeys([str(one) for one in dropped], [str(one) for one in kept_keys(path)])


@with_reserve
def _record_dropped(gallery: Gallery, path: Path, own: set[str]) -> list[Path]:
    """The kept keys that are this gallery's own former ones, once the audit trail says that they were deleted."""
    with gallery.writing() as transaction:
        in_force = kept_at(path, transaction.vault.check_value)
        former = [one for one in kept_keys(path) if one != in_force and one.name[len(path.name) + 1 :] in own]
        proven = [one for one in former if kept_at(path, Vault(read_key(KeySource(one))).check_value) == one]
        if proven:
            names = [one.name[len(path.name) + 1 :] for one in proven]
            audit.append(transaction, "keys_dropped", detail={"keys": names})
        return proven


def _key_file(gallery: Gallery, what_to_do: str) -> Path:
    path = gallery.source.path
    if path is None or is_credential(path):
        where = "a command" if path is None else "a credential of systemd's"
        raise InputError(f"the key comes from {where}: {what_to_do}", reason="wrong_use")
    return path


def _rotate_in_place(gallery: Gallery, path: Path) -> KeyRotation:
    key = secrets.token_bytes(KEY_BYTES)
    kept = keep_key(path, key)
    try:
        people, epoch = reseal(gallery, key)
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
    return KeyRotation(people, epoch, str(path), str(former))


def put_in_place(gallery: Gallery, path: Path, key: bytes) -> None:
    """Write the key of a gallery to its key file, unless it was rotated again; the key there now stays beside it.

    Args:
        gallery: Sealed with the key.
        path: The key file.
        key: 32 bytes.

    Raises:
        IntegrityError: What is there is no key, or other users may read it.
        MachineError: The disk does not allow it.
    """
    with locked(path.parent):  # of two rotations at once, the newest key is written last
        with gallery.reading() as transaction:
            in_force = transaction.vault.key
        if in_force == key:
            if path.exists():
                keep_key(path, read_key(KeySource(path)))
            write_atomically(path, encode_key(key), mode=0o600)


def _discard(gallery: Gallery, kept: Path, key: bytes) -> None:
    """Remove a new key that was never in force, where the gallery itself can say so."""
    query = "SELECT EXISTS (SELECT * FROM epoch WHERE check_value = ?)"
    try:
        with gallery.reading() as transaction:
            was_in_force = transaction.value(query, (Vault(key).check_value,))
        if not was_in_force:
            kept.unlink()
    except (OneShotError, OSError):
        return  # a key too many does no harm


@with_reserve
def reseal(gallery: Gallery, key: bytes) -> tuple[int, int]:
    """Seal everything with another key; the caller has written it to a file.

    Args:
        gallery: Opened with its present key.
        key: The new one.

    Returns:
        How many people were sealed, and how many keys there have been.

    Raises:
        IntegrityError: The gallery is damaged.
        MachineError: The disk does not allow it; the former key is in force.
    """
    with gallery.writing() as transaction:
        return _reseal(transaction, Vault(key))


def _reseal(transaction: Transaction, vault: Vault) -> tuple[int, int]:
    former = transaction.keyring
    sealed.reseal(transaction, vault)
    settings.reseal(transaction, vault)
    for epoch, (_, chain) in enumerate(former.chains, start=former.epoch - len(former.chains) + 1):
        transaction.write("UPDATE epoch SET chain = ? WHERE id = ?", (vault.seal(chain, "chain", epoch), epoch))
    last = audit.newest(transaction)
    chain, epoch = secrets.token_bytes(KEY_BYTES), former.epoch + 1
    write_epoch(transaction, vault, epoch, last.seq + 1, chain)
    names = {"former": former.vault.check_value[:8].hex(), "key": vault.check_value[:8].hex()}
    audit.append(transaction, "key_rotated", detail={"keys": epoch, **names}, key=chain)
    wiping.mark(transaction)
    return int(transaction.value("SELECT count(*) FROM person")), epoch

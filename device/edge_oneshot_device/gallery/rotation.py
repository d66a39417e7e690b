"""Another key: everything is sealed anew in one transaction, and the key file follows by one rename."""

import secrets
import sqlite3
from pathlib import Path

import msgspec

from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.gallery import audit, wiping
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keyring import write_epoch
from edge_oneshot_device.gallery.keys import (
    KEY_BYTES,
    KeySource,
    create_key,
    drop_successor,
    former_of,
    is_credential,
    read_key,
    successor_of,
)
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


def rotate_key(gallery: Gallery, new: Path | None = None) -> Rotation:
    """Seal the whole gallery with another key.

    A power cut leaves the former key with the former gallery, or the new one with the new: where the new
    key is not in its place yet, whoever opens the gallery next puts it there.

    Args:
        gallery: Opened with its present key.
        new: The file of the new key, made if it is not there; None makes a key and puts it in
            the place of the former one.

    Raises:
        InputError: Reason ``wrong_use``: the present key is in no file that could be replaced.
        IntegrityError: The gallery is damaged, or the new key is (see `read_key`).
        MachineError: The disk does not allow it; the former key is in force, unless the reason is ``not_confirmed`` or
            ``not_wiped`` (see `Gallery.wipe`).
    """
    path = gallery.source.path
    if new is None and (path is None or is_credential(path)):
        where = "a command" if path is None else "a credential of systemd's"
        raise InputError(f"the key comes from {where}: say --new-key FILE for the new one", reason="wrong_use")
    if new is not None:
        key = read_key(KeySource(new)) if new.exists() else create_key(new)
        if Vault(key).check_value == gallery.keyring.vault.check_value:
            raise InputError(f"{new} holds the key that is in force: name another file", reason="wrong_use")
        done = Rotation(*seal_with(gallery, key), str(new))
        gallery.wipe()
        return done
    assert path is not None

    def work(connection: sqlite3.Connection) -> tuple[int, int]:
        # in the transaction, which keeps out another rotation; what lies there came to nothing
        drop_successor(path)
        return _seal(connection, gallery, create_key(successor_of(path)))

    done = Rotation(*gallery.change(work), str(path), str(former_of(path)))
    try:
        gallery.read(lambda _: None)  # opens the keys anew, which puts the new one in its place
    except (IntegrityError, MachineError) as error:
        new = successor_of(path)
        message = f"the new key is in force, and is put in the place of {path} at the next opening; keep {new}: {error}"
        raise MachineError(message, reason="not_confirmed") from error
    gallery.wipe()
    return done


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
    for epoch, (_, chain) in enumerate(former.chains, start=former.epoch - len(former.chains) + 1):
        change = "UPDATE epoch SET chain = ? WHERE id = ?"
        connection.execute(change, (vault.seal(chain, "chain", epoch), epoch))
    last = audit.last_row(connection)
    chain = secrets.token_bytes(KEY_BYTES)
    epoch = former.epoch + 1
    write_epoch(connection, vault, epoch, 1 if last is None else last.seq + 1, chain)
    audit.append(connection, chain, gallery.clock.now(), "key_rotated", detail={"keys": epoch})
    wiping.mark(connection)
    people = int(connection.execute("SELECT count(*) FROM person").fetchone()[0])
    return people, epoch

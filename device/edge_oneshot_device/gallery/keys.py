"""The key that seals a gallery: where it comes from, and where keys are kept.

It is 32 random bytes, written as 64 hexadecimal digits. In this order it is taken from a credential
that systemd hands over, from the file named with --key, from the output of a command, from the file
that EDGE_ONESHOT_KEY names, or from ~/.config/edge-oneshot/key.

One key file may serve several galleries. So a key that a rotation made or replaced stays beside it, under a name
made from its check value: each gallery finds its own there.
"""

import os
import re
import secrets
import shlex
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.files import create_folder, read_file, sync_folder, write_atomically
from edge_oneshot_device.gallery.vault import Vault

CREDENTIAL: Final = "edge-oneshot.key"
"""Name of the credential: ``LoadCredential=edge-oneshot.key:/etc/edge-oneshot.key`` in a unit."""
COMMAND: Final = "EDGE_ONESHOT_KEY_COMMAND"
ENVIRONMENT: Final = "EDGE_ONESHOT_KEY"

KEY_BYTES: Final = 32
_MAX_FILE_BYTES: Final = 4096


class KeySource(msgspec.Struct, frozen=True):
    """Where the key comes from: one of the two is set.

    Attributes:
        path: A file.
        command: The words of a command that prints the key.
    """

    path: Path | None
    command: tuple[str, ...] | None = None

    def __str__(self) -> str:
        """The source, as errors name it."""
        if self.command is None:
            return str(self.path)
        from edge_oneshot_device.gallery.key_command import describe

        return describe(self.command)


def find_key(argument: str | os.PathLike[str] | None = None) -> KeySource:
    """Where the key comes from; the key is not read yet.

    Args:
        argument: The file that the user named, if any.

    Raises:
        InputError: Reason ``no_key``: no file was named, and there is no home folder; or ``bad_key_command``.
    """
    if folder := os.environ.get("CREDENTIALS_DIRECTORY"):
        credential = Path(folder) / CREDENTIAL
        if credential.exists():
            return KeySource(credential)
    if argument is not None:
        return KeySource(Path(argument))
    try:
        words = shlex.split(os.environ.get(COMMAND, ""))
    except ValueError as error:
        message = f"{COMMAND} cannot be parsed ({error}): quote it as for a shell"
        raise InputError(message, reason="bad_key_command") from error
    if words:
        return KeySource(None, tuple(words))
    if chosen := os.environ.get(ENVIRONMENT):
        return KeySource(Path(chosen))
    try:
        return KeySource(Path.home() / ".config" / "edge-oneshot" / "key")
    except RuntimeError as error:
        message = f"there is no home folder to keep the key in: name a file with --key or {ENVIRONMENT}"
        raise InputError(message, reason="no_key") from error


def is_credential(path: Path) -> bool:
    """Whether systemd passed the file to this service, for as long as it runs."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and path.parent == Path(str(folder))


def read_key(source: KeySource) -> bytes:
    """The key, 32 bytes.

    Raises:
        IntegrityError: Reason ``key_missing``, ``key_exposed`` (others may read the file), or ``key_unreadable``.
        MachineError: The file cannot be read, or the command failed (``key_command_failed``).
    """
    if source.command is not None:
        from edge_oneshot_device.gallery.key_command import run

        return _decode(run(source.command), source)
    assert source.path is not None
    try:
        content = read_file(source.path, _MAX_FILE_BYTES)
    except InputError as error:
        if error.reason != "not_found":
            raise IntegrityError(str(error), reason="key_unreadable") from error
        message = f"there is no key at {source.path}: name its file with --key, or put it back; nobody can be"
        raise IntegrityError(f"{message} recognized without it", reason="key_missing") from error
    mode = stat.S_IMODE(source.path.stat().st_mode)
    # systemd's own credentials are 0400, or 0440 for its group of one
    if mode & 0o077 and not is_credential(source.path):
        message = (
            f"the key {source.path} can be read by other users (mode {mode:03o}): chmod 600 it, and consider rotate-key"
        )
        raise IntegrityError(message, reason="key_exposed")
    return _decode(content, source)


def create_key(path: Path) -> bytes:
    """Make a new key and write it to a file, mode 0600; a missing folder is created, mode 0700.

    Raises:
        MachineError: Reason ``key_exists``: the file exists already; or ``cannot_write``: the disk does not allow it.
    """
    key = secrets.token_bytes(KEY_BYTES)
    write_key(path, key)
    return key


def write_key(path: Path, key: bytes) -> None:
    """Write a key to a file that does not exist yet, as `create_key` does; raises what that does.

    Args:
        path: The file.
        key: 32 bytes.
    """
    try:
        create_folder(path.parent)
    except OSError as error:
        raise MachineError(f"cannot create {path.parent}: {error.strerror}", reason="cannot_write") from error
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    write_atomically(aside, encode_key(key), mode=0o600)
    try:
        # unlike a rename, a link never replaces a file
        path.hardlink_to(aside)
        sync_folder(path.parent)
    except FileExistsError as error:
        message = f"{path} is there already: a key is never overwritten"
        raise MachineError(message, reason="key_exists") from error
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror}", reason="cannot_write") from error
    finally:
        with suppress(OSError):
            aside.unlink()


def kept_at(path: Path, check_value: bytes) -> Path:
    """The file beside a key file for the key with a check value, which says nothing about the key itself.

    Args:
        path: The key file.
        check_value: Of the key.
    """
    return path.with_name(f"{path.name}.{check_value[:8].hex()}")


def keep_key(path: Path, key: bytes) -> Path:
    """Keep a key beside a key file, unless it is there already; returns its file.

    Args:
        path: The key file.
        key: 32 bytes.

    Raises:
        IntegrityError: That file holds another key, or none (see `read_key`).
        MachineError: Reason ``cannot_write``.
    """
    kept = kept_at(path, Vault(key).check_value)
    try:
        write_key(kept, key)
    except MachineError as error:
        if error.reason != "key_exists":
            raise
        if read_key(KeySource(kept)) != key:
            message = f"{kept} holds another key than its name says: move it elsewhere"
            raise IntegrityError(message, reason="key_unreadable") from error
    return kept


def kept_keys(path: Path) -> list[Path]:
    """The files of all keys that are kept beside a key file, by name."""
    pattern = re.compile(re.escape(path.name) + r"\.[0-9a-f]{16}")
    return sorted(one for one in path.parent.iterdir() if pattern.fullmatch(one.name))


def find_vault(source: KeySource, check_value: bytes) -> Vault | None:
    """The vault with a check value: of the source's key, or of one kept beside its file.

    Args:
        source: Where the key is.
        check_value: As the gallery has it.

    Returns:
        None where no key has that check value.

    Raises:
        IntegrityError: The source's key cannot be used, see `read_key`.
        MachineError: It cannot be read.
    """
    missing = None
    try:
        vault = Vault(read_key(source))
        if vault.check_value == check_value:
            return vault
    except IntegrityError as error:
        if error.reason != "key_missing":
            raise
        missing = error
    if source.path is not None:
        try:
            vault = Vault(read_key(KeySource(kept_at(source.path, check_value))))
            if vault.check_value == check_value:
                return vault
        except IntegrityError as error:
            if error.reason != "key_missing":
                raise
    if missing is not None:
        raise missing
    return None


def encode_key(key: bytes) -> bytes:
    """The content of a key file."""
    return key.hex().encode() + b"\n"


def _decode(content: bytes, source: KeySource) -> bytes:
    try:
        text = content.decode("ascii").strip()
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else b""
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        message = f"{source} gives no key: {2 * KEY_BYTES} hexadecimal digits are expected"
        raise IntegrityError(message, reason="key_unreadable")
    if not any(key):
        message = f"{source} gives a key of all zeros, which is no secret: was a key ever written to that memory?"
        raise IntegrityError(message, reason="key_unreadable")
    return key

"""The key that seals a gallery: where it comes from, and the keys that are derived from it.

It is 32 random bytes, written as 64 hexadecimal digits. In this order it is taken from a credential
that systemd hands over, from the file named with --key, from the output of a command, from the file
that EDGE_ONESHOT_KEY names, or from ~/.config/edge-oneshot/key.
"""

import os
import secrets
import shlex
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.files import create_folder, read_file, sync_folder, write_atomically

CREDENTIAL: Final = "edge-oneshot.key"
"""Name of the credential: ``LoadCredential=edge-oneshot.key:/etc/edge-oneshot.key`` in a unit."""
COMMAND: Final = "EDGE_ONESHOT_KEY_COMMAND"
ENVIRONMENT: Final = "EDGE_ONESHOT_KEY"

KEY_BYTES: Final = 32
_COMMAND_SECONDS: Final = 30.0
_MAX_FILE_BYTES: Final = 4096


class KeySource(msgspec.Struct, frozen=True):
    """Where the key comes from; exactly one of the two is set.

    Attributes:
        path: A file.
        command: The words of a command that prints it.
    """

    path: Path | None
    command: tuple[str, ...] | None = None

    def __str__(self) -> str:
        """As errors name it."""
        return f"the command {shlex.join(self.command)}" if self.command is not None else str(self.path)


def find_key(argument: str | os.PathLike[str] | None = None) -> KeySource:
    """Where the key comes from; nothing is read yet.

    Args:
        argument: The file that the user named, if any.

    Raises:
        InputError: Reason ``no_key``: there is no home folder, and nothing was named; or ``bad_key_command``.
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
        message = f"{COMMAND} cannot be understood ({error}): write it as for a shell"
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
    """Whether systemd handed the file over, for as long as this service runs."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and path.parent == Path(str(folder))


def read_key(source: KeySource) -> bytes:
    """The key, 32 bytes.

    Raises:
        IntegrityError: Reason ``key_missing``, ``key_exposed`` (others may read the file), or ``key_unreadable``.
        MachineError: The file cannot be read, or the command failed (``key_command_failed``).
    """
    if source.path is None:
        return _decode(_run(source), source)
    try:
        content = read_file(source.path, _MAX_FILE_BYTES)
    except InputError as error:
        if error.reason != "not_found":
            raise IntegrityError(str(error), reason="key_unreadable") from error
        message = f"there is no key at {source.path}: name its file with --key, or bring it back; nobody can be"
        raise IntegrityError(f"{message} recognized without it", reason="key_missing") from error
    mode = stat.S_IMODE(source.path.stat().st_mode)
    # systemd's own credentials are 0400, or 0440 for its group of one
    if mode & 0o077 and not is_credential(source.path):
        message = f"the key {source.path} is open to others (mode {mode:03o}): chmod 600 it, and think of rotate-key"
        raise IntegrityError(message, reason="key_exposed")
    return _decode(content, source)


def create_key(path: Path) -> bytes:
    """Make a new key and write it, mode 0600; the folder is made if need be, mode 0700.

    Raises:
        MachineError: Reason ``cannot_write``: the disk does not allow it, or a key is there already.
    """
    key = secrets.token_bytes(KEY_BYTES)
    try:
        create_folder(path.parent)
    except OSError as error:
        raise MachineError(f"cannot create {path.parent}: {error.strerror}", reason="cannot_write") from error
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    write_atomically(aside, encode_key(key), mode=0o600)
    try:
        # unlike a rename, a link takes nobody's place
        path.hardlink_to(aside)
        sync_folder(path.parent)
    except FileExistsError as error:
        message = f"{path} is there already: a key is never overwritten"
        raise MachineError(message, reason="cannot_write") from error
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror}", reason="cannot_write") from error
    finally:
        with suppress(OSError):
            aside.unlink()
    return key


def encode_key(key: bytes) -> bytes:
    """The content of a key file."""
    return key.hex().encode() + b"\n"


def successor_of(path: Path) -> Path:
    """Where `rotate-key` keeps the new key until the gallery is sealed with it."""
    return path.with_name(path.name + ".new")


def former_of(path: Path) -> Path:
    """Where the key before the present one is kept: backups of then, or another state folder, may need it."""
    return path.with_name(path.name + ".former")


def adopt_successor(path: Path) -> None:
    """Put the new key in the place of the former one by a rename; the former one stays as `former_of` says.

    Raises:
        MachineError: Reason ``cannot_write``.
    """
    aside = path.with_name(path.name + ".tmp")
    try:
        aside.unlink(missing_ok=True)
        aside.hardlink_to(path)
        aside.replace(former_of(path))
        aside.unlink(missing_ok=True)  # a rename between two names of one file leaves both: of a cut one, begun again
        successor_of(path).replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror}", reason="cannot_write") from error


def drop_successor(path: Path) -> None:
    """Remove a new key that came to nothing."""
    with suppress(OSError):
        successor_of(path).unlink()


def _run(source: KeySource) -> bytes:
    import subprocess  # takes its time, and few keys come from a command

    assert source.command is not None
    try:
        done = subprocess.run(  # noqa: S603 (the administrator's own command)
            source.command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = "took too long" if isinstance(error, subprocess.TimeoutExpired) else f"cannot be run: {error.strerror}"
        raise MachineError(f"{source} that prints the key {why}", reason="key_command_failed") from error
    if done.returncode:
        message = f"{source} that prints the key ended with {done.returncode}"
        raise MachineError(message, reason="key_command_failed")
    return done.stdout


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
        message = f"{source} gives a key of all zeros, which is no secret: a memory that nobody wrote a key to?"
        raise IntegrityError(message, reason="key_unreadable")
    return key

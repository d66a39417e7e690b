"""Sign bundles with Ed25519: key files and the signature; `edge_oneshot_device.bundle.signature` verifies it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from edge_oneshot_device.bundle.signature import MAX_KEY_BYTES, Signature, bad_key, encode_signature, signed_bytes
from edge_oneshot_device.errors import InputError, OneShotError
from edge_oneshot_device.files import read_file, write_atomically
from edge_oneshot_device.outputs import check_place

PUBLIC_SUFFIX: Final = ".pub"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """What `generate_key` wrote.

    Attributes:
        private: File of the private key. Whoever has it can sign in your name.
        public: File of the public key, which devices trust.
        key: The public key in hex, as `inspect` shows it.
    """

    private: str
    public: str
    key: str


def generate_key(path: str | os.PathLike[str]) -> KeyPair:
    """Write a new private key to `path` (PKCS #8, PEM, mode 0600) and its public key to `path`.pub.

    Raises:
        InputError: ``key_exists``: one of the two files exists; ``no_folder``: their folder does not exist;
            ``bad_output``: it is a state folder. Neither file is written.
        MachineError: ``cannot_write``: neither file stays.
    """
    private = Path(path)
    public = private.with_name(private.name + PUBLIC_SUFFIX)
    if not private.parent.is_dir():
        raise InputError(f"the folder {private.parent} does not exist: make it first", reason="no_folder")
    check_place(private)
    for file in (private, public):
        _refuse_existing(file)
    key = Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_atomically(public, pem, check=lambda: _refuse_existing(public))
    try:
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_atomically(private, secret, mode=0o600, check=lambda: _refuse_existing(private))
    except OneShotError:
        public.unlink(missing_ok=True)
        raise
    return KeyPair(str(private), str(public), key.public_key().public_bytes_raw().hex())


def _refuse_existing(file: Path) -> None:
    if os.path.lexists(file):
        message = f"{file} exists, and a key is never overwritten: name another file"
        raise InputError(message, reason="key_exists")


def load_key(path: str | os.PathLike[str]) -> Ed25519PrivateKey:
    """Load the private key in a file.

    Args:
        path: A PEM file, as `generate_key` and ``openssl genpkey -algorithm ed25519`` write it.

    Raises:
        InputError: The file does not exist; ``bad_key``: it holds a public key, a key of another type, a key with a
            passphrase, or no key.
        MachineError: It cannot be read.
    """
    content = read_file(path, MAX_KEY_BYTES)
    if b"PUBLIC KEY-----" in content:
        raise bad_key(f"{path} is a public key, which cannot sign: name the private one, KEY")
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError as error:
        message = f"{path} is behind a passphrase: give a copy without one, openssl pkey -in {path} -out KEY"
        raise bad_key(message) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise bad_key(f"{path} is no private key in PEM: make one with edge-oneshot keygen --out KEY") from error
    if not isinstance(key, Ed25519PrivateKey):
        kind = type(key).__name__.removesuffix("PrivateKey")
        raise bad_key(f"{path} is a key of the kind {kind}, not Ed25519: make one with edge-oneshot keygen --out KEY")
    return key


def sign(manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """Sign a manifest.

    Args:
        manifest: Content of `manifest.json`.
        key: The signer's private key.

    Returns:
        Content of `manifest.sig`; it is the same for the same manifest and key (RFC 8032).
    """
    signature = key.sign(signed_bytes(manifest)).hex()
    return encode_signature(Signature(key.public_key().public_bytes_raw().hex(), signature))

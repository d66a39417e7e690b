"""The signature of a bundle: Ed25519 (RFC 8032) over its manifest, which binds every other member by digest.

The member `manifest.sig` holds one JSON object with the public key and the signature in lower-case hex. Only this
encoding, without white space and in this order, is accepted::

    {"key":"<64 digits>","signature":"<128 digits>"}

The signed message is `PREFIX` followed by manifest.json, byte for byte. The prefix prevents a signature of something
else from being used as that of a bundle.
"""

import os
from typing import Annotated, Final

import msgspec

from edge_oneshot_device.bundle.fields import Digest
from edge_oneshot_device.errors import InputError, IntegrityError
from edge_oneshot_device.files import read_file

# `cryptography` is imported where it is used, because unsigned bundles and --help do not need it.

SIGNATURE_NAME: Final = "manifest.sig"
PREFIX: Final = b"edge-oneshot bundle v1\n"
MAX_KEY_BYTES: Final = 1 << 20
_MAX_BYTES: Final = 1 << 10
_SHOWN_DIGITS: Final = 16


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `manifest.sig`.

    Attributes:
        key: The raw public key, in hex.
        signature: Signature of the message, in hex.
    """

    key: Digest
    signature: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}$(?!\n)")]


def signed_bytes(manifest: bytes) -> bytes:
    """The signed message for a manifest.json."""
    return PREFIX + manifest


def encode_signature(signature: Signature) -> bytes:
    """The content of `manifest.sig`."""
    return msgspec.json.encode(signature)


def verify(content: bytes, manifest: bytes) -> str:
    """Check the signature of a manifest.

    Args:
        content: Content of `manifest.sig`.
        manifest: Content of `manifest.json`.

    Returns:
        The public key that signed, in hex. The caller decides whether to trust it.

    Raises:
        IntegrityError: ``bad_signature``: it has another encoding, or is no signature of this manifest by its key.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    parsed = _decode(content)
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(parsed.key))
        key.verify(bytes.fromhex(parsed.signature), signed_bytes(manifest))
    except (InvalidSignature, ValueError) as error:
        message = f"{SIGNATURE_NAME} is not a valid signature of the manifest by {short_key(parsed.key)}"
        raise IntegrityError(message, reason="bad_signature") from error
    return parsed.key


def load_public_key(path: str | os.PathLike[str]) -> str:
    """The public key in a file, in hex.

    Args:
        path: A PEM file (SubjectPublicKeyInfo), as `edge-oneshot keygen` and `openssl pkey -pubout` write it.

    Raises:
        InputError: The file cannot be found, or ``bad_key``: a private key, one of another kind, or no key.
        MachineError: The file cannot be read.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = read_file(path, MAX_KEY_BYTES)
    if b"PRIVATE KEY-----" in content:
        raise bad_key(f"{path} is a private key, which only the signer should have: name the public one, KEY.pub")
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise bad_key(f"{path} is no public key in PEM: name the KEY.pub of edge-oneshot keygen") from error
    if not isinstance(key, Ed25519PublicKey):
        kind = type(key).__name__.lstrip("_").removesuffix("PublicKey")
        raise bad_key(f"{path} is a key of the kind {kind}, not Ed25519: name the KEY.pub of edge-oneshot keygen")
    return key.public_bytes_raw().hex()


def short_key(key: str) -> str:
    """The first digits of a key, for messages."""
    return key[:_SHOWN_DIGITS]


def bad_key(text: str) -> InputError:
    """The error for a file without a usable key."""
    return InputError(text, reason="bad_key")


def _decode(content: bytes) -> Signature:
    if len(content) > _MAX_BYTES:
        raise IntegrityError(f"{SIGNATURE_NAME} is too large for a signature", reason="bad_signature")
    try:
        parsed = msgspec.json.decode(content, type=Signature)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{SIGNATURE_NAME}: {error}", reason="bad_signature") from error
    if encode_signature(parsed) != content:  # a repeated key, white space, another order
        raise IntegrityError(f"{SIGNATURE_NAME} is not encoded as a signature", reason="bad_signature")
    return parsed

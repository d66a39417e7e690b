"""Sealing with AES-256-GCM, and keyed tags for names, so that a copied gallery reveals nobody without the key.

Its keys are derived from the gallery's key by HKDF-SHA256 (RFC 5869). Each sealed value begins with a random nonce of
96 bits (NIST SP 800-38D), and the place it belongs to is its associated data, so that it opens in no other place.
"""

import hashlib
import hmac
import os
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16

_encoder = msgspec.msgpack.Encoder()


class SealError(Exception):
    """A value was not sealed for this place, or not with this key."""


class Vault:
    """Seals and opens with one key.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self.key = key
        self._cipher = AESGCM(_derive(key, b"seal"))
        self._names = _derive(key, b"names")
        self.check_value = _derive(key, b"check value")[:16]
        """Tells whether a gallery is sealed with this key; it says nothing about the key itself."""

    def seal(self, plain: bytes, *place: str | int) -> bytes:
        """Seal a value for its place, such as ``("template", person, fingerprint)``."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, _encoder.encode(place))

    def open(self, sealed: bytes, *place: str | int) -> bytes:
        """The value that was sealed for this place.

        Raises:
            SealError: It was sealed for another place or with another key, or it was altered.
        """
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            raise SealError
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _encoder.encode(place))
        except InvalidTag as error:
            raise SealError from error

    def tag(self, name: str) -> bytes:
        """The keyed tag of a name, 32 bytes: finds a person whose name is not in the file."""
        return hmac.digest(self._names, name.encode(), hashlib.sha256)


def _derive(key: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"edge-oneshot gallery 1: " + purpose).derive(key)

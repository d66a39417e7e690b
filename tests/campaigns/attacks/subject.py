"""What is attacked, and how a hostile file is laid out."""

import hashlib
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_oneshot_device.bundle.manifest import MANIFEST_NAME
from edge_oneshot_device.bundle.signature import SIGNATURE_NAME, Signature, encode_signature, signed_bytes

MIB = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A member as both headers of a zip tell of it; None tells the truth."""

    name: bytes
    data: bytes
    method: int = 0
    stored: int | None = None
    size: int | None = None
    checksum: int | None = None
    extra: bytes = b""
    comment: bytes = b""
    local_name: bytes | None = None
    offset: int | None = None


@dataclass(frozen=True)
class Subject:
    """What is attacked.

    Attributes:
        content: A signed bundle.
        files: Name to content of all its members, the manifest and its signature first.
        key: Whose signature it bears.
        stranger: Whose it does not.
        foreign: The signature, by `key`, of another bundle.
    """

    content: bytes
    files: dict[str, bytes]
    key: Ed25519PrivateKey
    stranger: Ed25519PrivateKey
    foreign: bytes

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest as plain data, to be edited."""
        parsed: dict[str, Any] = json.loads(self.files[MANIFEST_NAME])
        return parsed

    @property
    def entries(self) -> list[Entry]:
        """All members as the zip has them, to be edited."""
        return [Entry(name.encode(), data) for name, data in self.files.items()]

    @property
    def members(self) -> dict[str, bytes]:
        """The members that the manifest lists."""
        return {name: data for name, data in self.files.items() if name not in (MANIFEST_NAME, SIGNATURE_NAME)}


Attack = Callable[[Subject, random.Random], bytes]


def subject_of(bundle: bytes, seed: int) -> Subject:
    """Sign a bundle, and make the keys that the attacks need.

    Args:
        bundle: An unsigned or signed one.
        seed: Of both keys.
    """
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if name != SIGNATURE_NAME}
    key, stranger = (
        Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"{who} {seed}".encode()).digest())
        for who in ("maker", "stranger")
    )
    text = files.pop(MANIFEST_NAME)
    files = {MANIFEST_NAME: text, SIGNATURE_NAME: signature(text, key), **files}
    return Subject(laid_out(files), files, key, stranger, signature(text.replace(b'"seed"', b'"sees"'), key))


def signature(manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """Content of `manifest.sig`."""
    return encode_signature(Signature(public(key), key.sign(signed_bytes(manifest)).hex()))


def public(key: Ed25519PrivateKey) -> str:
    """The public key, in hex."""
    return key.public_key().public_bytes_raw().hex()


def laid_out(files: dict[str, bytes]) -> bytes:
    """A zip of members as a bundle has them, whatever they are."""
    return zipped([Entry(name.encode(), data) for name, data in files.items()])


def zipped(
    entries: Sequence[Entry], *, before: bytes = b"", between: bytes = b"", after: bytes = b"", comment: bytes = b""
) -> bytes:
    """A zip of entries that may lie; `before` the first, `between` members and directory, `after` the end."""
    body, directory = bytearray(before), bytearray()
    for one in entries:
        offset = len(body) if one.offset is None else one.offset
        checksum = zlib.crc32(one.data) if one.checksum is None else one.checksum
        stored, size = (len(one.data) if told is None else told & 0xFFFFFFFF for told in (one.stored, one.size))
        common = (20, 0, one.method, 0, 0x21, checksum, stored, size)
        local = one.name if one.local_name is None else one.local_name
        body += struct.pack("<4s5H3I2H", b"PK\3\4", *common, len(local), len(one.extra)) + local + one.extra + one.data
        sizes = (len(one.name), len(one.extra), len(one.comment))
        directory += struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, *common, *sizes, 0, 0, 0, offset)
        directory += one.name + one.extra + one.comment
    body += between
    count = len(entries)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), len(comment))
    return bytes(body + directory) + end + comment + after


def rewritten(subject: Subject, rng: random.Random, manifest: bytes, members: dict[str, bytes] | None = None) -> bytes:
    """A bundle with another manifest, without a signature, with a stranger's, or with the one of the original."""
    bound = {"stranger": signature(manifest, subject.stranger), "kept": subject.files[SIGNATURE_NAME]}
    how = rng.choices(("stripped", "stranger", "kept"), (5, 4, 1))[0]
    signed = {} if how == "stripped" else {SIGNATURE_NAME: bound[how]}
    return laid_out({MANIFEST_NAME: manifest, **signed, **(subject.members if members is None else members)})


def consistent(plain: dict[str, Any], members: dict[str, bytes]) -> bytes:
    """A manifest with the digests, sizes and fingerprints that these members have."""
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in members.items()}
    plain["members"] = [{"path": path, "bytes": len(data), "sha256": digests[path]} for path, data in members.items()]
    # as docs/reference/bundle.md says, so that sections which no type allows have one as well
    embedding, section = (msgspec.json.encode(plain[name]).decode() for name in ("embedding", "input"))
    for variant in plain["variants"]:
        bound = f'{{"embedding":{embedding},"input":{section},"model":"{digests[variant["file"]]}"}}'
        variant["bytes"] = len(members[variant["file"]])
        variant["fingerprint"] = hashlib.sha256(bound.encode()).hexdigest()
    return json.dumps(plain).encode()

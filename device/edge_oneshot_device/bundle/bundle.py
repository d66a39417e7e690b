"""Reading a bundle: every byte is checked against the manifest before anything is used.

A bundle is a zip of the plainest kind: uncompressed members, one after another from the first byte, then the central
directory and its end record, and nothing else. A bundle with any other byte is refused, so no two zip readers can see
different files in it. manifest.json comes first, then manifest.sig if the bundle is signed; the signature is checked
before the manifest is parsed.
"""

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator, Mapping

import msgspec

from edge_oneshot_device.bundle.codec import decode_manifest
from edge_oneshot_device.bundle.fields import MAX_BUNDLE_BYTES
from edge_oneshot_device.bundle.manifest import MANIFEST_NAME, Manifest
from edge_oneshot_device.bundle.signature import SIGNATURE_NAME, short_key, verify
from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_device.files import read_file
from edge_oneshot_device.text import one_line

MAX_MANIFEST_BYTES = 4 << 20

# PKWARE APPNOTE 6.3.10: 4.3.7 local file header, 4.3.12 central directory, 4.3.16 end record.
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")

_MAX_MESSAGE = 300
_ADVICE = {
    "unsigned": "get one that is signed by the trusted key",
    "untrusted_key": "get one that is signed by the trusted key, or name another with init --trust KEY.pub",
}


class Bundle(msgspec.Struct, frozen=True):
    """A bundle whose members all match its manifest.

    Attributes:
        manifest: The parsed manifest.
        content: The bundle file, byte for byte.
        sha256: SHA-256 of `content`, in hex.
        members: Content of every member other than the manifest and its signature, by path; each access copies it.
        signed_by: The Ed25519 public key that signed the bundle, in hex; None when it is unsigned. Whether this key is
            trusted is checked by `open` with `trust`.
    """

    manifest: Manifest
    content: bytes
    sha256: str
    members: Mapping[str, bytes]
    signed_by: str | None

    @classmethod
    def open(
        cls, source: str | os.PathLike[str] | bytes, *, trust: str | None = None, pinned: str | None = None
    ) -> "Bundle":
        """Read a bundle into memory once and check all of it.

        A signature is verified even when no key is trusted.

        Args:
            source: Path, or the file's content.
            trust: The public key, in hex, that must have signed the bundle; None opens any bundle.
            pinned: SHA-256, in hex, of a bundle that was checked before; when it is equal, the members are not checked
                again, unless `trust` is given.

        Raises:
            InputError: ``not_found`` or ``not_a_file``: there is no file at this path.
            IntegrityError: ``not_a_bundle`` (not laid out as a bundle), ``bad_signature``,
                ``unsigned`` or ``untrusted_key`` (with `trust`), ``bad_manifest``,
                ``member_mismatch`` (the members differ from those of the manifest) or ``bundle_altered``
                (the digest differs from `pinned`).
            MachineError: The file cannot be read.
        """
        content = source if isinstance(source, bytes) else read_file(source, MAX_BUNDLE_BYTES)
        name = "the bundle" if isinstance(source, bytes) else str(source)
        sha256 = hashlib.sha256(content).hexdigest()
        if pinned is not None and sha256 != pinned:
            message = f"{name} was altered since it was installed: run init again with an intact copy"
            raise IntegrityError(message, reason="bundle_altered")
        try:
            spans = _unzip(content, check=pinned is None)
            text, signature = _take_manifest(content, spans)
            signed_by = None if signature is None else verify(signature, text)
            _require_trusted(signed_by, trust)
            manifest = decode_manifest(text)
            if pinned is None or trust is not None:  # a pin can be rewritten, a signature cannot
                _check_members(manifest, content, spans)
        except IntegrityError as error:
            advice = _ADVICE.get(error.reason, "get an intact copy, or export it again")
            raise IntegrityError(f"{name} is refused: {_brief(error)}; {advice}", reason=error.reason) from error
        return cls(manifest, content, sha256, _Members(content, spans), signed_by)

    def read(self, path: str) -> bytes:
        """Content of a member.

        Args:
            path: The member's path in the manifest.

        Raises:
            KeyError: The manifest lists no such member.
        """
        return self.members[path]


class _Members(Mapping[str, bytes]):
    """Slices of the bundle's content by name, copied on access: few members are needed at once."""

    def __init__(self, content: bytes, spans: Mapping[str, slice]) -> None:
        self._content = content
        self._spans = spans

    def __getitem__(self, path: str) -> bytes:
        return self._content[self._spans[path]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)


def _take_manifest(content: bytes, spans: dict[str, slice]) -> tuple[bytes, bytes | None]:
    """Remove the manifest and its signature from the spans, and return their contents."""
    places = {name: place for place, name in enumerate(spans)}
    if MANIFEST_NAME not in places:
        raise _not_a_bundle(f"it has no {MANIFEST_NAME}")
    for place, name in enumerate((MANIFEST_NAME, SIGNATURE_NAME)):
        if places.get(name, place) != place:
            raise _not_a_bundle(f"{name} is not its member number {place + 1}")
    signature = spans.pop(SIGNATURE_NAME, None)
    return content[spans.pop(MANIFEST_NAME)], None if signature is None else content[signature]


def _require_trusted(signed_by: str | None, trust: str | None) -> None:
    if trust is None:
        return
    if signed_by is None:
        raise IntegrityError(
            f"it is unsigned, but only bundles signed by {short_key(trust)} are trusted", reason="unsigned"
        )
    if signed_by != trust:
        message = f"it is signed by {short_key(signed_by)}, but only bundles signed by {short_key(trust)} are trusted"
        raise IntegrityError(message, reason="untrusted_key")


def _check_members(manifest: Manifest, content: bytes, spans: dict[str, slice]) -> None:
    listed = {member.path: member for member in manifest.members}
    if SIGNATURE_NAME in listed:
        raise IntegrityError(f"{MANIFEST_NAME}: lists {SIGNATURE_NAME}, which signs it", reason="bad_manifest")
    for path in listed.keys() - spans.keys():
        raise IntegrityError(f"the member {path} is missing", reason="member_mismatch")
    for path in spans.keys() - listed.keys():
        raise IntegrityError(f"it holds {path!r}, which its manifest does not list", reason="member_mismatch")
    view = memoryview(content)
    for path, member in listed.items():
        own = view[spans[path]]
        if len(own) != member.bytes or hashlib.sha256(own).hexdigest() != member.sha256:
            raise IntegrityError(f"the member {path} is not the one its manifest lists", reason="member_mismatch")


def _unzip(content: bytes, *, check: bool) -> dict[str, slice]:
    """The span of every member by name; `check` says whether their CRC-32 are compared."""
    if len(content) > MAX_BUNDLE_BYTES:
        raise IntegrityError(f"it is larger than {MAX_BUNDLE_BYTES >> 20} MiB", reason="not_a_bundle")
    try:
        return _walk(content, check)
    except (struct.error, UnicodeDecodeError) as error:  # a header beyond the end; a name that is not ASCII
        raise _not_a_bundle("it is cut short or no bundle at all") from error


def _walk(content: bytes, check: bool) -> dict[str, slice]:
    end = len(content) - _END.size
    magic, *disks, count, total, directory_size, directory, comment = _END.unpack(content[max(end, 0) :])
    if magic != b"PK\5\6" or comment:
        raise _not_a_bundle("it does not end like a bundle")
    if any(disks) or count != total or directory + directory_size != end:
        raise _not_a_bundle("its end record is inconsistent")
    spans: dict[str, slice] = {}
    view = memoryview(content)
    position, entry = 0, directory
    for _ in range(count):
        name, size, checksum, entry = _read_entry(content, entry, position)
        position += _LOCAL.size + len(name) + size
        if position > directory:
            raise _not_a_bundle(f"{name} reaches into its directory")
        if name == MANIFEST_NAME and size > MAX_MANIFEST_BYTES:
            message = f"{MANIFEST_NAME} is larger than {MAX_MANIFEST_BYTES >> 20} MiB"
            raise IntegrityError(message, reason="bad_manifest")
        span = slice(position - size, position)
        if check and zlib.crc32(view[span]) != checksum:
            raise _not_a_bundle(f"the content of {name} is damaged")
        if name in spans:
            raise _not_a_bundle(f"it holds {name} twice")
        spans[name] = span
    if position != directory or entry != end:
        raise _not_a_bundle("it holds bytes that belong to no member")
    return spans


def _read_entry(content: bytes, entry: int, position: int) -> tuple[str, int, int, int]:
    """Name, size, CRC-32 and the offset of the next entry; the local header must be at `position` and agree."""
    magic, _, *common, name_size, extra, comment, disk, _, _, offset = _CENTRAL.unpack_from(content, entry)
    _, flags, method, _, _, checksum, stored, size = common
    following = entry + _CENTRAL.size + name_size
    name_bytes = content[entry + _CENTRAL.size : following]
    name = name_bytes.decode("ascii")
    if magic != b"PK\1\2" or offset != position or extra or comment or disk:
        raise _not_a_bundle("its directory is not that of a bundle")
    if flags or method or stored != size:
        raise _not_a_bundle(f"{name!r} is compressed or encrypted")
    local_magic, *local, local_name_size, local_extra = _LOCAL.unpack_from(content, position)
    start = position + _LOCAL.size
    if local_magic != b"PK\3\4" or local != common or local_extra:
        raise _not_a_bundle(f"the two headers of {name!r} differ")
    if local_name_size != name_size or content[start : start + name_size] != name_bytes:
        raise _not_a_bundle(f"the two names of {name!r} differ")
    return name, size, checksum, following


def _brief(error: IntegrityError) -> str:
    """The error's message on one line of limited length: it may quote a name or a key of megabytes."""
    line = one_line(str(error)[: _MAX_MESSAGE + 1])
    return line if len(line) <= _MAX_MESSAGE else f"{line[:_MAX_MESSAGE]}..."


def _not_a_bundle(message: str) -> IntegrityError:
    return IntegrityError(message, reason="not_a_bundle")

"""Write a bundle file: one zip, which is opened as the device opens it before it replaces anything."""

import hashlib
import io
import os
import zipfile
from collections.abc import Mapping

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.codec import encode_manifest
from edge_oneshot_device.bundle.manifest import MANIFEST_NAME, Manifest, Member
from edge_oneshot_device.bundle.signature import SIGNATURE_NAME
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.outputs import check_output
from edge_oneshot_export.packing.signing import sign

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date of the zip format; a bundle's date is in its manifest


def write_bundle(
    path: str | os.PathLike[str],
    manifest: Manifest,
    files: Mapping[str, bytes],
    *,
    key: Ed25519PrivateKey | None = None,
) -> Bundle:
    """Write a bundle atomically: a file that was at `path` stays until the new one is complete.

    The new bundle is first opened as the device opens it, which includes the self-test of every variant.

    Args:
        path: ``NAME.oneshot``.
        manifest: The manifest; its `members` are computed here.
        files: Path to content of every member.
        key: Private key that signs the bundle; None leaves it unsigned.

    Returns:
        The bundle as the device reads it.

    Raises:
        InputError: Nothing may be written at `path`, see `edge_oneshot_device.outputs.check_output`.
        IntegrityError: The manifest contradicts itself or the files; nothing was written.
        MachineError: It cannot be written; nothing was changed.
    """
    bundle = Bundle.open(_zipped(manifest, files, key))
    for variant in bundle.manifest.variants:
        Encoder.open(bundle, variant.name)
    write_atomically(path, bundle.content, check=lambda: check_output(path))
    return bundle


def _zipped(manifest: Manifest, files: Mapping[str, bytes], key: Ed25519PrivateKey | None) -> bytes:
    """A zip without compression or times, so that the same content gives the same bytes; the manifest comes first."""
    members = tuple(
        Member(path=path, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for path, content in sorted(files.items())
    )
    text = encode_manifest(msgspec.structs.replace(manifest, members=members))
    first = [(MANIFEST_NAME, text)]
    if key is not None:
        first.append((SIGNATURE_NAME, sign(text, key)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, content in (*first, *sorted(files.items())):
            entry = zipfile.ZipInfo(path, _ZIP_DATE)
            entry.create_system = 3  # Unix, wherever it is written
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()

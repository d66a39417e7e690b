"""Writing a bundle: golden images, provenance, and one zip file that is checked before it exists."""

import hashlib
import importlib.metadata
import io
import os
import platform
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.codec import encode_manifest
from edge_oneshot_device.bundle.manifest import MANIFEST_NAME, InputSection, Manifest, Member, Provenance, SelfTest
from edge_oneshot_device.bundle.signature import SIGNATURE_NAME
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.preprocessing import has_content, load_image
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.outputs import check_output
from edge_oneshot_device.text import spelt_out
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.signing import sign

GOLDEN_IMAGES: Final = 3
TOLERANCE_LSB: Final = (2, 16)
"""Least and most. What the kernels with and without XNNPACK differ by grows with the depth of the net:
measured 1 to 2 steps of the int8 output for four layers, 5 for seven. So it is measured for each model."""

FLOAT_TOLERANCE: Final = 1e-4
"""Of the largest golden output. LiteRT, ONNX Runtime and Keras differ by 1e-6 of it (measured)."""

FLOAT16_TOLERANCE: Final = 5e-3
"""Likewise where a runtime may compute in 11 bits, as some processors and accelerators do."""

INT8_TOLERANCE: Final = 0.03
"""Likewise for a float output that was int8 inside: ONNX Runtime's fused and plain kernels differ by
one of the 256 steps of the output's range (measured); this is two to four of them."""

_PACKAGES = ("edge-oneshot", "tensorflow", "keras", "numpy", "ai-edge-litert", "onnxruntime", "tf2onnx")
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say; a bundle's date stands in its manifest


def write_bundle(
    path: str | os.PathLike[str],
    manifest: Manifest,
    files: Mapping[str, bytes],
    *,
    key: Ed25519PrivateKey | None = None,
) -> Bundle:
    """Write a bundle in one step: whatever was at `path` stays until the new one is whole.

    Before it is written it is opened as the device opens it, self-test of every variant included.

    Args:
        path: ``NAME.oneshot``.
        manifest: Everything but `members`, which is computed here.
        files: Path to content of every member.
        key: Signs it, see `edge_oneshot_export.signing.load_key`; None leaves it unsigned.

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


def golden_images(images: NDArray[np.uint8], section: InputSection) -> dict[str, bytes]:
    """Up to three of the images as PNG members, enlarged so that the device has to resize them; not those of faces.

    Args:
        images: uint8 (n, h, w, c), preprocessed.
        section: Images below its `min_contrast` are not chosen.

    Raises:
        ModelError: None of the images shows anything.
    """
    full = np.flatnonzero(has_content(images, section))
    if not len(full):
        message = f"no calibration image has a contrast of {section.min_contrast}: give images that show something"
        raise ModelError(message, reason="no_content")
    chosen = full[np.unique(np.linspace(0, len(full) - 1, GOLDEN_IMAGES).astype(int))]
    enlarged = 1 if section.face else 2
    return {f"golden/{number}.png": _png(images[index], enlarged) for number, index in enumerate(chosen)}


def self_test(goldens: Mapping[str, bytes], encoders: Iterable[tuple[Encoder, Encoder | None]]) -> SelfTest:
    """What each variant answers to the golden images, run as the device runs it.

    Args:
        goldens: Path to content of the golden images.
        encoders: Every variant; beside it the same file on other kernels that a device may
            have, if there are any: the tolerance is one step more than they differ by.
    """
    outputs, tolerance = {}, {}
    for encoder, other in encoders:
        raw = _raw(encoder, goldens)
        # the shortest decimal of a float32 is exact; that of the same number as a float64 is twice as long
        outputs[encoder.variant] = tuple(tuple(float(str(value)) for value in vector) for vector in raw)
        if raw.dtype != np.float32:
            apart = 0 if other is None else int(np.abs(raw.astype(int) - _raw(other, goldens).astype(int)).max())
            tolerance[encoder.variant] = float(np.clip(1 + apart, *TOLERANCE_LSB))
        else:
            relative = _tolerance(encoder.variant) * float(np.abs(raw).max())
            tolerance[encoder.variant] = float(f"{relative:.3g}")
    return SelfTest(images=tuple(goldens), outputs=outputs, tolerance=tolerance)


def _tolerance(variant: str) -> float:
    if variant in ("float32", "onnx-float32"):
        return FLOAT_TOLERANCE
    return FLOAT16_TOLERANCE if variant.endswith("float16") else INT8_TOLERANCE


def with_versions(provenance: Provenance | None) -> Provenance:
    """Fill in the versions of what converts, and the commit when this is a checkout; text becomes UTF-8."""
    if provenance is None:
        provenance = Provenance(
            data="data not stated",
            seed=None,
            images_seen=0,
            trained_on=(),
            held_out=(),
            versions={},
            commit=None,
            licences=(),
        )
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # tensorflow has other names, such as tensorflow-cpu
            continue
    provenance = msgspec.convert(spelt_out(msgspec.to_builtins(provenance)), Provenance)
    return msgspec.structs.replace(
        provenance, versions=versions | provenance.versions, commit=provenance.commit or _commit()
    )


def created() -> str:
    """The time for `Manifest.created`: now, or SOURCE_DATE_EPOCH where builds are to repeat.

    Raises:
        ModelError: SOURCE_DATE_EPOCH is no count of seconds.
    """
    stated = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        moment = time.gmtime(None if stated is None else int(stated))
        if not 1970 <= moment.tm_year <= 9999:
            raise ValueError
    except (ValueError, OverflowError, OSError) as error:
        message = f"SOURCE_DATE_EPOCH is {stated!r}, expected a count of seconds since 1970: set it right or unset it"
        raise ModelError(message, reason="bad_epoch") from error
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)


def _zipped(manifest: Manifest, files: Mapping[str, bytes], key: Ed25519PrivateKey | None) -> bytes:
    """The same bytes for the same content: nothing compressed, no times, the manifest and its signature first."""
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


def _raw(encoder: Encoder, goldens: Mapping[str, bytes]) -> NDArray[Any]:
    return np.stack([encoder.raw(load_image(content, encoder.input)) for content in goldens.values()])


def _png(pixels: NDArray[np.uint8], enlarged: int) -> bytes:
    pixels = pixels.repeat(enlarged, axis=0).repeat(enlarged, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _commit() -> str | None:
    """The commit of the checkout that this file lies in, marked when it was changed since."""
    root = Path(__file__).resolve().parents[2]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    command = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 (fixed)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None

"""Where a bundle comes from: its provenance and its date."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path

import msgspec

from edge_oneshot_device.bundle.manifest import Provenance
from edge_oneshot_device.text import spelt_out
from edge_oneshot_export.errors import ModelError

_PACKAGES = ("edge-oneshot", "tensorflow", "keras", "numpy", "ai-edge-litert", "onnxruntime", "tf2onnx")


def with_versions(provenance: Provenance | None) -> Provenance:
    """Fill in the versions of the converters, and the commit where this is a checkout; text becomes valid UTF-8.

    Args:
        provenance: What the caller states; None for nothing.
    """
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
    """The time for `Manifest.created`: SOURCE_DATE_EPOCH if that is set, for reproducible builds, or else now.

    Raises:
        ModelError: SOURCE_DATE_EPOCH is not a number of seconds.
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


def _commit() -> str | None:
    """The commit of the checkout that holds this file, with -dirty where files were changed since."""
    root = Path(__file__).resolve().parents[3]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    command = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 (fixed)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None

"""From measured variants to a bundle file: what every way into a bundle shares."""

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import FORMAT, InputSection, Manifest, Provenance
from edge_oneshot_device.outputs import check_output
from edge_oneshot_export.edgetpu.compiler import compile_for_edgetpu
from edge_oneshot_export.edgetpu.preflight import preflight
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.judging.calibration import better_rule
from edge_oneshot_export.packing import created, golden_images, self_test, with_versions, write_bundle
from edge_oneshot_export.variants import Measured, Subject

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SUFFIX: Final = ".oneshot"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A variant that is not in the bundle, and why."""

    variant: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        path: The bundle.
        manifest: What it says.
        left_out: Variants that failed their conversion or their gate.
        seconds: How long it took.
    """

    path: Path
    manifest: Manifest
    left_out: tuple[LeftOut, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Packer:
    """What is known of a bundle before its variants are; made first, so that its faults show first."""

    target: Path
    name: str
    created: str
    provenance: Provenance
    goldens: Mapping[str, bytes]
    files: Mapping[str, bytes]
    key: "Ed25519PrivateKey | None"
    say: Callable[[str], None]
    started: float

    @classmethod
    def begin(
        cls,
        path: str | os.PathLike[str],
        name: str | None,
        provenance: Provenance | None,
        golden: NDArray[np.uint8],
        section: InputSection,
        key: "Ed25519PrivateKey | None",
        progress: Callable[[str], None] | None,
        files: Mapping[str, bytes] | None = None,
    ) -> "Packer":
        """Arguments as `edge_oneshot_export.export` takes them; of the golden images three at most are used.

        Raises:
            ModelError: The name holds no letter, or no image shows anything.
        """
        target = Path(path)
        return cls(
            target=target,
            name=_slug(target.stem if name is None else name),
            created=created(),
            provenance=with_versions(provenance),
            goldens=golden_images(golden, section),
            files=files or {},
            key=key,
            say=progress or (lambda _step: None),
            started=time.monotonic(),
        )

    def pack(self, subject: Subject, measured: Sequence[Measured], left_out: Sequence[LeftOut]) -> ExportReport:
        """Write the bundle of these variants, at least one.

        Raises:
            MachineError: It cannot be written; nothing was changed.
        """
        self.say("packing")
        calibrations = tuple(calibrated for entry in measured for calibrated in entry.calibrations)
        manifest = Manifest(
            format=FORMAT,
            name=self.name,
            created=self.created,
            members=(),  # packing counts them
            input=subject.input,
            embedding=subject.embedding,
            variants=tuple(entry.variant for entry in measured),
            rule=better_rule(calibrations),
            calibration=calibrations,
            self_test=self_test(self.goldens, [(entry.encoder, entry.plain) for entry in measured]),
            provenance=self.provenance,
        )
        files = {**self.files, **self.goldens, **{entry.variant.file: entry.content for entry in measured}}
        manifest, files = self._compiled(manifest, files)
        bundle = write_bundle(self.target, manifest, files, key=self.key)
        return ExportReport(self.target, bundle.manifest, tuple(left_out), time.monotonic() - self.started)

    def _compiled(self, manifest: Manifest, files: dict[str, bytes]) -> tuple[Manifest, dict[str, bytes]]:
        """The Edge TPU's file beside its plain twin, ``coral`` or else ``int8``, where the compiler is installed."""
        named = {variant.name: variant for variant in manifest.variants if variant.format == "tflite"}
        plain = named.get("coral") or named.get("int8")
        if plain is None or not preflight(files[plain.file]).mapped:
            return manifest, files
        self.say(f"{plain.name}: compiling for the Edge TPU, where its compiler is installed")
        compilation = compile_for_edgetpu(files[plain.file])
        if compilation is None:
            return manifest, files
        path = f"models/{plain.name}_edgetpu.tflite"
        variants = tuple(
            msgspec.structs.replace(variant, compiled=path) if variant is plain else variant
            for variant in manifest.variants
        )
        return msgspec.structs.replace(manifest, variants=variants), {**files, path: compilation.content}


def check_target(target: Path) -> None:
    """Refuse a path that no bundle can be written to, before the work for it begins.

    Raises:
        ModelError: It does not end in .oneshot, its folder is missing, or it is a folder.
        InputError: See `edge_oneshot_device.outputs.check_output`.
    """
    if target.suffix != SUFFIX:
        raise ModelError(f"{target} does not end in {SUFFIX}: name the bundle so", reason="bad_name")
    if not target.parent.is_dir():
        raise ModelError(f"the folder {target.parent} does not exist: make it first", reason="no_folder")
    if target.is_dir():
        raise ModelError(f"{target} is a folder: name a file", reason="bad_name")
    check_output(target)


def check_images(images: NDArray[np.uint8], what: str, section: InputSection, at_least: int) -> None:
    """Refuse images that are not what `section` makes, uint8 (n, h, w, c), or are too few.

    Raises:
        ModelError: Reason ``bad_images``.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != section.shape:
        message = f"{what} are {images.dtype} {images.shape}, expected uint8 {('n', *section.shape)}: use load_image"
        raise ModelError(message, reason="bad_images")
    if len(images) < at_least:
        raise ModelError(f"{what}: {len(images)} given, at least {at_least} needed", reason="bad_images")


def _slug(name: str) -> str:
    """A name that the manifest allows."""
    slug = re.sub(r"[^a-z0-9_.-]+", "-", name.lower())
    slug = re.sub(r"^[^a-z0-9]+|[-.]+$", "", slug)[:64]
    if not slug:
        raise ModelError(f"{name!r} holds no letter or digit to name the bundle by: give it a name", reason="bad_name")
    return slug

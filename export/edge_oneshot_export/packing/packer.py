"""Pack measured variants into a bundle."""

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import FORMAT, Calibration, InputSection, Manifest, Metric, Provenance
from edge_oneshot_device.outputs import check_output
from edge_oneshot_export.edgetpu.compiler import compile_for_edgetpu
from edge_oneshot_export.edgetpu.preflight import preflight
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.judging.calibration import better_rule
from edge_oneshot_export.measurement import MeasuredVariant, MeasurementSetup
from edge_oneshot_export.packing.bundle_file import write_bundle
from edge_oneshot_export.packing.provenance import created, with_versions
from edge_oneshot_export.packing.self_test import golden_images, self_test
from edge_oneshot_export.packing.signing import load_key
from edge_oneshot_export.variants import VARIANTS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SUFFIX: Final = ".oneshot"


@dataclass(frozen=True, slots=True, eq=False)
class BundleSpec:
    """What a bundle says of its encoder besides the measured figures.

    Attributes:
        input: How the device makes the model's input from an image.
        metric: How embeddings are compared.
        name: The bundle's name; None derives it from the file name.
        provenance: Where the encoder comes from; versions and commit are filled in.
        golden: Images of the self-test, preprocessed uint8 (n, h, w, c), of which three at most are used; None takes
            some of the calibration images.
        files: Further members of the bundle, such as the nets that `input` names: path to content.
        thresholds: For each variant calibrations that were made elsewhere. The calibration images then serve to
            measure drift alone, and a target FAR has no effect.
    """

    input: InputSection
    metric: Metric = "cosine"
    name: str | None = None
    provenance: Provenance | None = None
    golden: NDArray[np.uint8] | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    thresholds: Mapping[str, tuple[Calibration, ...]] | None = None


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
        manifest: The bundle's manifest.
        left_out: Variants that failed their conversion or a gate.
        seconds: Duration of the export.
    """

    path: Path
    manifest: Manifest
    left_out: tuple[LeftOut, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Packer:
    """The parts of a bundle that are known before its variants; made first, so that faults in them show first."""

    target: Path
    name: str
    created: str
    provenance: Provenance
    members: Mapping[str, bytes]
    goldens: Mapping[str, bytes]
    key: "Ed25519PrivateKey | None"
    say: Callable[[str], None]
    started: float

    @classmethod
    def begin(
        cls,
        path: str | os.PathLike[str],
        spec: BundleSpec,
        images: NDArray[np.uint8],
        *,
        sign: Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> "Packer":
        """Check and prepare everything but the variants.

        Args:
            path: The bundle to write, ``NAME.oneshot``.
            spec: What it says of its encoder.
            images: The calibration images, uint8 (n, h, w, c), for the self-test where `spec` has no golden images.
            sign: File of the private key that signs the bundle; None leaves it unsigned.
            progress: Called with the name of each step as it begins.

        Returns:
            The packer.

        Raises:
            InputError: The key cannot be used.
            ModelError: The name holds no letter, or no image has any content.
        """
        target = Path(path)
        return cls(
            target=target,
            name=_slug(target.stem if spec.name is None else spec.name),
            created=created(),
            provenance=with_versions(spec.provenance),
            members=spec.files,
            goldens=golden_images(images if spec.golden is None else spec.golden, spec.input),
            key=None if sign is None else load_key(sign),
            say=progress or (lambda _step: None),
            started=time.monotonic(),
        )

    def pack(
        self, setup: MeasurementSetup, measured: Sequence[MeasuredVariant], left_out: Sequence[LeftOut] = ()
    ) -> ExportReport:
        """Write the bundle.

        Args:
            setup: What the variants were measured with.
            measured: The variants, at least one.
            left_out: The variants that failed, for the report.

        Returns:
            What was written.

        Raises:
            MachineError: The bundle cannot be written; nothing was changed.
        """
        self.say("packing")
        calibrations = tuple(calibrated for entry in measured for calibrated in entry.calibrations)
        manifest = Manifest(
            format=FORMAT,
            name=self.name,
            created=self.created,
            members=(),  # write_bundle fills them in
            input=setup.input,
            embedding=setup.embedding,
            variants=tuple(entry.variant for entry in measured),
            rule=better_rule(calibrations),
            calibration=calibrations,
            self_test=self_test(self.goldens, [(entry.encoder, entry.plain) for entry in measured]),
            provenance=self.provenance,
        )
        files = {**self.members, **self.goldens, **{entry.variant.file: entry.content for entry in measured}}
        manifest, files = self._compiled(manifest, files)
        bundle = write_bundle(self.target, manifest, files, key=self.key)
        return ExportReport(self.target, bundle.manifest, tuple(left_out), time.monotonic() - self.started)

    def _compiled(self, manifest: Manifest, files: dict[str, bytes]) -> tuple[Manifest, dict[str, bytes]]:
        """Add the file compiled for the Edge TPU beside its plain twin, where the compiler is installed."""
        uses = {variant.name: VARIANTS[variant.name].edgetpu for variant in manifest.variants}
        candidates = [variant for variant in manifest.variants if uses[variant.name] != "unused"]
        plain = min(candidates, key=lambda variant: uses[variant.name] != "mapped", default=None)
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
    """Refuse images that preprocessing for `section` does not make, or that are too few.

    Args:
        images: Should be uint8 (n, h, w, c).
        what: Name of the argument, for the message.
        section: The encoder's input.
        at_least: The smallest n.

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
        message = f"{name!r} holds no letter or digit to name the bundle by: give it a name"
        raise ModelError(message, reason="bad_name")
    return slug

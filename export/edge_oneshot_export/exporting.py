"""From a Keras encoder to a bundle: convert, measure against Keras, calibrate, pack."""

import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_device.manifest import (
    FORMAT,
    Calibration,
    EmbeddingSection,
    Format,
    InputSection,
    Manifest,
    Metric,
    Provenance,
    Variant,
    fingerprint,
)
from edge_oneshot_device.preprocessing import scale
from edge_oneshot_device.runtimes import RUNTIMES, open_model
from edge_oneshot_export import onnx, tflite
from edge_oneshot_export.calibration import calibrate
from edge_oneshot_export.conversion import check_model, reference_embeddings
from edge_oneshot_export.drift import check_alive, gate, measure_drift
from edge_oneshot_export.errors import ExportError, ModelError
from edge_oneshot_export.packing import created, golden_images, self_test, with_versions, write_bundle
from edge_oneshot_export.protocols import LabelledImages

if TYPE_CHECKING:
    import keras

VARIANTS: Final = ("float32", "int8", "onnx-float32", "onnx-int8")
SUFFIX: Final = ".oneshot"
MAX_REPRESENTATIVE: Final = 500
MAX_DRIFT_IMAGES: Final = 1000


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
class _Subject:
    """What is exported, and what its variants are measured against."""

    model: "keras.Model"
    input: InputSection
    embedding: EmbeddingSection
    representative: NDArray[np.float32]
    held_out: NDArray[np.uint8]
    reference: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Exported:
    """A variant that passed its gate; `plain` runs it on the kernels that tflite-runtime has."""

    variant: Variant
    content: bytes
    encoder: Encoder
    plain: Encoder | None
    calibrations: tuple[Calibration, ...]


def export(
    model: "keras.Model",
    path: str | os.PathLike[str],
    *,
    images: NDArray[np.uint8],
    calibration: LabelledImages,
    input: InputSection,  # noqa: A002 (the manifest's word)
    metric: Metric = "cosine",
    variants: Sequence[str] = ("int8", "float32"),
    name: str | None = None,
    provenance: Provenance | None = None,
    asked: bool = False,
    progress: Callable[[str], None] | None = None,
) -> ExportReport:
    """Export a Keras model that maps an image to a vector as a bundle.

    Each variant is converted, compared with the Keras model on the calibration images, and
    calibrated, both through the device's own encoder on the exported bytes. A variant that
    drifts beyond its bound (see `edge_oneshot_export.drift`) is left out and named.

    Args:
        model: Takes float32 (batch, h, w, c) scaled as `input` says; returns float32
            (batch, size), for cosine without the L2 normalisation, which the device does.
        path: ``NAME.oneshot``; an existing file is replaced once the new one is whole.
        images: uint8 (n, h, w, c), preprocessed; they set the ranges of the int8 variants. A
            few hundred, spread over the training data; 500 at most are used.
        calibration: Preprocessed images of identities that the model was not trained on.
        input: How the device makes the model's input from an image.
        metric: How embeddings are compared.
        variants: Of `VARIANTS`.
        name: The bundle's name; otherwise made from the file's.
        provenance: Where the model comes from; versions and commit are filled in.
        asked: The user named these variants, so one that fails is an error.
        progress: Called with the name of each step as it begins.

    Raises:
        ModelError: The model, its images or an argument cannot be exported (exit code 2).
        ExportError: A variant that was asked for, or every variant, failed (exit code 1).
        MachineError: The file cannot be written. In every case nothing was written.
    """
    started = time.monotonic()
    say = progress or (lambda _step: None)
    target = Path(path)
    check_arguments(target, variants)
    _check_images(images, "images", input, at_least=1)
    _check_images(calibration.images, "calibration.images", input, at_least=2)
    name = _slug(target.stem if name is None else name)
    stamp, origin = created(), with_versions(provenance)
    goldens = golden_images(calibration.images, input)

    say("checking the model")
    embedding = EmbeddingSection(size=check_model(model, input), metric=metric)
    held_out = spread(calibration.images, MAX_DRIFT_IMAGES)
    reference = reference_embeddings(model, held_out, input)
    check_alive(reference, metric)
    representative = scale(spread(images, MAX_REPRESENTATIVE), input)
    subject = _Subject(model, input, embedding, representative, held_out, reference)

    exported: list[_Exported] = []
    left_out: list[LeftOut] = []
    data = f"{len(calibration.names)} held-out identities of {origin.data}"
    for variant in variants:
        try:
            exported.append(_export_variant(variant, subject, calibration, data, say))
        except ModelError:
            raise
        except (ExportError, IntegrityError) as error:  # IntegrityError: the runtime refuses the converter's file
            if asked:
                raise ExportError(f"{error}; nothing was written", reason=error.reason) from error
            left_out.append(LeftOut(variant, str(error)))
    if not exported:
        reasons = "; ".join(entry.reason for entry in left_out)
        raise ExportError(f"no variant can be exported, so nothing was written: {reasons}", reason="no_variant")

    say("packing")
    manifest = Manifest(
        format=FORMAT,
        name=name,
        created=stamp,
        members=(),  # packing counts them
        input=input,
        embedding=embedding,
        variants=tuple(entry.variant for entry in exported),
        calibration=tuple(calibrated for entry in exported for calibrated in entry.calibrations),
        self_test=self_test(goldens, [(entry.encoder, entry.plain) for entry in exported]),
        provenance=origin,
    )
    bundle = write_bundle(target, manifest, goldens | {entry.variant.file: entry.content for entry in exported})
    return ExportReport(target, bundle.manifest, tuple(left_out), time.monotonic() - started)


def check_arguments(target: Path, variants: Sequence[str]) -> None:
    """Refuse a path or variants that `export` would refuse, before the work for it begins.

    Raises:
        ModelError: The path does not end in .oneshot or its folder is missing, or a variant is unknown.
    """
    if target.suffix != SUFFIX:
        raise ModelError(f"{target} does not end in {SUFFIX}: name the bundle so", reason="bad_name")
    if not target.parent.is_dir():
        raise ModelError(f"the folder {target.parent} does not exist: make it first", reason="no_folder")
    if target.is_dir():
        raise ModelError(f"{target} is a folder: name a file", reason="bad_name")
    known = ", ".join(VARIANTS)
    if not variants:
        raise ModelError(f"no variant is named; the variants are {known}", reason="bad_variant")
    for position, variant in enumerate(variants):
        if variant not in VARIANTS:
            raise ModelError(f"there is no variant {variant!r}; the variants are {known}", reason="bad_variant")
        if variant in variants[:position]:
            raise ModelError(f"the variant {variant} is named twice", reason="bad_variant")


def spread(images: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """At most so many of the images, evenly chosen over their whole length."""
    if len(images) <= most:
        return images
    return np.asarray(images[np.linspace(0, len(images) - 1, most).astype(int)])


def _export_variant(
    name: str, subject: _Subject, people: LabelledImages, data: str, say: Callable[[str], None]
) -> _Exported:
    say(f"{name}: converting")
    content, ops = _convert(name, subject)
    kind: Format = "onnx" if name.startswith("onnx") else "tflite"
    model = open_model(kind, content)
    digest = fingerprint(hashlib.sha256(content).hexdigest(), subject.input, subject.embedding)
    encoder = Encoder(model, subject.input, subject.embedding, variant=name, fingerprint=digest)
    plain = None
    if model.output.dtype == "int8":
        twin = tflite.PlainModel(content, model)
        plain = Encoder(twin, subject.input, subject.embedding, variant=name, fingerprint=digest)
    say(f"{name}: measuring drift")
    drift = measure_drift(encoder, subject.reference, subject.held_out)
    fault = gate(name, drift)
    if fault is not None:
        raise ExportError(f"{name}: {fault}", reason="drifted")
    variant = Variant(
        name=name,
        format=kind,
        file=f"models/{name}.{kind}",
        bytes=len(content),
        input=model.input,
        output=model.output,
        ops=ops,
        runtimes=RUNTIMES[kind],
        drift=drift,
        fingerprint=digest,
    )
    say(f"{name}: calibrating")
    return _Exported(variant, content, encoder, plain, calibrate(encoder, people, data=data))


def _convert(name: str, subject: _Subject) -> tuple[bytes, tuple[str, ...]]:
    if name.startswith("onnx"):
        content = onnx.to_onnx(subject.model, name, subject.representative)
        return content, onnx.op_names(content)
    content = tflite.to_tflite(subject.model, name, subject.representative)
    return content, tflite.op_names(content)


def _check_images(images: NDArray[np.uint8], what: str, section: InputSection, at_least: int) -> None:
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

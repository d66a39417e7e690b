"""One model file on its way into a bundle: opened as the device opens it, measured, calibrated."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import (
    Calibration,
    EmbeddingSection,
    Format,
    InputSection,
    LayerError,
    Variant,
    fingerprint,
)
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.runtimes import RUNTIMES, open_model
from edge_oneshot_export.errors import ExportError
from edge_oneshot_export.formats import onnx, tflite
from edge_oneshot_export.judging.calibration import Sample, calibrate_embeddings
from edge_oneshot_export.judging.drift import Reference, gate, measure_drift

VARIANTS: Final = ("float32", "float16", "dynamic", "int8", "coral", "onnx-float32", "onnx-float16", "onnx-int8")


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """What the variants of a bundle share.

    Attributes:
        input: How an image becomes the model's input.
        embedding: What the model answers.
        images: uint8 (m, h, w, c), held-out images: those of `sample`.
        sample: Whom they show.
        reference: What the float model answers on them; None where there is no float model.
        data: Where they come from, in words.
        target_far: The default target of the calibrations; None for the smallest supported one.
        thresholds: Of each variant calibrations that were made elsewhere; None to calibrate on the images.
    """

    input: InputSection
    embedding: EmbeddingSection
    images: NDArray[np.uint8]
    sample: Sample
    reference: Reference | None
    data: str
    target_far: float | None
    thresholds: Mapping[str, tuple[Calibration, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """A variant that passed its gate; `plain` runs it on the kernels that tflite-runtime has."""

    variant: Variant
    content: bytes
    encoder: Encoder
    plain: Encoder | None
    calibrations: tuple[Calibration, ...]


def format_of(name: str) -> Format:
    """The file format of a variant, by its name."""
    return "onnx" if name.startswith("onnx") else "tflite"


def measure(
    name: str,
    content: bytes,
    subject: Subject,
    say: Callable[[str], None],
    *,
    layers: Callable[[], tuple[LayerError, ...]] = tuple,
) -> Measured:
    """Measure and calibrate a model file through the device's own encoder.

    Args:
        name: Of `VARIANTS`.
        content: The file.
        subject: What it is measured with.
        say: Called with each step as it begins.
        layers: Finds what each layer loses; asked once the file can be opened.

    Raises:
        ExportError: Reason ``drifted``: it is beyond a bound of `drift.gate`.
        IntegrityError: The runtime refuses the file, or its tensors are not those of `subject`.
        ModelError: The images allow no calibration.
    """
    kind = format_of(name)
    model = open_model(kind, content)
    digest = fingerprint(hashlib.sha256(content).hexdigest(), subject.input, subject.embedding)
    encoder = Encoder(model, subject.input, subject.embedding, variant=name, fingerprint=digest)
    plain = None
    if kind == "tflite" and model.output.dtype != "float32":
        twin = tflite.PlainModel(content, model)
        plain = Encoder(twin, subject.input, subject.embedding, variant=name, fingerprint=digest)
    say(f"{name}: measuring drift")
    answered = encoder.embed_many(subject.images)
    drift = None
    if subject.reference is not None:
        drift = measure_drift(answered, subject.reference, layers())
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
        ops=onnx.op_names(content) if kind == "onnx" else tflite.op_names(content),
        runtimes=RUNTIMES[kind],
        drift=drift,
        fingerprint=digest,
    )
    if subject.thresholds is not None:
        return Measured(variant, content, encoder, plain, subject.thresholds[name])
    say(f"{name}: calibrating")
    calibrations = calibrate_embeddings(
        answered,
        subject.sample.labels,
        subject.embedding.metric,
        empty=subject.sample.empty,
        failures_by_reason=subject.sample.failures_by_reason,
        variant=name,
        target_far=subject.target_far,
        data=subject.data,
    )
    return Measured(variant, content, encoder, plain, calibrations)

"""Measure one variant of an encoder as the device runs it: its drift from the float model, and its thresholds."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.drift_section import Drift, LayerError
from edge_oneshot_device.bundle.manifest import Calibration, EmbeddingSection, InputSection, Variant, fingerprint
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.runtimes import open_model
from edge_oneshot_export.errors import ExportError
from edge_oneshot_export.formats import onnx, tflite
from edge_oneshot_export.judging.calibration import CalibrationSettings, calibrate_embeddings
from edge_oneshot_export.judging.drift import FloatReference, gate, measure_drift
from edge_oneshot_export.judging.sampling import Sample
from edge_oneshot_export.variants import VariantKind

_OP_NAMES: Final = {"tflite": tflite.op_names, "onnx": onnx.op_names}


@dataclass(frozen=True, slots=True, eq=False)
class MeasurementSetup:
    """What every variant of a bundle is measured with.

    Attributes:
        input: How an image becomes the model's input.
        embedding: The model's output.
        images: uint8 (m, h, w, c), held-out images: those of `sample`.
        sample: Whom the images show.
        reference: What the float model answers to the images; None where there is no float model.
        settings: How each variant is calibrated.
        thresholds: For each variant calibrations that were made elsewhere; None to calibrate on the images.
    """

    input: InputSection
    embedding: EmbeddingSection
    images: NDArray[np.uint8]
    sample: Sample
    reference: FloatReference | None
    settings: CalibrationSettings
    thresholds: Mapping[str, tuple[Calibration, ...]] | None = None


@dataclass(frozen=True, slots=True)
class MeasuredVariant:
    """A variant that passed its gates; `plain` runs it on the kernels that tflite-runtime has."""

    variant: Variant
    content: bytes
    encoder: Encoder
    plain: Encoder | None
    calibrations: tuple[Calibration, ...]


def measure(
    kind: VariantKind,
    content: bytes,
    setup: MeasurementSetup,
    say: Callable[[str], None],
    *,
    layers: Callable[[], tuple[LayerError, ...]] = tuple,
) -> MeasuredVariant:
    """Measure and calibrate a model file through the device's own encoder.

    Args:
        kind: The variant.
        content: The model file.
        setup: What it is measured with.
        say: Called with the name of each step as it begins.
        layers: Measures what each layer loses; called after the runtime has opened the file.

    Returns:
        The variant, measured and calibrated.

    Raises:
        ExportError: Reason ``drifted``: it fails a gate.
        IntegrityError: The runtime refuses the file, or its tensors do not fit `setup`.
        ModelError: The images allow no calibration.
    """
    model = open_model(kind.format, content)
    digest = fingerprint(hashlib.sha256(content).hexdigest(), setup.input, setup.embedding)
    encoder = Encoder(model, setup.input, setup.embedding, variant=kind.name, fingerprint=digest)
    plain = None
    if kind.format == "tflite" and model.output.dtype != "float32":
        twin = tflite.PlainModel(content, model)
        plain = Encoder(twin, setup.input, setup.embedding, variant=kind.name, fingerprint=digest)
    say(f"{kind.name}: measuring drift")
    answered = encoder.embed_many(setup.images)
    variant = Variant(
        name=kind.name,
        format=kind.format,
        file=f"models/{kind.name}.{kind.format}",
        bytes=len(content),
        input=model.input,
        output=model.output,
        ops=_OP_NAMES[kind.format](content),
        runtimes=kind.runtimes,
        drift=None if setup.reference is None else _drift(kind, answered, setup.reference, layers),
        fingerprint=digest,
    )
    if setup.thresholds is not None:
        return MeasuredVariant(variant, content, encoder, plain, setup.thresholds[kind.name])
    say(f"{kind.name}: calibrating")
    calibrations = calibrate_embeddings(
        answered, setup.sample, setup.embedding.metric, variant=kind.name, settings=setup.settings
    )
    return MeasuredVariant(variant, content, encoder, plain, calibrations)


def _drift(
    kind: VariantKind,
    answered: NDArray[np.float32],
    reference: FloatReference,
    layers: Callable[[], tuple[LayerError, ...]],
) -> Drift:
    drift = measure_drift(answered, reference, layers())
    fault = gate(kind, drift)
    if fault is not None:
        raise ExportError(f"{kind.name}: {fault}", reason="drifted")
    return drift

"""Export a Keras encoder as a bundle: convert it, measure each variant against the model, calibrate, pack."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.drift_section import LayerError
from edge_oneshot_device.bundle.manifest import EmbeddingSection
from edge_oneshot_device.encoding.preprocessing import scale
from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_export.edgetpu.preflight import preflight
from edge_oneshot_export.errors import ExportError, ModelError
from edge_oneshot_export.formats import onnx, tflite
from edge_oneshot_export.formats.conversion import check_model, reference_embeddings, spread
from edge_oneshot_export.formats.keras_models import in_float32, require_model
from edge_oneshot_export.formats.layers import layer_errors
from edge_oneshot_export.judging.calibration import CalibrationSettings
from edge_oneshot_export.judging.drift import FloatReference, check_alive
from edge_oneshot_export.judging.protocols import LabelledImages
from edge_oneshot_export.judging.sampling import draw_sample
from edge_oneshot_export.measurement import MeasuredVariant, MeasurementSetup, measure
from edge_oneshot_export.options import ExportOptions
from edge_oneshot_export.packing.packer import BundleSpec, ExportReport, LeftOut, Packer, check_images, check_target
from edge_oneshot_export.packing.signing import load_key
from edge_oneshot_export.variants import VARIANTS, VariantKind, require_known

if TYPE_CHECKING:
    import keras

MAX_REPRESENTATIVE: Final = 500
_CONVERTERS: Final = {"tflite": tflite.to_tflite, "onnx": onnx.to_onnx}


def export(
    model: "keras.Model",
    path: str | os.PathLike[str],
    spec: BundleSpec,
    *,
    images: NDArray[np.uint8],
    calibration: LabelledImages,
    options: ExportOptions | None = None,
    progress: Callable[[str], None] | None = None,
) -> ExportReport:
    """Export a Keras model that maps an image to a vector as a bundle.

    Each variant is converted, then compared with the Keras model and calibrated on the calibration images; both
    through the device's own encoder on the exported file. A variant that fails a gate (see `variants`) is left out
    and named in the report.

    Args:
        model: Takes float32 (batch, h, w, c), scaled as `spec.input` says, and returns float32 (batch, size). For the
            cosine it returns the vector without L2 normalisation, which the device does. A model that computes in 16
            bits is rebuilt in float32.
        path: The bundle, ``NAME.oneshot``. An existing file is replaced once the new one is complete.
        spec: What the bundle says of the encoder.
        images: Representative images, preprocessed uint8 (n, h, w, c), which set the ranges of the int8 variants: a
            few hundred, spread over the training data. At most 500 are used.
        calibration: Preprocessed images of identities that the model was not trained on.
        options: What the user chooses; None takes the defaults.
        progress: Called with the name of each step as it begins.

    Returns:
        What was written and what was left out.

    Raises:
        ModelError: The model, its images or an argument cannot be exported (exit code 2).
        ExportError: A variant that was named, or every variant, failed (exit code 1).
        InputError: The key cannot be used, or nothing may be written at `path`.
        MachineError: The file cannot be written. In every case nothing was written.
    """
    options = options or ExportOptions()
    check_export(Path(path), options)
    check_images(images, "images", spec.input, at_least=1)
    check_images(calibration.images, "calibration.images", spec.input, at_least=2)
    packer = Packer.begin(path, spec, calibration.images, sign=options.sign, progress=progress)
    packer.say("checking the model")
    require_model(model)
    model = in_float32(model)
    data = f"{len(calibration.names)} held-out identities of {packer.provenance.data}"
    setup = _setup(model, spec, calibration, CalibrationSettings(data, options.target_far))
    representative = scale(spread(images, MAX_REPRESENTATIVE), spec.input)
    convert = partial(_export_variant, model=model, representative=representative, setup=setup, say=packer.say)
    measured, left_out = _export_each(options, convert)
    return packer.pack(setup, measured, left_out)


def check_export(path: Path, options: ExportOptions) -> None:
    """Refuse what `export` would refuse about its path and its options, before the work for it begins.

    Args:
        path: The bundle.
        options: What the user chooses.

    Raises:
        InputError: The key cannot be used, or nothing may be written at `path`.
        ModelError: The path does not end in .oneshot or its folder is missing, or a variant is unknown.
    """
    check_target(path)
    require_known(options.chosen)
    if options.sign is not None:
        load_key(options.sign)


def _export_each(
    options: ExportOptions, export_one: Callable[[VariantKind], MeasuredVariant]
) -> tuple[list[MeasuredVariant], list[LeftOut]]:
    """The variants that can be exported, and those that cannot."""
    measured: list[MeasuredVariant] = []
    left_out: list[LeftOut] = []
    for name in options.chosen:
        try:
            measured.append(export_one(VARIANTS[name]))
        except ModelError:
            raise
        except (ExportError, IntegrityError) as error:  # IntegrityError: the runtime refuses the converter's file
            if options.required:
                raise ExportError(f"{error}; nothing was written", reason=error.reason) from error
            left_out.append(LeftOut(name, str(error)))
    if not measured:
        reasons = "; ".join(entry.reason for entry in left_out)
        raise ExportError(f"no variant can be exported, so nothing was written: {reasons}", reason="no_variant")
    return measured, left_out


def _setup(
    model: "keras.Model", spec: BundleSpec, calibration: LabelledImages, settings: CalibrationSettings
) -> MeasurementSetup:
    embedding = EmbeddingSection(size=check_model(model, spec.input), metric=spec.metric)
    wanted = settings.target_far if spec.thresholds is None else None
    sample = draw_sample(calibration, spec.input, target_far=wanted)
    held_out = calibration.images[sample.chosen]
    answered = reference_embeddings(model, held_out, spec.input)
    check_alive(answered, spec.metric)
    reference = FloatReference.of(answered, sample.labels, spec.metric)
    return MeasurementSetup(spec.input, embedding, held_out, sample, reference, settings, spec.thresholds)


def _export_variant(
    kind: VariantKind,
    *,
    model: "keras.Model",
    representative: NDArray[np.float32],
    setup: MeasurementSetup,
    say: Callable[[str], None],
) -> MeasuredVariant:
    say(f"{kind.name}: converting")
    content = _CONVERTERS[kind.format](model, kind, representative)
    if kind.edgetpu == "mapped":
        _require_mapped(kind, content)

    def layers() -> tuple[LayerError, ...]:
        return layer_errors(model, kind, representative) if kind.layer_errors else ()

    return measure(kind, content, setup, say, layers=layers)


def _require_mapped(kind: VariantKind, content: bytes) -> None:
    """Refuse a file of which an operator would stay on the CPU."""
    left = [op for op in preflight(content).ops if op.target == "cpu"]
    if left:
        message = f"{kind.name}: {left[0].op} {left[0].index} cannot be mapped to the Edge TPU: {left[0].reason}"
        raise ExportError(message, reason="not_mapped")

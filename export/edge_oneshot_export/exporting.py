"""From a Keras encoder to a bundle: convert, measure against the model, calibrate, pack."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import (
    Calibration,
    EmbeddingSection,
    InputSection,
    LayerError,
    Metric,
    Provenance,
)
from edge_oneshot_device.encoding.preprocessing import scale
from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_export.assembling import ExportReport, LeftOut, Packer, check_images, check_target
from edge_oneshot_export.edgetpu.preflight import preflight
from edge_oneshot_export.errors import ExportError, ModelError
from edge_oneshot_export.formats import onnx, tflite
from edge_oneshot_export.formats.conversion import check_model, reference_embeddings, spread
from edge_oneshot_export.formats.keras_models import in_float32, require_model
from edge_oneshot_export.formats.layers import layer_errors
from edge_oneshot_export.judging.calibration import draw_sample
from edge_oneshot_export.judging.drift import Reference, check_alive
from edge_oneshot_export.judging.protocols import LabelledImages
from edge_oneshot_export.variants import VARIANTS, Measured, Subject, format_of, measure

if TYPE_CHECKING:
    import keras
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_REPRESENTATIVE: Final = 500


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
    target_far: float | None = None,
    thresholds: Mapping[str, tuple[Calibration, ...]] | None = None,
    golden: NDArray[np.uint8] | None = None,
    files: Mapping[str, bytes] | None = None,
    asked: bool = False,
    key: "Ed25519PrivateKey | None" = None,
    progress: Callable[[str], None] | None = None,
) -> ExportReport:
    """Export a Keras model that maps an image to a vector as a bundle.

    Each variant is converted, compared with the Keras model on the calibration images, and
    calibrated, both through the device's own encoder on the exported bytes. A variant that
    drifts beyond its bound (see `edge_oneshot_export.judging.drift`) is left out and named.

    Args:
        model: Takes float32 (batch, h, w, c) scaled as `input` says; returns float32
            (batch, size), for cosine without the L2 normalisation, which the device does. One that
            computes in 16 bits is rebuilt in float32.
        path: ``NAME.oneshot``; an existing file is replaced once the new one is whole.
        images: uint8 (n, h, w, c), preprocessed; they set the ranges of the int8 variants. A
            few hundred, spread over the training data; 500 at most are used.
        calibration: Preprocessed images of identities that the model was not trained on.
        input: How the device makes the model's input from an image.
        metric: How embeddings are compared.
        variants: Of `VARIANTS`.
        name: The bundle's name; otherwise made from the file's.
        provenance: Where the model comes from; versions and commit are filled in.
        target_far: The false accept rate that is wanted of one comparison, the bundle's default;
            otherwise the smallest that the calibration images support.
        thresholds: Of each variant calibrations that were made elsewhere. The calibration images then
            serve drift alone, and `target_far` says nothing.
        golden: Images of the self-test, preprocessed; otherwise some of the calibration images.
        files: Further members of the bundle, such as those that `input` names: path to content.
        asked: The user named these variants, so one that fails is an error.
        key: Signs the bundle, see `edge_oneshot_export.signing.load_key`; None leaves it unsigned.
        progress: Called with the name of each step as it begins.

    Raises:
        ModelError: The model, its images or an argument cannot be exported (exit code 2).
        ExportError: A variant that was asked for, or every variant, failed (exit code 1).
        MachineError: The file cannot be written. In every case nothing was written.
    """
    check_arguments(Path(path), variants)
    check_images(images, "images", input, at_least=1)
    check_images(calibration.images, "calibration.images", input, at_least=2)
    shown = calibration.images if golden is None else golden
    packer = Packer.begin(path, name, provenance, shown, input, key, progress, files)
    say = packer.say
    say("checking the model")
    require_model(model)
    model = in_float32(model)
    embedding = EmbeddingSection(size=check_model(model, input), metric=metric)
    sample = draw_sample(calibration, input, target_far=target_far if thresholds is None else None)
    held_out = calibration.images[sample.chosen]
    answered = reference_embeddings(model, held_out, input)
    check_alive(answered, metric)
    reference = Reference.of(answered, sample.labels, metric)
    data = f"{len(calibration.names)} held-out identities of {packer.provenance.data}"
    subject = Subject(input, embedding, held_out, sample, reference, data, target_far, thresholds)
    representative = scale(spread(images, MAX_REPRESENTATIVE), input)

    def export_variant(variant: str) -> Measured:
        say(f"{variant}: converting")
        convert = onnx.to_onnx if format_of(variant) == "onnx" else tflite.to_tflite
        content = convert(model, variant, representative)
        if variant == "coral":
            _require_mapped(content)

        def layers() -> tuple[LayerError, ...]:
            return layer_errors(model, representative) if variant == "int8" else ()

        return measure(variant, content, subject, say, layers=layers)

    measured: list[Measured] = []
    left_out: list[LeftOut] = []
    for variant in variants:
        try:
            measured.append(export_variant(variant))
        except ModelError:
            raise
        except (ExportError, IntegrityError) as error:  # IntegrityError: the runtime refuses the converter's file
            if asked:
                raise ExportError(f"{error}; nothing was written", reason=error.reason) from error
            left_out.append(LeftOut(variant, str(error)))
    if not measured:
        reasons = "; ".join(entry.reason for entry in left_out)
        raise ExportError(f"no variant can be exported, so nothing was written: {reasons}", reason="no_variant")
    return packer.pack(subject, measured, left_out)


def check_arguments(target: Path, variants: Sequence[str]) -> None:
    """Refuse a path or variants that `export` would refuse, before the work for it begins.

    Raises:
        ModelError: The path does not end in .oneshot or its folder is missing, or a variant is unknown.
    """
    check_target(target)
    known = ", ".join(VARIANTS)
    if not variants:
        raise ModelError(f"no variant is named; the variants are {known}", reason="bad_variant")
    for position, variant in enumerate(variants):
        if variant not in VARIANTS:
            raise ModelError(f"there is no variant {variant!r}; the variants are {known}", reason="bad_variant")
        if variant in variants[:position]:
            raise ModelError(f"the variant {variant} is named twice", reason="bad_variant")


def _require_mapped(content: bytes) -> None:
    """Refuse a file that the Edge TPU would not run whole."""
    left = [op for op in preflight(content).ops if op.target == "cpu"]
    if left:
        message = f"coral: {left[0].op} {left[0].index} cannot be mapped to the Edge TPU: {left[0].reason}"
        raise ExportError(message, reason="not_mapped")

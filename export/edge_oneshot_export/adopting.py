"""Bring your own encoder: model files that somebody else made, as a bundle."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import EmbeddingSection, InputSection, Metric, Provenance, TensorSpec
from edge_oneshot_device.encoding.encoder import Encoder
from edge_oneshot_device.encoding.runtimes import open_model
from edge_oneshot_device.encoding.trial import try_files
from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_device.files import read_file
from edge_oneshot_export.assembling import ExportReport, Packer, check_images, check_target
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.formats import onnx
from edge_oneshot_export.formats.tflite_file import read_tflite
from edge_oneshot_export.judging.calibration import draw_sample
from edge_oneshot_export.judging.drift import Reference, check_alive
from edge_oneshot_export.judging.protocols import LabelledImages
from edge_oneshot_export.variants import Subject, format_of, measure

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_MODEL_BYTES: Final = 200 << 20


@dataclass(frozen=True, slots=True)
class EncoderFile:
    """A model file that maps an image to a vector.

    Attributes:
        variant: What it is: ``float32``, ``float16``, ``dynamic`` (float in and out, int8 weights), ``int8``
            (8 bits in and out), or one of the first two or the last with ``onnx-`` before it.
        content: As the bundle takes it: of an .onnx the batch is 1, and the channels of its input are last.
        input: (1, height, width, channels).
        output: (1, size).
    """

    variant: str
    content: bytes
    input: TensorSpec
    output: TensorSpec


def read_encoder(path: str | os.PathLike[str]) -> EncoderFile:
    """Read a .tflite or .onnx file, with the weights beside an .onnx, and run it once in a process of its own.

    Raises:
        InputError: It is not there, is no regular file, or too large.
        ModelError: It is no such file, maps no image to a vector, holds a branch or a loop, or takes more time or
            memory than an encoder does.
        MachineError: It cannot be read.
    """
    content = read_file(path, MAX_MODEL_BYTES)
    suffix = Path(path).suffix
    if suffix not in (".tflite", ".onnx"):
        raise ModelError(f"{path}: neither .tflite nor .onnx; convert it to one of them", reason="bad_model")
    try:
        if suffix == ".onnx":
            content = onnx.adapted(content, Path(path).parent, MAX_MODEL_BYTES)
        variant = _onnx_variant(content) if suffix == ".onnx" else _tflite_variant(content)
        try_files([(format_of(variant), content)])
        model = open_model(format_of(variant), content)
    except (IntegrityError, ModelError) as error:
        raise ModelError(f"{path}: {error}", reason="bad_model") from error
    if len(model.input.shape) != 4 or model.input.shape[0] != 1 or model.input.shape[3] not in (1, 3):
        message = f"{path}: takes {model.input.shape}, expected (1, height, width, 1 or 3)"
        raise ModelError(message, reason="bad_input")
    if len(model.output.shape) != 2 or model.output.shape[0] != 1 or model.output.shape[1] < 2:
        message = f"{path}: answers {model.output.shape}, expected (1, size): one vector"
        raise ModelError(message, reason="bad_output")
    return EncoderFile(variant, content, model.input, model.output)


def adopt(
    encoders: Sequence[EncoderFile],
    path: str | os.PathLike[str],
    *,
    calibration: LabelledImages,
    input: InputSection,  # noqa: A002 (the manifest's word)
    metric: Metric = "cosine",
    name: str | None = None,
    provenance: Provenance | None = None,
    target_far: float | None = None,
    golden: NDArray[np.uint8] | None = None,
    files: Mapping[str, bytes] | None = None,
    key: "Ed25519PrivateKey | None" = None,
    progress: Callable[[str], None] | None = None,
) -> ExportReport:
    """Pack encoder files, one a variant, as a bundle with preprocessing, drift and calibration of its own.

    Drift is measured against the float32 file among them. Without one it is unknown, and nothing
    is said of what quantization costs; the thresholds are measured on the file itself all the same.

    Args:
        encoders: All of the same encoder, see `read_encoder`.
        path: ``NAME.oneshot``; an existing file is replaced once the new one is whole.
        calibration: Preprocessed images of identities that the encoder was not trained on.
        input: How the device makes the model's input from an image.
        metric: How embeddings are compared.
        name: The bundle's name; otherwise made from the file's.
        provenance: Where the encoder comes from.
        target_far: As `edge_oneshot_export.export` takes it.
        golden: Likewise.
        files: Likewise.
        key: Signs the bundle.
        progress: Called with the name of each step as it begins.

    Raises:
        ModelError: The files do not fit each other, the input or the images.
        ExportError: Reason ``drifted``: a file lies too far from the float one.
        MachineError: The bundle cannot be written. In every case nothing was written.
    """
    check_target(Path(path))
    check_images(calibration.images, "calibration.images", input, at_least=2)
    embedding = EmbeddingSection(size=_common_size(encoders, input), metric=metric)
    shown = calibration.images if golden is None else golden
    packer = Packer.begin(path, name, provenance, shown, input, key, progress, files)
    sample = draw_sample(calibration, input, target_far=target_far)
    held_out = calibration.images[sample.chosen]
    exact = [file for file in encoders if file.variant in ("float32", "onnx-float32")]
    packer.say("embedding the calibration images")
    answered = _embeddings((exact or list(encoders))[0], held_out, input, embedding)
    check_alive(answered, metric)
    reference = Reference.of(answered, sample.labels, metric) if exact else None
    data = f"{len(calibration.names)} identities of {packer.provenance.data}"
    subject = Subject(input, embedding, held_out, sample, reference, data, target_far)
    return packer.pack(subject, [measure(file.variant, file.content, subject, packer.say) for file in encoders], ())


def _common_size(files: Sequence[EncoderFile], section: InputSection) -> int:
    if not files:
        raise ModelError("no model file is named: name at least one", reason="bad_model")
    for position, file in enumerate(files):
        if file.input.shape != (1, *section.shape):
            message = f"{file.variant} takes {file.input.shape[1:]}, but the input section says {section.shape}"
            raise ModelError(f"{message} (h, w, c)", reason="bad_input")
        if file.output.shape != files[0].output.shape:
            message = (
                f"{file.variant} answers {file.output.shape[1]} values, {files[0].variant} {files[0].output.shape[1]}"
            )
            raise ModelError(f"{message}: give files of one encoder", reason="bad_output")
        if file.variant in [other.variant for other in files[:position]]:
            raise ModelError(f"two of the files are {file.variant}: give one of each kind", reason="bad_variant")
    return files[0].output.shape[1]


def _embeddings(
    file: EncoderFile, images: NDArray[np.uint8], section: InputSection, embedding: EmbeddingSection
) -> NDArray[np.float32]:
    model = open_model(format_of(file.variant), file.content)
    encoder = Encoder(model, section, embedding, variant=file.variant, fingerprint="")
    return encoder.embed_many(images)


def _tflite_variant(content: bytes) -> str:
    graph = read_tflite(content).subgraphs[0]
    if graph.tensors[graph.outputs[0]].dtype in ("int8", "uint8"):
        return "int8"
    kinds = {tensor.dtype for tensor in graph.tensors if tensor.constant}
    return next((name for name, kind in (("dynamic", "int8"), ("float16", "float16")) if kind in kinds), "float32")


def _onnx_variant(content: bytes) -> str:
    if any("QLinear" in name or "DequantizeLinear" in name for name in onnx.op_names(content)):
        return "onnx-int8"
    return "onnx-float16" if onnx.holds_float16(content) else "onnx-float32"

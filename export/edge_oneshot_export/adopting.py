"""Bring your own encoder: model files that somebody else made, as a bundle."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import (
    EmbeddingSection,
    InputSection,
    Metric,
    Provenance,
    TensorSpec,
)
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.runtimes import open_model
from edge_oneshot_device.encoding.trial import try_files
from edge_oneshot_device.errors import IntegrityError, MachineError
from edge_oneshot_device.files import read_file
from edge_oneshot_export.assembling import ExportReport, Packer, check_images, check_target
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.formats import onnx, onnx_adapting, tflite_adapting
from edge_oneshot_export.formats.scaling import PIXELS, Scaling, scaled, tflite_scaling
from edge_oneshot_export.formats.shapes import Size, vector_size
from edge_oneshot_export.formats.tflite_file import read_tflite
from edge_oneshot_export.judging.calibration import draw_sample
from edge_oneshot_export.judging.drift import Reference, check_alive
from edge_oneshot_export.judging.protocols import LabelledImages
from edge_oneshot_export.judging.usefulness import require_use
from edge_oneshot_export.variants import Subject, format_of, measure

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_MODEL_BYTES: Final = 200 << 20

_DEAD: Final = {
    "zero_embedding": "answers all zeros for some image, which has no direction to compare",
    "collapsed": "answers nearly the same for every image",
}

_KINDS: Final = {
    ".keras": "a Keras model: convert it with tf.lite.TFLiteConverter, or give it to edge_oneshot_export.export",
    ".h5": "a Keras model: convert it with tf.lite.TFLiteConverter, or give it to edge_oneshot_export.export",
    ".pb": "TensorFlow's: convert it with tf.lite.TFLiteConverter, or with tf2onnx",
    ".pt": "PyTorch's: convert it with torch.onnx.export",
    ".pth": "PyTorch's: convert it with torch.onnx.export",
    ".pdmodel": "PaddlePaddle's: convert it with paddle2onnx",
    ".pdiparams": "PaddlePaddle's: convert it with paddle2onnx",
    ".pkl": "a pickle: convert it with skl2onnx, or what made it with its own exporter",
    ".joblib": "a pickle: convert it with skl2onnx, or what made it with its own exporter",
    ".task": "MediaPipe's, an archive: unzip it and give the .tflite in it",
    ".ort": "ONNX Runtime's own format: give the .onnx that it was made from",
}


@dataclass(frozen=True, slots=True)
class EncoderFile:
    """A model file that maps an image to a vector.

    Attributes:
        variant: What it is: ``float32``, ``float16``, ``dynamic`` (int8 weights, floats between the layers), ``int8``
            (8 bits between the layers), or one of the first two or the last with ``onnx-`` before it
            (``onnx-int8``: anything in 8 bits).
        content: As the bundle takes it: one image, its channels last, and one vector.
        input: (1, height, width, channels).
        output: (1, size).
        scaling: What the file says of how pixels become its input, if it does.
    """

    variant: str
    content: bytes
    input: TensorSpec
    output: TensorSpec
    scaling: Scaling | None = None


def read_encoder(path: str | os.PathLike[str], *, size: Size | None = None, outputs: Sequence[str] = ()) -> EncoderFile:
    """Read a .tflite or .onnx file, with the weights beside an .onnx, and run it once in a process of its own.

    Args:
        path: The file.
        size: Height and width, where it leaves them free.
        outputs: Of several outputs the one of such a name is the embedding.

    Raises:
        InputError: It is not there, is no regular file, or too large.
        ModelError: It is no such file, maps no image to a vector, holds a branch or a loop, or takes more time or
            memory than an encoder does.
        MachineError: It cannot be read.
    """
    suffix = Path(path).suffix.lower()
    if (Path(path) / "saved_model.pb").is_file():
        suffix = ".pb"
    if suffix in _KINDS:
        raise ModelError(f"{path}: neither .tflite nor .onnx, but {_KINDS[suffix]}", reason="bad_model")
    content = read_file(path, MAX_MODEL_BYTES)
    if suffix not in (".tflite", ".onnx"):
        raise ModelError(f"{path}: neither .tflite nor .onnx; convert it to one of them", reason="bad_model")
    if content.startswith(b"version https://git-lfs"):
        message = f"{path}: a pointer of Git LFS and not the model: fetch it with git lfs pull"
        raise ModelError(message, reason="bad_model")
    try:
        if suffix == ".onnx":
            content, raw = onnx_adapting.adapted(content, Path(path).parent, MAX_MODEL_BYTES, size, outputs)
            scaling = PIXELS if raw else None
            variant = f"onnx-{onnx.precision(content)}"
        else:
            given, content = content, tflite_adapting.adapted(content, size, outputs)
            scaling = tflite_scaling(given)
            variant = _tflite_variant(content)
        try_files([(format_of(variant), content)])
        model = open_model(format_of(variant), content)
        if len(model.output.shape) != 2 or model.output.shape[0] != 1:
            vector_size(model.output.shape)
            message = f"its output is {model.output.shape}, expected (1, size): one vector"
            raise ModelError(message, reason="bad_output")
        vector_size(model.output.shape)
    except ModelError as error:
        raise ModelError(f"{path}: {error}", reason=error.reason) from error
    except IntegrityError as error:
        raise ModelError(f"{path}: {error}", reason="bad_model") from error
    if len(model.input.shape) != 4 or model.input.shape[0] != 1 or model.input.shape[3] not in (1, 3):
        message = f"{path}: takes {model.input.shape}, expected (1, height, width, 1 or 3)"
        raise ModelError(message, reason="bad_input")
    if scaling is not None and len(scaling.mean) not in (1, model.input.shape[3]):
        scaling = None
    return EncoderFile(variant, content, model.input, model.output, scaling)


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
    anyway: bool = False,
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
        anyway: Write it though `input` contradicts what a file declares, or though it is useless.
        progress: Called with the name of each step as it begins.

    Raises:
        ModelError: The files do not fit each other, the input or the images; ``contradicted``, see `check_scaling`;
            ``collapsed``, ``zero_embedding`` or ``not_finite``: nothing can be compared.
        ExportError: ``drifted``: a file lies too far from the float one; ``useless``: by its own calibration it does
            not tell the people apart.
        MachineError: The bundle cannot be written. In every case nothing was written.
    """
    check_target(Path(path))
    check_images(calibration.images, "calibration.images", input, at_least=2)
    embedding = EmbeddingSection(size=_common_size(encoders, input), metric=metric)
    shown = calibration.images if golden is None else golden
    if not anyway:
        check_scaling(encoders, input)
    packer = Packer.begin(path, name, provenance, shown, input, key, progress, files)
    sample = draw_sample(calibration, input, target_far=target_far)
    held_out = calibration.images[sample.chosen]
    exact = [file for file in encoders if file.variant in ("float32", "onnx-float32")]
    packer.say("embedding the calibration images")
    answered = _embeddings((exact or list(encoders))[0], held_out, input, embedding)
    reference = Reference.of(answered, sample.labels, metric) if exact else None
    data = f"{len(calibration.names)} identities of {packer.provenance.data}"
    subject = Subject(input, embedding, held_out, sample, reference, data, target_far)
    measured = [measure(file.variant, file.content, subject, packer.say) for file in encoders]
    if not anyway:
        for entry in measured:
            require_use(entry.variant.name, entry.calibrations, input)
    return packer.pack(subject, measured, ())


def check_scaling(encoders: Sequence[EncoderFile], section: InputSection) -> None:
    """Refuse an input that contradicts what one of the files declares.

    Raises:
        ModelError: ``contradicted``.
    """
    for file in encoders:
        if file.scaling:
            file.scaling.require(file.variant, section)


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
    """What it answers, where that can be compared at all."""
    model = open_model(format_of(file.variant), file.content)
    encoder = Encoder(model, section, embedding, variant=file.variant, fingerprint="")
    hint = f"at {scaled(section.mean, section.scale)}; see whether these are what it was trained with, or give images"
    try:
        answered = encoder.embed_many(images)
        check_alive(answered, embedding.metric)
    except MachineError as error:
        message = f"{file.variant} fails on an image, {hint} that it is for: {error}"
        raise ModelError(message, reason="not_finite") from error
    except ModelError as error:
        said = _DEAD[error.reason]
        raise ModelError(f"{file.variant} {said}, {hint} that differ", reason=error.reason) from error
    return answered


def _tflite_variant(content: bytes) -> str:
    graph = read_tflite(content).subgraphs[0]
    between = {
        tensor.dtype for index, tensor in enumerate(graph.tensors) if not tensor.constant and index not in graph.inputs
    }
    if between & {"int8", "uint8", "int16"}:
        return "int8"
    kinds = {tensor.dtype for tensor in graph.tensors if tensor.constant}
    return next((name for name, kind in (("dynamic", "int8"), ("float16", "float16")) if kind in kinds), "float32")

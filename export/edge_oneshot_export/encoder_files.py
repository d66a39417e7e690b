"""Export model files that somebody else made as a bundle: read the files, measure, calibrate, pack."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import EmbeddingSection, InputSection, TensorSpec
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.runtimes import Model, open_model
from edge_oneshot_device.encoding.trial import try_files
from edge_oneshot_device.errors import IntegrityError, MachineError
from edge_oneshot_device.files import read_file
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.formats import onnx, onnx_adapting, tflite_adapting
from edge_oneshot_export.formats.scaling import PIXELS, Scaling, scaled, tflite_scaling
from edge_oneshot_export.formats.shapes import Size, vector_size
from edge_oneshot_export.formats.tflite import precision
from edge_oneshot_export.judging.calibration import CalibrationSettings
from edge_oneshot_export.judging.drift import FloatReference, check_alive
from edge_oneshot_export.judging.protocols import LabelledImages
from edge_oneshot_export.judging.sampling import draw_sample
from edge_oneshot_export.judging.usefulness import require_use
from edge_oneshot_export.measurement import MeasurementSetup, measure
from edge_oneshot_export.options import ExportOptions
from edge_oneshot_export.packing.packer import BundleSpec, ExportReport, Packer, check_images, check_target
from edge_oneshot_export.variants import VariantKind, variant_of

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
        kind: The variant that it counts as, by its format and precision. An .onnx with anything in 8 bits is
            ``onnx-int8``.
        content: The file as the bundle takes it: one image with its channels last, and one vector.
        input: (1, height, width, channels).
        output: (1, size).
        scaling: How pixels become its input, as far as the file declares it.
    """

    kind: VariantKind
    content: bytes
    input: TensorSpec
    output: TensorSpec
    scaling: Scaling | None = None


def read_encoder(path: str | os.PathLike[str], *, size: Size | None = None, outputs: Sequence[str] = ()) -> EncoderFile:
    """Read a .tflite or .onnx file, with the weights beside an .onnx, and run it once in a separate process.

    Args:
        path: The file.
        size: Height and width of the input, where the file leaves them free.
        outputs: Names of the output that is the embedding, where the file has several outputs.

    Returns:
        The file, adapted to what a bundle takes.

    Raises:
        InputError: The file does not exist, is not a regular file, or is too large.
        ModelError: It is not such a file, does not map an image to a vector, holds a branch or a loop, or takes more
            time or memory than an encoder does.
        MachineError: It cannot be read.
    """
    suffix, content = _read(path)
    try:
        if suffix == ".onnx":
            content, raw = onnx_adapting.adapted(content, Path(path).parent, MAX_MODEL_BYTES, size, outputs)
            scaling = PIXELS if raw else None
            kind = variant_of("onnx", onnx.precision(content))
        else:
            given, content = content, tflite_adapting.adapted(content, size, outputs)
            scaling = tflite_scaling(given)
            kind = variant_of("tflite", precision(content))
        try_files([(kind.format, content)])
        model = open_model(kind.format, content)
        _check_output(model)
    except ModelError as error:
        raise ModelError(f"{path}: {error}", reason=error.reason) from error
    except IntegrityError as error:
        raise ModelError(f"{path}: {error}", reason="bad_model") from error
    if len(model.input.shape) != 4 or model.input.shape[0] != 1 or model.input.shape[3] not in (1, 3):
        message = f"{path}: takes {model.input.shape}, expected (1, height, width, 1 or 3)"
        raise ModelError(message, reason="bad_input")
    if scaling is not None and len(scaling.mean) not in (1, model.input.shape[3]):
        scaling = None
    return EncoderFile(kind, content, model.input, model.output, scaling)


def export_encoders(
    encoders: Sequence[EncoderFile],
    path: str | os.PathLike[str],
    spec: BundleSpec,
    *,
    calibration: LabelledImages,
    options: ExportOptions | None = None,
    anyway: bool = False,
    progress: Callable[[str], None] | None = None,
) -> ExportReport:
    """Export encoder files, one a variant, as a bundle with preprocessing, drift and calibration of its own.

    Drift is measured against the float32 file among them. Without such a file the drift stays unknown; the thresholds
    are measured on each file all the same.

    Args:
        encoders: Files of the same encoder, see `read_encoder`.
        path: The bundle, ``NAME.oneshot``. An existing file is replaced once the new one is complete.
        spec: What the bundle says of the encoder.
        calibration: Preprocessed images of identities that the encoder was not trained on.
        options: What the user chooses; None takes the defaults. Every file is a variant, whatever `variants` says.
        anyway: Write the bundle even if `spec.input` contradicts what a file declares, or if a variant is useless.
        progress: Called with the name of each step as it begins.

    Returns:
        What was written.

    Raises:
        InputError: The key cannot be used, or nothing may be written at `path`.
        ModelError: The files do not fit each other, the input or the images; ``contradicted``: see `check_scaling`;
            ``collapsed``, ``zero_embedding`` or ``not_finite``: the embeddings cannot be compared.
        ExportError: ``drifted``: a file differs too much from the float32 one; ``useless``: its own calibration shows
            that it does not tell the people apart.
        MachineError: The bundle cannot be written. In every case nothing was written.
    """
    options = options or ExportOptions()
    check_target(Path(path))
    check_images(calibration.images, "calibration.images", spec.input, at_least=2)
    embedding = EmbeddingSection(size=_common_size(encoders, spec.input), metric=spec.metric)
    if not anyway:
        check_scaling(encoders, spec.input)
    packer = Packer.begin(path, spec, calibration.images, sign=options.sign, progress=progress)
    sample = draw_sample(calibration, spec.input, target_far=options.target_far)
    held_out = calibration.images[sample.chosen]
    packer.say("embedding the calibration images")
    reference = _reference(encoders, held_out, spec.input, embedding, sample.labels)
    data = f"{len(calibration.names)} identities of {packer.provenance.data}"
    settings = CalibrationSettings(data, options.target_far)
    setup = MeasurementSetup(spec.input, embedding, held_out, sample, reference, settings)
    measured = [measure(file.kind, file.content, setup, packer.say) for file in encoders]
    if not anyway:
        for entry in measured:
            require_use(entry.variant.name, entry.calibrations, spec.input)
    return packer.pack(setup, measured)


def check_scaling(encoders: Sequence[EncoderFile], section: InputSection) -> None:
    """Refuse an input section that contradicts what one of the files declares.

    Args:
        encoders: The files.
        section: The input section that the bundle shall have.

    Raises:
        ModelError: ``contradicted``.
    """
    for file in encoders:
        if file.scaling:
            file.scaling.require(file.kind.name, section)


def _read(path: str | os.PathLike[str]) -> tuple[str, bytes]:
    """The suffix and the content of a file that can be a .tflite or an .onnx model."""
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
    return suffix, content


def _check_output(model: Model) -> None:
    vector_size(model.output.shape)
    if len(model.output.shape) != 2 or model.output.shape[0] != 1:
        message = f"its output is {model.output.shape}, expected (1, size): one vector"
        raise ModelError(message, reason="bad_output")


def _common_size(files: Sequence[EncoderFile], section: InputSection) -> int:
    if not files:
        raise ModelError("no model file is named: name at least one", reason="bad_model")
    for position, file in enumerate(files):
        if file.input.shape != (1, *section.shape):
            message = f"{file.kind.name} takes {file.input.shape[1:]}, but the input section says {section.shape}"
            raise ModelError(f"{message} (h, w, c)", reason="bad_input")
        if file.output.shape != files[0].output.shape:
            one, other = (f"{entry.kind.name} {entry.output.shape[1]}" for entry in (file, files[0]))
            message = f"the embeddings have other sizes ({one}, {other}): give files of one encoder"
            raise ModelError(message, reason="bad_output")
        if file.kind in [other.kind for other in files[:position]]:
            raise ModelError(f"two of the files are {file.kind.name}: give one of each kind", reason="bad_variant")
    return files[0].output.shape[1]


def _reference(
    encoders: Sequence[EncoderFile],
    images: NDArray[np.uint8],
    section: InputSection,
    embedding: EmbeddingSection,
    labels: NDArray[np.int64],
) -> FloatReference | None:
    """What the float32 file answers, if there is one; refuses an encoder whose embeddings cannot be compared."""
    exact = [file for file in encoders if file.kind.precision == "float32"]
    file = (exact or list(encoders))[0]
    model = open_model(file.kind.format, file.content)
    encoder = Encoder(model, section, embedding, variant=file.kind.name, fingerprint="")
    hint = f"at {scaled(section.mean, section.scale)}; check that it was trained with these, or give images"
    try:
        answered = encoder.embed_many(images)
        check_alive(answered, embedding.metric)
    except MachineError as error:
        message = f"{file.kind.name} fails on an image, {hint} that it is for: {error}"
        raise ModelError(message, reason="not_finite") from error
    except ModelError as error:
        said = _DEAD[error.reason]
        raise ModelError(f"{file.kind.name} {said}, {hint} that differ", reason=error.reason) from error
    return FloatReference.of(answered, labels, embedding.metric) if exact else None

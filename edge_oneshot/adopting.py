"""An encoder that somebody else made, with preprocessing and images of one's own, as a bundle."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_oneshot.data.loading import load_data
from edge_oneshot.errors import DataError
from edge_oneshot.faces.inputs import Eyes, face_files, open_finder, placed_faces
from edge_oneshot.faces.packages import FINDING
from edge_oneshot.faces.representative import golden_faces
from edge_oneshot.judging import published_data, published_names
from edge_oneshot_device.bundle.fields import MAX_LEVEL, MIN_SCALE
from edge_oneshot_device.bundle.manifest import InputSection, Metric, Provenance, value_range
from edge_oneshot_export.adopting import EncoderFile, adopt, check_scaling, read_encoder
from edge_oneshot_export.assembling import ExportReport, check_target
from edge_oneshot_export.formats.scaling import Scaling
from edge_oneshot_export.judging.protocols import LabelledImages

_USUAL: Final = Scaling((127.5,), (127.5,), "")  # -1 to 1


def export_files(
    files: Sequence[Path],
    out: str | Path,
    data: str,
    *,
    mean: Sequence[float] | None = None,
    scale: Sequence[float] | None = None,
    metric: Metric = "cosine",
    faces: bool = False,
    eyes: Eyes | None = None,
    size: tuple[int, int] | None = None,
    output: Sequence[str] = (),
    anyway: bool = False,
    target_far: float | None = None,
    data_dir: Path | None = None,
    key: Ed25519PrivateKey | None = None,
    progress: Callable[[str], None] | None = None,
) -> ExportReport:
    """Export an encoder that somebody else made, calibrated on images of one's own.

    Args:
        files: .tflite and .onnx files of one encoder, one of a kind.
        out: ``NAME.oneshot``.
        data: Identities that it was not trained on, as `load_data` takes them.
        mean: Of the pixels, one value or one a channel; the model is given (pixel - mean) / scale. None takes what
            the files declare, or else 127.5.
        scale: Likewise.
        metric: How its embeddings are compared.
        faces: It is an encoder of faces: they are found in the photos, aligned and cut with the nets of
            the extra ``faces``, on the device as here.
        eyes: Where its input has the eyes, see `edge_oneshot.faces.inputs.placed_faces`.
        size: Height and width of the input, where a file leaves them free.
        output: Where a file has several outputs, the one of such a name is the embedding.
        anyway: See `edge_oneshot_export.adopting.adopt`.
        target_far: See `edge_oneshot_export.export`.
        data_dir: Where Omniglot lies.
        key: Signs the bundle.
        progress: Called with each step's name as it begins.

    Raises:
        DataError: The data is missing, broken or too little, the extra ``faces`` is not installed, or the
            encoder of faces takes no colours.
        InputError, ModelError, ExportError: See `edge_oneshot_export.adopting`.
    """
    check_target(Path(out))
    encoders = [read_encoder(path, size=size, outputs=output) for path in files]
    section = _section(encoders, mean, scale)
    if not anyway:
        check_scaling(encoders, section)
    if progress:
        progress("loading the images")
    finder = None
    if faces:
        section = _with_faces(section, eyes)
        finder = open_finder(section)
    people = load_data(data, section, data_dir=data_dir, faces=finder)
    return adopt(
        encoders,
        out,
        calibration=LabelledImages(people.images, people.labels, people.identities, people.faults),
        input=section,
        metric=metric,
        provenance=Provenance(
            data=published_data(data),
            seed=None,
            images_seen=0,
            trained_on=(),
            held_out=published_names(data, people.group_names),
            versions={},
            commit=None,
            licences=tuple(file.licence for file in FINDING) if faces else (),
        ),
        target_far=target_far,
        golden=golden_faces(finder) if finder else None,
        files=face_files() if faces else None,
        key=key,
        anyway=anyway,
        progress=progress,
    )


def _with_faces(section: InputSection, eyes: Eyes | None) -> InputSection:
    if section.channels != 3:
        message = "the encoder takes grey images: faces are cut in colour, give one that takes RGB"
        raise DataError(message, reason="bad_input")
    return msgspec.structs.replace(section, face=placed_faces(section.width, section.height, eyes))


def _section(
    encoders: Sequence[EncoderFile], mean: Sequence[float] | None, scale: Sequence[float] | None
) -> InputSection:
    """How photos become these encoders' input."""
    # a float file's metadata is exact, a quantized one's range is what its images had
    declared = [file.scaling for file in sorted(encoders, key=lambda file: file.input.dtype != "float32")]
    usual = next((scaling for scaling in declared if scaling), _USUAL)
    mean, scale = usual.mean if mean is None else mean, usual.scale if scale is None else scale
    _, height, width, channels = encoders[0].input.shape
    for name, values in (("mean", mean), ("scale", scale)):
        if len(values) not in (1, channels):
            message = f"--{name} has {len(values)} values: give one, or {channels} for this encoder"
            raise DataError(message, reason="bad_scaling")
        least = MIN_SCALE if name == "scale" else 0.0  # pixels are divided by it
        if not all(least <= abs(value) <= MAX_LEVEL for value in values):
            said = " ".join(f"{value:g}" for value in values)
            message = f"--{name} {said}: give {least:g} to {MAX_LEVEL:,.0f}, or as much below 0"
            raise DataError(message, reason="bad_scaling")
    means, scales = (tuple(values) * (channels if len(values) == 1 else 1) for values in (mean, scale))
    return InputSection(
        height=height,
        width=width,
        colour="grey" if channels == 1 else "rgb",
        resize="bilinear",
        mean=means,
        scale=scales,
        value_range=value_range(means, scales),
        min_contrast=16,
    )

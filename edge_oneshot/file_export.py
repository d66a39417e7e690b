"""Export an encoder that somebody else made, with preprocessing and images of one's own, as a bundle."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from edge_oneshot.bundle_options import EncoderFileOptions, Eyes
from edge_oneshot.data.archives import Unreadable
from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.loading import load_data
from edge_oneshot.errors import DataError
from edge_oneshot.faces.inputs import face_files, open_finder, placed_faces
from edge_oneshot.faces.packages import FINDING
from edge_oneshot.faces.representative import golden_faces
from edge_oneshot.unseen_data import published_data, published_names
from edge_oneshot_device.bundle.fields import MAX_LEVEL, MIN_SCALE
from edge_oneshot_device.bundle.manifest import InputSection, Provenance, value_range
from edge_oneshot_export.encoder_files import EncoderFile, check_scaling, export_encoders, read_encoder
from edge_oneshot_export.formats.scaling import Scaling
from edge_oneshot_export.keras_export import check_export
from edge_oneshot_export.options import ExportOptions
from edge_oneshot_export.packing.packer import BundleSpec, ExportReport

_USUAL: Final = Scaling((127.5,), (127.5,), "")  # -1 to 1


def export_files(
    files: Sequence[Path],
    out: str | Path,
    data: str,
    options: ExportOptions | None = None,
    own: EncoderFileOptions | None = None,
    *,
    data_dir: Path | None = None,
    progress: Callable[[str], None] | None = None,
    unreadable: Unreadable | None = None,
) -> ExportReport:
    """Export an encoder that somebody else made, calibrated on images of one's own.

    Args:
        files: .tflite and .onnx files of one encoder, each another variant.
        out: ``NAME.oneshot``.
        data: Images of identities that the encoder was not trained on, see `load_data`.
        options: What the user chooses for any export; None takes the defaults.
        own: What the files leave open; None takes the defaults. With `faces`, faces are found in the photos, aligned
            and cut out with the nets of the extra ``faces``, here as on the device.
        data_dir: Folder of Omniglot's archives.
        progress: Called with the name of each step as it begins.
        unreadable: Called with each image of the folder that cannot be read, and the reason; it is left out. Without
            it such an image is an error.

    Returns:
        What was written.

    Raises:
        DataError: The data is missing, broken or too little, the extra ``faces`` is not installed, or an encoder of
            faces takes grey images.
        InputError, ModelError, ExportError: See `edge_oneshot_export.encoder_files`.
    """
    options, own = options or ExportOptions(), own or EncoderFileOptions()
    check_export(Path(out), options)
    encoders = [read_encoder(path, size=own.size, outputs=own.output) for path in files]
    section = _section(encoders, own.mean, own.scale)
    if not own.anyway:
        check_scaling(encoders, section)
    if progress:
        progress("loading the images")
    finder = None
    if own.faces:
        section = _with_faces(section, own.faces if isinstance(own.faces, tuple) else None)
        finder = open_finder(section)
    people = load_data(data, section, data_dir=data_dir, faces=finder, unreadable=unreadable)
    spec = BundleSpec(
        input=section,
        metric=own.metric,
        provenance=_provenance(data, people, faces=finder is not None),
        golden=golden_faces(finder) if finder else None,
        files=face_files() if finder else {},
    )
    return export_encoders(
        encoders, out, spec, calibration=people.labelled(), options=options, anyway=own.anyway, progress=progress
    )


def _provenance(data: str, people: Dataset, *, faces: bool) -> Provenance:
    return Provenance(
        data=published_data(data),
        seed=None,
        images_seen=0,
        trained_on=(),
        held_out=published_names(data, people.group_names),
        versions={},
        commit=None,
        licences=tuple(file.licence for file in FINDING) if faces else (),
    )


def _with_faces(section: InputSection, eyes: Eyes | None) -> InputSection:
    if section.channels != 3:
        message = "the encoder takes grey images: faces are cut in colour, give one that takes RGB"
        raise DataError(message, reason="bad_input")
    return msgspec.structs.replace(section, face=placed_faces(section.width, section.height, eyes))


def _section(
    encoders: Sequence[EncoderFile], mean: Sequence[float] | None, scale: Sequence[float] | None
) -> InputSection:
    """The input section of these encoders: the given mean and scale, else what a file declares, else -1 to 1."""
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

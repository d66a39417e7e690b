"""Export of SFace with the nets that find and follow faces."""

import math
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec

from edge_oneshot.errors import DataError
from edge_oneshot.faces import packages
from edge_oneshot.faces.inputs import face_files, face_input
from edge_oneshot.faces.parity import check_parity
from edge_oneshot.faces.representative import golden_faces, representative_faces
from edge_oneshot.faces.sface import DEFAULT_VARIANTS, build_sface
from edge_oneshot_device.bundle.manifest import Calibration, Provenance
from edge_oneshot_device.faces.finding import FaceFinder
from edge_oneshot_export.formats.conversion import spread
from edge_oneshot_export.keras_export import check_export, export
from edge_oneshot_export.options import ExportOptions
from edge_oneshot_export.packing.packer import BundleSpec, ExportReport
from edge_oneshot_export.variants import VARIANTS

_MEASURED: Final = {"float32": "float32", "float16": "float32"}  # whose thresholds a precision has
_COMPARED: Final = 4  # images that the ported net is shown beside its ONNX file
_USED: Final = (packages.SFACE.stored, *packages.FINDING, packages.SMALL_FACES)


def export_faces(
    out: str | Path,
    options: ExportOptions | None = None,
    *,
    weights: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> ExportReport:
    """Export the face encoder: ported to Keras, compared with its ONNX file, quantized.

    Drift is measured on the images of packages. The thresholds are from half of Labeled Faces in the Wild, see
    docs/reference/faces.md, so that every decision says `provisional` until `calibrate` has chosen others.

    Args:
        out: ``NAME.oneshot``.
        options: What the user chooses; None takes the defaults, the variants dynamic and float32. The thresholds exist
            for some target FARs only.
        weights: Folder of the ONNX files of SFace and YuNet; None takes those of the extra ``faces``, or downloads
            them, see `edge_oneshot.faces.packages.read_net`.
        progress: Called with the name of each step as it begins.

    Returns:
        What was written and what was left out.

    Raises:
        DataError: A net is missing or another file, a package of the extra ``faces`` is missing, or the target FAR has
            no threshold.
        InputError, ModelError, ExportError: See `edge_oneshot_export.export`.
    """
    say = progress or (lambda _step: None)
    options = options or ExportOptions()
    if options.variants is None:
        options = msgspec.structs.replace(options, variants=DEFAULT_VARIANTS)
    check_export(Path(out), options)
    thresholds = provisional_thresholds(options.chosen, options.target_far)
    say("reading the face networks")
    content = packages.read_net(packages.SFACE, weights)
    section, files = face_input(weights), face_files(weights)
    assert section.face is not None
    finder = FaceFinder(files, section, section.face)
    images = representative_faces(section, finder).images
    model = build_sface(content)
    say("comparing with ONNX Runtime")
    check_parity(model, content, spread(images, _COMPARED))
    spec = BundleSpec(
        input=section,
        metric="cosine",
        provenance=Provenance(
            data="SFace (OpenCV's model zoo, 2021dec), trained by its authors on photos of people gathered on the web",
            seed=None,
            images_seen=0,
            trained_on=(),
            held_out=(),
            versions={},
            commit=None,
            licences=tuple(file.licence for file in _USED),
        ),
        golden=golden_faces(finder),
        files=files,
        thresholds=thresholds,
    )
    return export(
        model,
        out,
        spec,
        images=images,
        calibration=representative_faces(section, finder, seed=1),
        options=options,
        progress=progress,
    )


def provisional_thresholds(variants: Sequence[str], target_far: float | None) -> dict[str, tuple[Calibration, ...]]:
    """The committed thresholds of each variant: those of float32 for floats, those of dynamic for all others.

    Args:
        variants: Names of the variants.
        target_far: The default target FAR; None takes the committed one.

    Raises:
        DataError: Reason ``unsupported_target``: there are no thresholds for `target_far`.
    """
    content = resources.files("edge_oneshot.faces").joinpath("provisional.json").read_bytes()
    measured = msgspec.json.decode(content, type=tuple[Calibration, ...])
    # more templates need more photos of a person, and reach less far
    targets = min(([point.target_far for point in own.points] for own in measured), key=len)
    target = measured[0].target_far if target_far is None else target_far
    known = next((own for own in targets if math.isclose(own, target)), None)
    if known is None:
        message = f"the provisional thresholds have no false accept rate of {target_far:g}, they have"
        advice = "name one of them, and calibrate with people of your own for others"
        raise DataError(f"{message} {', '.join(f'{own:g}' for own in targets)}; {advice}", reason="unsupported_target")
    return {
        variant: tuple(
            msgspec.structs.replace(calibration, variant=variant, target_far=known)
            for calibration in measured
            if calibration.variant == _MEASURED.get(VARIANTS[variant].precision, "dynamic")
        )
        for variant in variants
    }

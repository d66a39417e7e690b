"""How a photo becomes the face encoder's input: detectors, template, scaling."""

from importlib import resources
from typing import Final

import msgspec

from edge_oneshot.faces import packages
from edge_oneshot.faces.net import MEAN, SCALE, SIDE
from edge_oneshot_device.manifest import FaceKind, FaceModel, FacePoint, FaceSection, InputSection, value_range

_MIN_SCORE: Final = 0.5  # MediaPipe's own, for all three
_MAX_OVERLAP: Final = 0.3  # likewise
# below, the embedding moves by a quarter and more of what people differ by (docs/faces.md)
_MIN_EYE_DISTANCE: Final = 20.0
_FILES: Final = {
    "faces/finder.tflite": packages.FINDER,
    "faces/closer.tflite": packages.CLOSER,
    "faces/mesh.tflite": packages.MESH,
}


def face_files() -> dict[str, bytes]:
    """Members of the bundle that find a face, from the installed packages: path to content.

    Raises:
        DataError: ``extra_missing`` or ``wrong_file``.
    """
    return {path: packages.read_package_file(file) for path, file in _FILES.items()}


def face_input() -> InputSection:
    """How the device makes the face encoder's input from a photo."""
    kinds: tuple[tuple[FaceKind, int], ...] = (("blazeface-full", 192), ("blazeface-short", 128), ("facemesh", 192))
    finder, closer, mesh = (
        FaceModel(file=path, sha256=file.sha256, kind=kind, size=size, min_score=_MIN_SCORE)
        for (path, file), (kind, size) in zip(_FILES.items(), kinds, strict=True)
    )
    template = resources.files("edge_oneshot.faces").joinpath("template.json").read_bytes()
    scale = (SCALE,) * 3
    return InputSection(
        height=SIDE,
        width=SIDE,
        colour="rgb",
        resize="bicubic",
        mean=MEAN,
        scale=scale,
        value_range=value_range(MEAN, scale),
        min_contrast=16,
        face=FaceSection(
            finder=finder,
            closer=closer,
            mesh=mesh,
            max_overlap=_MAX_OVERLAP,
            template=msgspec.json.decode(template, type=tuple[FacePoint, ...]),
            min_eye_distance=_MIN_EYE_DISTANCE,
        ),
    )

"""The input section of the face encoder: detectors, alignment template, scaling."""

from importlib import resources
from typing import Final

import msgspec

from edge_oneshot.bundle_options import Eyes
from edge_oneshot.faces import packages
from edge_oneshot.faces.net import SCALE, SIDE
from edge_oneshot_device.bundle.face_section import FaceKind, FaceLimits, FaceModel, FacePoint, FaceSection
from edge_oneshot_device.bundle.manifest import InputSection, value_range
from edge_oneshot_device.faces.finding import FaceFinder

_MIN_SCORE: Final = 0.5  # MediaPipe's default, for all three
_MAX_OVERLAP: Final = 0.3  # MediaPipe's default
# in smaller faces the embedding moves by a quarter or more of the distance of two people (docs/experiments/faces.md)
_MIN_EYE_DISTANCE: Final = 20.0
# where the embedding has moved by half the least distance of two people (benchmarks/research/faces_quality.py)
_LIMITS: Final = FaceLimits(
    max_outside=0.25, max_yaw=25.0, max_pitch=20.0, min_light=40.0, max_glare=0.3, max_blur=0.72
)
_EYE_CORNERS: Final = ((33, 133), (362, 263))  # points of the mesh; the eye on the left of the picture first

_FILES: Final = {
    "faces/finder.tflite": packages.FINDER,
    "faces/closer.tflite": packages.CLOSER,
    "faces/mesh.tflite": packages.MESH,
}


def face_files() -> dict[str, bytes]:
    """The detectors as members of the bundle, from the installed packages: path to content.

    Raises:
        DataError: Reason ``extra_missing`` or ``wrong_file``.
    """
    return {path: packages.read_package_file(file) for path, file in _FILES.items()}


def open_finder(section: InputSection) -> FaceFinder:
    """Open the detectors of an input section with a face part, from the installed packages.

    Raises:
        DataError: Reason ``extra_missing`` or ``wrong_file``.
    """
    assert section.face is not None
    return FaceFinder(face_files(), section, section.face)


def face_input() -> InputSection:
    """The input section of dlib's face encoder."""
    kinds: tuple[tuple[FaceKind, int], ...] = (("blazeface-full", 192), ("blazeface-short", 128), ("facemesh", 192))
    finder, closer, mesh = (
        FaceModel(file=path, sha256=file.sha256, kind=kind, size=size, min_score=_MIN_SCORE)
        for (path, file), (kind, size) in zip(_FILES.items(), kinds, strict=True)
    )
    template = resources.files("edge_oneshot.faces").joinpath("template.json").read_bytes()
    mean, scale = (0.0,) * 3, (SCALE,) * 3
    return InputSection(
        height=SIDE,
        width=SIDE,
        colour="rgb",
        resize="bicubic",
        mean=mean,
        scale=scale,
        value_range=value_range(mean, scale),
        min_contrast=16,
        face=FaceSection(
            finder=finder,
            closer=closer,
            mesh=mesh,
            max_overlap=_MAX_OVERLAP,
            template=msgspec.json.decode(template, type=tuple[FacePoint, ...]),
            min_eye_distance=_MIN_EYE_DISTANCE,
            limits=_LIMITS,
        ),
    )


def small_face_input(size: int) -> InputSection:
    """The input section of a face encoder that is trained here: ``size x size`` pixels in -1..1."""
    mean = scale = (127.5,) * 3
    whole = face_input()
    return msgspec.structs.replace(
        whole, height=size, width=size, mean=mean, scale=scale, value_range=value_range(mean, scale)
    )


def placed_faces(width: int, height: int, eyes: Eyes | None = None) -> FaceSection:
    """The face part of the input section of the user's own encoder.

    Args:
        width: Width of its input in pixels.
        height: Height of its input in pixels.
        eyes: The middles of the eyes in its input; None takes those of dlib's encoder.
    """
    section = face_input().face
    assert section is not None
    if eyes is None:
        return section
    places = {place.point: complex(place.x, place.y) for place in section.template}
    own = [sum(places[corner] for corner in corners) / 2 for corners in _EYE_CORNERS]
    wanted = [complex(x * width, y * height) for x, y in (eyes[:2], eyes[2:])]
    turn = (wanted[1] - wanted[0]) / (own[1] - own[0])
    moved = {point: wanted[0] + turn * (place - own[0]) for point, place in places.items()}
    template = tuple(FacePoint(point=point, x=at.real / width, y=at.imag / height) for point, at in moved.items())
    return msgspec.structs.replace(section, template=template)

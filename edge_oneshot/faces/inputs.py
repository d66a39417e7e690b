"""The input section of the face encoder: finder, mesh, alignment template, scaling."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from edge_oneshot.bundle_options import Eyes
from edge_oneshot.errors import DataError
from edge_oneshot.faces import packages, sface, yunet
from edge_oneshot_device.bundle.face_section import FaceKind, FaceLimits, FaceModel, FacePoint, FaceSection
from edge_oneshot_device.bundle.manifest import InputSection, value_range
from edge_oneshot_device.faces.finding import FaceFinder

_FINDER: Final = "faces/finder.tflite"
_MESH: Final = "faces/mesh.tflite"
_FINDER_SCORE: Final = 0.85  # docs/experiments/faces.md
_MESH_SCORE: Final = 0.5  # MediaPipe's default
_MAX_OVERLAP: Final = 0.3  # OpenCV's default for YuNet
# in smaller faces the embedding moves by a quarter or more of the distance of two people (docs/experiments/faces.md)
_MIN_EYE_DISTANCE: Final = 20.0
# where people begin to be rejected (benchmarks/research/faces_gate.py, docs/experiments/faces.md)
_LIMITS: Final = FaceLimits(
    max_outside=0.4, max_yaw=40.0, max_pitch=20.0, min_detail=0.13, min_light=40.0, max_glare=0.2, max_blur=0.68
)
# where SFace has the finder's points, in pixels of its input: eyes, tip of the nose, corners of the mouth
_TEMPLATE: Final = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)


def face_files(weights: Path | None = None) -> dict[str, bytes]:
    """The nets that find and follow faces as members of the bundle: path to content.

    Args:
        weights: Folder of the finder's ONNX file, see `edge_oneshot.faces.packages.read_net`.

    Raises:
        DataError: See `read_net` and `read_package_file`.
        ExportError: The converter failed.
    """
    return {_FINDER: _finder(weights), _MESH: packages.read_package_file(packages.MESH)}


@cache
def _finder(weights: Path | None) -> bytes:
    return yunet.convert_yunet(packages.read_net(packages.YUNET, weights))


def open_finder(section: InputSection) -> FaceFinder:
    """Open the nets of an input section with a face part.

    Raises:
        DataError: As `face_files`.
    """
    assert section.face is not None
    return FaceFinder(face_files(), section, section.face)


def face_input(weights: Path | None = None) -> InputSection:
    """The input section of SFace, whose pixels stay 0..255.

    Args:
        weights: As `face_files` takes it.

    Raises:
        DataError, ExportError: As `face_files`.
    """
    mean, scale = (0.0,) * 3, (1.0,) * 3
    return InputSection(
        height=sface.SIDE,
        width=sface.SIDE,
        colour="rgb",
        resize="bicubic",
        mean=mean,
        scale=scale,
        value_range=value_range(mean, scale),
        min_contrast=16,
        face=_face_section(weights),
    )


def _face_section(weights: Path | None = None) -> FaceSection:
    return FaceSection(
        finder=_model(_FINDER, weights, "yunet", yunet.SIDE, _FINDER_SCORE),
        mesh=_model(_MESH, weights, "facemesh", 192, _MESH_SCORE),
        max_overlap=_MAX_OVERLAP,
        template=tuple(
            FacePoint(point=point, x=x / sface.SIDE, y=y / sface.SIDE) for point, (x, y) in enumerate(_TEMPLATE)
        ),
        min_eye_distance=_MIN_EYE_DISTANCE,
        limits=_LIMITS,
    )


def _model(path: str, weights: Path | None, kind: FaceKind, size: int, score: float) -> FaceModel:
    digest = hashlib.sha256(face_files(weights)[path]).hexdigest()
    return FaceModel(file=path, sha256=digest, kind=kind, size=size, min_score=score)


def small_face_input(size: int) -> InputSection:
    """The input section of a face encoder that is trained here: ``size x size`` pixels in -1..1."""
    mean = scale = (127.5,) * 3
    return msgspec.structs.replace(
        face_input(),
        height=size,
        width=size,
        mean=mean,
        scale=scale,
        value_range=value_range(mean, scale),
        face=placed_faces(size, size),
    )


def renewed(section: InputSection) -> InputSection:
    """A run's input section with the nets as they are now: another TensorFlow may convert the finder differently.

    Raises:
        DataError: ``former_faces``: an earlier release trained the run on faces that other nets had found.
    """
    if section.face is None:
        return section
    if section.face.finder.kind != "yunet":
        message = "the run was trained on faces that nets of an earlier release had found; train it again"
        raise DataError(message, reason="former_faces")
    now = _face_section()
    face = msgspec.structs.replace(section.face, finder=now.finder, mesh=now.mesh)
    return msgspec.structs.replace(section, face=face)


def placed_faces(width: int, height: int, eyes: Eyes | None = None) -> FaceSection:
    """The face part of the input section of the user's own encoder.

    Args:
        width: Width of its input in pixels.
        height: Height of its input in pixels.
        eyes: The middles of the eyes in its input; None takes those of SFace.
    """
    section = _face_section()
    if eyes is None and width == height == sface.SIDE:
        return section
    # how much detail a covered face has depends on the chip: the limit is fitted to SFace's
    section = msgspec.structs.replace(section, limits=msgspec.structs.replace(_LIMITS, min_detail=None))
    if eyes is None:
        return section
    places = [complex(place.x, place.y) for place in section.template]
    wanted = [complex(x * width, y * height) for x, y in (eyes[:2], eyes[2:])]
    turn = (wanted[1] - wanted[0]) / (places[1] - places[0])
    moved = [wanted[0] + turn * (place - places[0]) for place in places]
    template = tuple(FacePoint(point=point, x=at.real / width, y=at.imag / height) for point, at in enumerate(moved))
    return msgspec.structs.replace(section, template=template)

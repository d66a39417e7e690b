"""The face part of the manifest's input section: how the face in a photo becomes the model's input."""

from typing import Annotated, Literal

import msgspec

from edge_oneshot_device.bundle.fields import Digest, MemberPath, Rate, Section

MESH_POINTS = 468

FaceKind = Literal["blazeface-short", "blazeface-full", "facemesh"]


class FaceModel(Section, frozen=True):
    """A net of the way from a photo to a face: float32 TFLite, a square RGB input.

    Attributes:
        file: The member.
        sha256: Its digest, here as well, so that it is in the fingerprints.
        kind: What it is, and so how its outputs are read.
        size: Side of the square that it is shown, in pixels.
        min_score: How sure it has to be, 0..1, that something is a face.
    """

    file: MemberPath
    sha256: Digest
    kind: FaceKind
    size: Annotated[int, msgspec.Meta(ge=32, le=1024)]
    min_score: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)]


class FacePoint(Section, frozen=True):
    """Where a point of the mesh belongs in the model's input: x and y in 0..1 of its width and height, or near it."""

    point: Annotated[int, msgspec.Meta(ge=0, lt=MESH_POINTS)]
    x: Annotated[float, msgspec.Meta(ge=-1.0, le=2.0)]
    y: Annotated[float, msgspec.Meta(ge=-1.0, le=2.0)]


class FaceLimits(Section, frozen=True):
    """What a face must be like to be embedded, see `edge_oneshot_device.faces.quality.Quality`.

    Attributes:
        max_outside: Share of it beyond the frame.
        max_yaw: Degrees to either side.
        max_pitch: Degrees up or down.
        min_light: Level of 255 that its light parts reach.
        max_glare: Share of it that is burnt out.
        max_blur: 0..1.
    """

    max_outside: Rate
    max_yaw: Annotated[float, msgspec.Meta(gt=0.0, le=90.0)]
    max_pitch: Annotated[float, msgspec.Meta(gt=0.0, le=90.0)]
    min_light: Annotated[float, msgspec.Meta(ge=0.0, le=255.0)]
    max_glare: Rate
    max_blur: Rate


class FaceSection(Section, frozen=True, omit_defaults=True):
    """How the face in a photo becomes the model's input, see `edge_oneshot_device.faces`.

    Attributes:
        finder: Finds faces in the whole photo.
        closer: Looks at each face again, closely, and says where it is.
        mesh: Finds the points of a face.
        max_overlap: Intersection over union above which two boxes are of the same face.
        template: The points that the face is laid on.
        min_eye_distance: In pixels of the photo; a smaller face is refused.
        limits: Of other faces that are refused; unsaid where none is, as in bundles made before there were any.
    """

    finder: FaceModel
    closer: FaceModel
    mesh: FaceModel
    max_overlap: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)]
    template: Annotated[tuple[FacePoint, ...], msgspec.Meta(min_length=2, max_length=MESH_POINTS)]
    min_eye_distance: Annotated[float, msgspec.Meta(ge=1.0, le=1000.0)]
    limits: FaceLimits | None = None

    @property
    def models(self) -> tuple[FaceModel, FaceModel, FaceModel]:
        """All nets."""
        return self.finder, self.closer, self.mesh

"""The face part of the manifest's input section: how the face in a photo becomes the model's input."""

from typing import Annotated, Literal

import msgspec

from edge_oneshot_device.bundle.fields import Digest, MemberPath, Rate, Section

FINDER_POINTS = 5
MESH_POINTS = 468

FaceKind = Literal["yunet", "blazeface-short", "blazeface-full", "facemesh"]
"""The BlazeFace kinds are those of bundles of earlier releases; nothing finds faces with them any more."""


class FaceModel(Section, frozen=True):
    """A net that finds a face or its points: a float32 TFLite file with a square RGB input.

    Attributes:
        file: Path of the member.
        sha256: Its digest; it is repeated here so that the fingerprints cover it.
        kind: The architecture, which says how its outputs are decoded.
        size: Side of the net's input as the file is stored, in pixels. A finder also takes any other multiple of 32.
        min_score: Lowest score that counts as a face, 0..1; of the finder in the closer look.
    """

    file: MemberPath
    sha256: Digest
    kind: FaceKind
    size: Annotated[int, msgspec.Meta(ge=32, le=1024)]
    min_score: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)]


class FacePoint(Section, frozen=True):
    """The place of a point of a face in the model's input, as shares of its width and height, in 0..1 or near.

    Attributes:
        point: Number of the finder's point, see `edge_oneshot_device.faces.detection.Detection`; in earlier bundles of
            the mesh's.
        x, y: Its place.
    """

    point: Annotated[int, msgspec.Meta(ge=0, lt=MESH_POINTS)]
    x: Annotated[float, msgspec.Meta(ge=-1.0, le=2.0)]
    y: Annotated[float, msgspec.Meta(ge=-1.0, le=2.0)]


class FaceLimits(Section, frozen=True, kw_only=True, omit_defaults=True):
    """Limits of the quality gate, see `edge_oneshot_device.faces.quality.Quality`.

    Attributes:
        max_outside: Share of the face outside the frame.
        max_yaw: Degrees to either side.
        max_pitch: Degrees up or down.
        min_detail: Contrast of each part that is looked at for a cover, by that of the face; None: any.
        min_light: Level that the light parts of the face reach, 0..255.
        max_glare: Share of saturated pixels.
        max_blur: Blur, 0..1.
    """

    max_outside: Rate
    max_yaw: Annotated[float, msgspec.Meta(gt=0.0, le=90.0)]
    max_pitch: Annotated[float, msgspec.Meta(gt=0.0, le=90.0)]
    min_detail: Rate | None = None
    min_light: Annotated[float, msgspec.Meta(ge=0.0, le=255.0)]
    max_glare: Rate
    max_blur: Rate


class FaceSection(Section, frozen=True, kw_only=True, omit_defaults=True):
    """How the face in a photo becomes the model's input, see `edge_oneshot_device.faces`.

    Attributes:
        finder: Detector for the whole photo and for a closer look at each face in it.
        closer: In earlier bundles a second detector, for the closer look.
        mesh: Net that finds the 468 points of a face that a challenge follows.
        max_overlap: Intersection over union above which two boxes belong to the same face.
        template: The places in the model's input that the face is aligned to.
        min_eye_distance: Smallest distance between the eyes, in pixels of the photo; a smaller face is refused.
        limits: Limits of the quality gate; absent without one, as in bundles made before it existed.
    """

    finder: FaceModel
    closer: FaceModel | None = None
    mesh: FaceModel
    max_overlap: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)]
    template: Annotated[tuple[FacePoint, ...], msgspec.Meta(min_length=2, max_length=MESH_POINTS)]
    min_eye_distance: Annotated[float, msgspec.Meta(ge=1.0, le=1000.0)]
    limits: FaceLimits | None = None

    @property
    def models(self) -> tuple[FaceModel, ...]:
        """All nets."""
        return (self.finder, self.mesh) if self.closer is None else (self.finder, self.closer, self.mesh)

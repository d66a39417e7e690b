"""The options of a training: what determines its result, and where it runs.

An option of a training is a field here. The command line is made from the fields, `train` takes them whole, and
run.json keeps those of `Recipe`.
"""

from typing import Annotated, Literal

from msgspec import Meta

from edge_oneshot.data.options import DataDir
from edge_oneshot_device.options import Options

Orientations = Literal[1, 4, 8, 16]
Views = Literal[1, 2]
Precision = Literal["float32", "bfloat16"]
Framing = Literal["whole", "ink"]
ObjectiveName = Literal["cosine", "contrastive", "triplet", "prototypical", "koch"]
StrategyName = Literal["one", "mirrored", "multiworker"]

FACES = "faces"
"""The value of `start` that means dlib's face encoder; a run of that name is ./faces."""


class Recipe(Options, frozen=True, kw_only=True):
    """What determines the result of a training, beside its data and the encoder's input.

    None stands for a default that follows from the data or from the encoder.
    """

    minutes: Annotated[
        Annotated[float, Meta(gt=0, le=525_600)] | None,  # a year at most
        Meta(
            description="length in minutes from the first step on (default: 20; 2 with --start faces)",
            extra={"metavar": "M", "exclusive": "length"},
        ),
    ] = None
    images: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="length in images seen; the same seed then gives the same weights",
            extra={"metavar": "N", "exclusive": "length"},
        ),
    ] = None
    seed: Annotated[int, Meta(ge=0, description="random seed")] = 0
    batch: Annotated[int, Meta(ge=2, description="images per step")] = 64
    learning_rate: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(description="peak learning rate (default: 0.002; 0.0001 with --start faces)"),
    ] = None
    held_out: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="alphabets or people held out of training (default: a sixth)", extra={"metavar": "N"}),
    ] = None
    augment: Annotated[
        str | None,
        Meta(
            description="augmentation preset (default: drawings; photos for a folder)",
            extra={"choices": ("drawings", "photos")},
        ),
    ] = None
    orientations: Annotated[
        Orientations | None,
        Meta(
            description="classes made of each identity: 1: upright; 4: each quarter turn; 8: also those of the mirror "
            "image; 16: also all of these turned by 45 degrees (default: 4 for drawings, 1 for photos)"
        ),
    ] = None
    net: Annotated[
        str,
        Meta(description="base, tiny, or layers such as 'down16 24 pool 32 res32 1x16'", extra={"metavar": "NET"}),
    ] = "base"
    embedding: Annotated[int, Meta(ge=2, le=4096, description="embedding size of a view")] = 128
    views: Annotated[
        Views | None,
        Meta(
            description="2: the encoder also sees each image turned by 90 degrees; this halves its speed and lowers "
            "its error (default: 2 where turned images are classes of their own)"
        ),
    ] = None
    objective: Annotated[ObjectiveName, Meta(description="training objective; cosine is a softmax with a margin")] = (
        "cosine"
    )
    precision: Annotated[
        Precision, Meta(description="precision of the step; bfloat16 is faster on processors with AMX and on GPUs")
    ] = "float32"
    start: Annotated[
        str | None,
        Meta(
            description="start from the encoder of this run instead of random weights; faces: from dlib's face "
            "encoder, of which the last stage is trained",
            extra={"metavar": "RUN"},
        ),
    ] = None


class TrainOptions(Recipe, frozen=True, kw_only=True):
    """The options of `edge-oneshot train` that determine its result."""

    size: Annotated[int, Meta(ge=16, le=256, description="side of the encoder's input in pixels")] = 48
    framing: Annotated[
        Framing | None,
        Meta(description="what is seen of an image: all of it, or a square about its ink (default: ink for drawings)"),
    ] = None
    faces: Annotated[
        bool,
        Meta(description="photos of people: cut the faces out as the device does (implied by --start faces)"),
    ] = False


class ExecutionOptions(Options, frozen=True, kw_only=True):
    """Where a training runs; each start and each resume may choose anew."""

    strategy: Annotated[
        StrategyName,
        Meta(
            description="one device; mirrored: all GPUs of this machine; multiworker: a process on each machine that "
            "TF_CONFIG names"
        ),
    ] = "one"
    tensorboard: Annotated[bool, Meta(description="write logs for TensorBoard to RUN/tensorboard")] = False
    data_dir: DataDir | None = None

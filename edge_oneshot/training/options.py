"""The options of a training: what determines its result, and where it runs.

An option of a training is a field here. The command line is made from the fields, `train` takes them whole, and
run.json keeps those of `Recipe`.
"""

from typing import Annotated, Literal

from msgspec import Meta

from edge_oneshot.data.options import DataDir
from edge_oneshot_device.options import Options, option

Orientations = Literal[1, 4, 8, 16]
Views = Literal[1, 2]
Precision = Literal["float32", "bfloat16"]
Framing = Literal["whole", "ink"]
ObjectiveName = Literal["cosine", "contrastive", "triplet", "prototypical", "koch"]
StrategyName = Literal["one", "mirrored", "multiworker"]

FACES = "faces"
"""The value of `start` that means SFace, the face encoder; a run of that name is ./faces."""


class Recipe(Options, frozen=True, kw_only=True):
    """What determines the result of a training, beside its data and the encoder's input.

    None stands for a default that follows from the data or from the encoder.
    """

    minutes: Annotated[
        Annotated[float, Meta(gt=0, le=525_600)] | None,  # a year at most
        option(
            "length in minutes from the first step on (default: 20; 5 for recordings; 2 with --start faces)",
            metavar="M",
            exclusive="length",
        ),
    ] = None
    images: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        option("length in images seen; the same seed then gives the same weights", metavar="N", exclusive="length"),
    ] = None
    seed: Annotated[int, option("random seed", ge=0)] = 0
    batch: Annotated[int, option("images per step", ge=2)] = 64
    learning_rate: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        option("peak learning rate (default: 0.002; 0.004 for recordings; 0.0001 with --start faces)"),
    ] = None
    held_out: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        option("alphabets, people or sets of words held out of training (default: a sixth)", metavar="N"),
    ] = None
    augment: Annotated[
        str | None,
        option(
            "augmentation preset (default: drawings; photos for a folder; speech for recordings, voices where it "
            "matters who speaks)",
            choices=("drawings", "photos", "speech", "voices"),
        ),
    ] = None
    orientations: Annotated[
        Orientations | None,
        option(
            "classes made of each identity: 1: upright; 4: each quarter turn; 8: also those of the mirror "
            "image; 16: also all of these turned by 45 degrees (default: 4 for drawings, else 1)"
        ),
    ] = None
    net: Annotated[
        str | None,
        option(
            "base, tiny, or layers such as 'down16 24 pool 32 res32 1x16' (default: base; tiny for recordings)",
            metavar="NET",
        ),
    ] = None
    embedding: Annotated[
        Annotated[int, Meta(ge=2, le=4096)] | None,
        option("embedding size of a view (default: 128; 96 for recordings)"),
    ] = None
    views: Annotated[
        Views | None,
        option(
            "2: the encoder also sees each image turned by 90 degrees; this halves its speed and lowers "
            "its error (default: 2 where turned images are classes of their own)"
        ),
    ] = None
    objective: Annotated[ObjectiveName, option("training objective; cosine is a softmax with a margin")] = "cosine"
    precision: Annotated[
        Precision, option("precision of the step; bfloat16 is faster on processors with AMX and on GPUs")
    ] = "float32"
    start: Annotated[
        str | None,
        option(
            "start from the encoder of this run instead of random weights; faces: from SFace, the face "
            "encoder, of which the last block is trained",
            metavar="RUN",
        ),
    ] = None


class TrainOptions(Recipe, frozen=True, kw_only=True):
    """The options of `edge-oneshot train` that determine its result."""

    size: Annotated[int, option("side of the encoder's input in pixels; not for recordings", ge=16, le=256)] = 48
    framing: Annotated[
        Framing | None,
        option("what is seen of an image: all of it, or a square about its ink (default: ink for drawings)"),
    ] = None
    faces: Annotated[
        bool, option("photos of people: cut the faces out as the device does (implied by --start faces)")
    ] = False


class ExecutionOptions(Options, frozen=True, kw_only=True):
    """Where a training runs; each start and each resume may choose anew."""

    strategy: Annotated[
        StrategyName,
        option(
            "one device; mirrored: all GPUs of this machine; multiworker: a process on each machine that "
            "TF_CONFIG names"
        ),
    ] = "one"
    tensorboard: Annotated[bool, option("write logs for TensorBoard to RUN/tensorboard")] = False
    data_dir: DataDir | None = None

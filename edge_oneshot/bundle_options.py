"""The options of the workstation's commands that work on bundles; the command line is made from these fields."""

import argparse
import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_oneshot_device.bundle.manifest import Metric
from edge_oneshot_device.console import number
from edge_oneshot_device.encoding.options import VariantName
from edge_oneshot_device.options import Options, option

Protocol = Literal["lake", "within-alphabet", "random", "verification", "lfw"]
Eyes = tuple[float, float, float, float]
"""x, y, x, y of the middles of both eyes, in 0..1 of width and height; the one on the left of the picture first."""

_FOR_MODEL = "for --model"


class WaysRange(msgspec.Struct, frozen=True):
    """Every N from `lowest` to `highest`; None stands for the largest that the data allow."""

    lowest: int
    highest: int | None


def parse_ways(text: str) -> tuple[int, ...] | WaysRange:
    """Read the N of N-way tasks: ``5,20``, ``2..20`` or ``2..all``.

    Raises:
        ArgumentTypeError: The text has another form, or an N is below 2.
    """
    first, dots, last = text.partition("..")
    try:
        values = tuple(int(part) for part in (first if dots else text).split(","))
        highest = None if not dots or last == "all" else int(last)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is neither like 5,20 nor 2..20 nor 2..all") from error
    if min(values) < 2:
        raise argparse.ArgumentTypeError("each N must be at least 2")
    if not dots:
        return values
    if len(values) != 1 or (highest is not None and highest < values[0]):
        raise argparse.ArgumentTypeError(f"{text} is no range; say 2..20 or 2..all")
    return WaysRange(values[0], highest)


def _numbers(text: str) -> tuple[float, ...]:
    values = tuple(number(part) for part in text.split(","))
    if not all(math.isfinite(value) for value in values):
        raise argparse.ArgumentTypeError("must be numbers")
    return values


def _eyes(text: str) -> tuple[float, ...]:
    values = _numbers(text)
    if len(values) != 4 or values[:2] == values[2:] or not all(0.0 <= value <= 1.0 for value in values):
        raise argparse.ArgumentTypeError("must be x and y of both eyes, in 0 to 1")
    return values


def _size(text: str) -> tuple[int, int]:
    sides = tuple(int(side) for side in text.split("x"))
    if len(sides) not in (1, 2) or not all(8 <= side <= 1024 for side in sides):
        raise argparse.ArgumentTypeError("must be 8 to 1024, or two of these such as 112x96 (height x width)")
    return sides[0], sides[-1]


class EncoderFileOptions(Options, frozen=True, kw_only=True):
    """The options of `edge-oneshot export --model`: what the files of an encoder leave open."""

    mean: Annotated[
        tuple[float, ...] | None,
        option(
            "mean of the pixels, one value or one per channel: the model is given (pixel - mean) / scale "
            "(default: what the files declare, else 127.5)",
            section=_FOR_MODEL,
            metavar="M,...",
            type=_numbers,
        ),
    ] = None
    scale: Annotated[
        tuple[float, ...] | None,
        option("scale of the pixels, likewise", section=_FOR_MODEL, metavar="S,...", type=_numbers),
    ] = None
    size: Annotated[
        tuple[int, int] | None,
        option(
            "height and width of the input in pixels, where the file leaves them free",
            section=_FOR_MODEL,
            metavar="H[xW]",
            type=_size,
        ),
    ] = None
    output: Annotated[
        tuple[str, ...],
        option(
            "name of the output that is the embedding; several names where the files differ",
            section=_FOR_MODEL,
            metavar="NAME",
            nargs="+",
            type=str,
        ),
    ] = ()
    faces: Annotated[
        bool | Eyes,
        option(
            "the encoder takes faces, which are found in the photos, aligned and cut out; with the "
            "positions of the middles of the eyes in its input, in 0..1 (default: those of SFace)",
            section=_FOR_MODEL,
            metavar="X,Y,X,Y",
            action="store",
            nargs="?",
            const=True,
            type=_eyes,
        ),
    ] = False
    metric: Annotated[Metric, option("how embeddings are compared", section=_FOR_MODEL)] = "cosine"
    anyway: Annotated[
        bool,
        option(
            "write the bundle even if --mean and --scale contradict the file, or if the encoder does not "
            "tell the people apart",
            section=_FOR_MODEL,
        ),
    ] = False


class EvaluateOptions(Options, frozen=True, kw_only=True):
    """The options of `edge-oneshot evaluate`."""

    protocol: Annotated[
        Protocol,
        option(
            "lake: the official 20-way runs; within-alphabet, random: one-shot episodes within alphabets "
            "or over all identities; verification: all pairs of images; lfw: the ten folds of Labeled Faces in the "
            "Wild, from a folder with its pairs.txt"
        ),
    ]
    variant: VariantName = None
    runtime: Annotated[str | None, option("a runtime of the variant (default: its first)", metavar="R")] = None
    beside: Annotated[
        str | None,
        option("another variant, judged beside it on the same images (verification only)", metavar="V"),
    ] = None
    ways: Annotated[
        tuple[Annotated[int, Meta(ge=2)], ...] | WaysRange,
        option("N of the tasks: 5,20 or 2..20 or 2..all (default: 5,20)", metavar="N,...", type=parse_ways),
    ] = (5, 20)
    episodes: Annotated[int, option("tasks for each N of a list", ge=1, metavar="N")] = 2000
    seed: Annotated[int, option("random seed of the tasks", ge=0)] = 0

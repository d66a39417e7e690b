"""Checks of the input and output shapes of an encoder file, and its free sides."""

from collections.abc import Sequence
from typing import Final

from edge_oneshot_export.errors import ModelError

Size = tuple[int, int]
"""Height and width in pixels."""

_SIDES: Final = (8, 1024)  # allowed by the manifest
_VECTOR: Final = (2, 4096)  # likewise
_COLOURS: Final = (1, 3)


def image_sides(said: Sequence[int], size: Size | None) -> tuple[tuple[int, int, int, int], bool]:
    """The shape of an input that takes one image.

    Args:
        said: The shape in the file; a free side is 0 or less.
        size: The values for a free height and width.

    Returns:
        The shape without free sides, and whether the channels come first.

    Raises:
        ModelError: ``bad_input``: the input takes no image, several at once, or one of another size than `size`;
            ``free_size``: its height or width is free, and `size` is None.
    """
    sides = [max(side, 0) for side in said]
    shown = in_words(said)
    if not sides:
        raise _bad("its input has no shape that the file names: export it with one")
    if len(sides) != 4:
        message = f"its input is {shown}, no image: an encoder takes (1, height, width, channels)"
        raise _bad(f"{message}; give the part that takes the image")
    if sides[0] > 1:
        raise _bad(f"its input is {shown}: its batch is fixed at {sides[0]}; export it with a batch of 1 or a free one")
    last, first = sides[3] in _COLOURS, sides[1] in _COLOURS
    if not last and not first:
        why = "does not say where its channels are" if 0 in (sides[1], sides[3]) else "has neither 1 nor 3 channels"
        raise _bad(f"its input is {shown}, which {why}; export it for grey images or RGB, with its channels fixed")
    axes = (1, 2) if last else (2, 3)
    for axis, wanted, name in zip(axes, size or (0, 0), ("height", "width"), strict=True):
        if wanted and sides[axis] not in (0, wanted):
            message = f"its {name} is fixed at {sides[axis]}, but --size says {wanted}: leave --size out"
            raise _bad(f"{message}, or export the encoder for that size")
        sides[axis] = sides[axis] or wanted
        if not sides[axis]:
            message = f"its input is {shown}: its height and width are free; say them with --size, such as --size 112"
            raise ModelError(message, reason="free_size")
        if not _SIDES[0] <= sides[axis] <= _SIDES[1]:
            raise _bad(f"its input is {shown}: a bundle's images have sides of {_SIDES[0]} to {_SIDES[1]} pixels")
    return (1, sides[1], sides[2], sides[3]), not last


def vector_size(sides: Sequence[int]) -> int:
    """The number of values of an output of this shape; an unknown side is 0 or less.

    Raises:
        ModelError: ``bad_output``: the output is not a vector.
    """
    shown = in_words(sides)
    inner = sides[1:] if len(sides) > 1 else sides
    if any(side < 1 for side in inner):
        raise _bad(f"its output is {shown}, of a size that the file leaves open; export it with a fixed one", "output")
    long = [side for side in inner if side > 1] or [1]
    if len(long) > 1:
        message = f"its output is {shown}, a map and no vector: end it with a global average pooling, or a dense layer"
        raise _bad(message, "output")
    if not _VECTOR[0] <= long[0] <= _VECTOR[1]:
        message = f"its output is {shown}: an embedding has {_VECTOR[0]} to {_VECTOR[1]:,} values"
        raise _bad(message, "output")
    return long[0]


def choose_output(outputs: Sequence[tuple[Sequence[str], str]], wanted: Sequence[str]) -> int:
    """Choose the output that is the embedding.

    Args:
        outputs: The names of each output (a file may have two for one), and its type and shape in words.
        wanted: Names; the output with the first of these names that exists is taken. It may be empty for a file with
            one output.

    Returns:
        The position of the output.

    Raises:
        ModelError: ``several_outputs``: no name was given; ``unknown_output``: no output has one of the names.
    """
    listed = ", ".join(f"{' or '.join(names)} {kind}" for names, kind in outputs)
    for name in wanted:
        for position, (names, _) in enumerate(outputs):
            if name in names:
                return position
    if wanted:
        message = f"it has no output {' or '.join(map(repr, wanted))}; it has {listed}: give one of these to --output"
        raise ModelError(message, reason="unknown_output")
    if len(outputs) != 1:
        message = f"it has {len(outputs)} outputs, {listed}: say with --output NAME which is the embedding"
        raise ModelError(message, reason="several_outputs")
    return 0


def require_one_input(inputs: Sequence[str]) -> None:
    """Refuse a file that does not have exactly one input; the inputs are given in words.

    Raises:
        ModelError: ``bad_input``.
    """
    if len(inputs) != 1:
        listed = f"{len(inputs)} inputs, {', '.join(inputs)}" if inputs else "no input"
        raise _bad(f"it has {listed}: an encoder takes one image and nothing else; export that part alone")


def in_words(sides: Sequence[int]) -> str:
    """A shape for a message: ``(1, ?, ?, 3)``."""
    return f"({', '.join(str(side) if side > 0 else '?' for side in sides)}{',' * (len(sides) == 1)})"


def _bad(message: str, what: str = "input") -> ModelError:
    return ModelError(message, reason=f"bad_{what}")

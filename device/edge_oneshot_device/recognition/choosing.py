"""Choosing which of many images somebody is enrolled from."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.sources import ImageSource, Picture, take_picture
from edge_oneshot_device.errors import InputError

NOT_AMONG_BEST = "not_among_best"


class Choice(msgspec.Struct, frozen=True):
    """Images to enrol somebody from.

    Attributes:
        taken: Their places among those that there were, the best first.
        images: The images in these places. One that was read to be judged is here as it was read, so that it is
            enrolled from the same bytes.
        left: Place and reason of the others: ``not_among_best``, or why an image cannot be used.
        by: ``quality`` of the face, or ``order``.
    """

    taken: list[int]
    images: list[ImageSource | Picture]
    left: list[tuple[int, str]]
    by: Literal["quality", "order"]


def choose(encoder: Encoder, images: Sequence[ImageSource], most: int) -> Choice:
    """Choose at most so many of the images: the best, where the quality of a face is judged, else the first.

    The quality of a face is how far it stays from the limit that it is nearest to, see
    `edge_oneshot_device.faces.quality.worst_share`. Images that no template can be made from are left out then.

    Args:
        encoder: Judges the faces.
        images: Each is read at most once.
        most: How many are wanted.

    Raises:
        InputError: No image can be used; the reason is the first one's.
        MachineError: The disk or the runtime failed.
    """
    places = list(range(len(images)))
    if len(images) <= most or encoder.faces is None or not encoder.faces.has_quality_limits:
        return Choice(places[:most], list(images[:most]), [(one, NOT_AMONG_BEST) for one in places[most:]], "order")
    best: list[tuple[float, int, Picture]] = []  # no more than `most`, for a picture may be large
    left: dict[int, str] = {}
    first_fault: InputError | None = None
    for place, image in enumerate(images):
        try:
            picture = take_picture(image)
            best.append((encoder.faces.rate(picture), place, picture))
        except InputError as error:
            first_fault = first_fault or error
            left[place] = error.reason
            continue
        best.sort(key=lambda rated: rated[:2])
        for _, worse, _ in best[most:]:
            left[worse] = NOT_AMONG_BEST
        del best[most:]
    if not best and first_fault is not None:
        message = f"none of {len(images)} images can be used; the first: {first_fault}"
        raise InputError(message, reason=first_fault.reason)
    return Choice([place for _, place, _ in best], [one for *_, one in best], sorted(left.items()), "quality")

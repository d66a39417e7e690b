"""Which of many images somebody is enrolled from."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.sources import ImageSource
from edge_oneshot_device.errors import InputError

NOT_AMONG_BEST = "not_among_best"


class Choice(msgspec.Struct, frozen=True):
    """Images to enrol somebody from.

    Attributes:
        taken: Their places among those that there were, the best first.
        left: Place and reason of the others: ``not_among_best``, or why an image cannot be used.
        by: ``quality`` of the face, or ``order``.
    """

    taken: list[int]
    left: list[tuple[int, str]]
    by: Literal["quality", "order"]


def choose(encoder: Encoder, images: Sequence[ImageSource], most: int) -> Choice:
    """At most so many of the images: where a face's quality is judged the best, else the first.

    The quality of a face is how far it stays from the limit that it is nearest to, see
    `edge_oneshot_device.faces.quality.worst_share`. Images that no template can come from are left out then.

    Raises:
        InputError: No image can be used; the reason is the first one's.
        MachineError: The disk or the runtime failed.
    """
    places = list(range(len(images)))
    if len(images) <= most:
        return Choice(places, [], "order")
    if encoder.faces is None or not encoder.faces.has_quality_limits:
        return Choice(places[:most], [(place, NOT_AMONG_BEST) for place in places[most:]], "order")
    shares: dict[int, float] = {}
    faults: dict[int, InputError] = {}
    for place, image in enumerate(images):
        try:
            shares[place] = encoder.faces.rate(image)
        except InputError as error:
            faults[place] = error
    if not shares:
        message = f"none of {len(images)} images can be used; the first: {faults[0]}"
        raise InputError(message, reason=faults[0].reason)
    ranked = sorted(shares, key=lambda place: (shares[place], place))
    left = dict.fromkeys(ranked[most:], NOT_AMONG_BEST) | {place: fault.reason for place, fault in faults.items()}
    return Choice(ranked[:most], sorted(left.items()), "quality")

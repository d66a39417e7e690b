"""The subject of the demo that needs nothing: generated alphabets, and characters drawn by several drawers."""

import io
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot.data import glyphs
from edge_oneshot.demo.subject import Fresh, Subject
from edge_oneshot.report import terms
from edge_oneshot.training.options import TrainOptions
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.preprocessing import prepare
from edge_oneshot_export.judging.protocols import LabelledImages

IMAGES: Final = 60_000
"""Length of the training, enough for about 93 % on 20-way tasks."""

NET: Final = "tiny"
"""It has a seventh of the multiply-adds of `base`, which trains for minutes on processors without AMX."""

FRESH_ALPHABETS: Final = 4

_CHARACTERS: Final = ("ash", "birch", "cedar", "elm", "fir")


def fresh_drawings(section: InputSection) -> Fresh:
    """Alphabets behind those of the data set; the session takes a character of each in turn.

    Args:
        section: The encoder's input.
    """
    alphabets = [glyphs.draw_alphabet(glyphs.ALPHABETS + number) for number in range(FRESH_ALPHABETS)]
    pictures = [
        tuple(_png(alphabets[number % len(alphabets)][number][drawer]) for drawer in range(3))
        for number in range(len(_CHARACTERS) + 1)
    ]
    enrolled = {name: (one, two, three) for name, (one, two, three) in zip(_CHARACTERS, pictures, strict=False)}
    source = f"drawings of {len(alphabets)} more alphabets"
    return Fresh(enrolled, "stranger", pictures[-1][1], _labelled(alphabets, section), source)


def _labelled(alphabets: Sequence[NDArray[np.uint8]], section: InputSection) -> LabelledImages:
    """Drawings, each alphabet uint8 (characters, drawers, h, w), prepared for an encoder."""
    drawings = np.concatenate(alphabets)
    characters, drawers, *size = drawings.shape
    images = np.stack([prepare(Image.fromarray(drawing), section) for drawing in drawings.reshape(-1, *size)])
    names = tuple(f"character{number + 1:02}" for number in range(characters))
    return LabelledImages(images, np.repeat(np.arange(characters, dtype=np.int64), drawers), names)


def _png(drawing: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(drawing).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


DRAWINGS: Final = Subject(
    data="glyphs",
    option="",
    title="Edge One-Shot: from training to the device",
    summary="A siamese encoder was trained on generated alphabets, quantized to 8 bits, and run with the device's own "
    "program. It recognises a character from a single drawing.",
    terms=terms.DRAWINGS,
    recipe=TrainOptions(images=IMAGES, net=NET, size=48, batch=32),
    samples="images",
    suffix=".png",
    fresh=fresh_drawings,
    picture=lambda content, _section: content,
    further="edge-oneshot train omniglot --out runs/omniglot --minutes 20",
)

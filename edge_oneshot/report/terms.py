"""The words by which a report calls what the encoder was trained on."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Terms:
    """What stands in a sentence for the parts of a data set.

    Attributes:
        sample: What the encoder is given, such as a drawing.
        identity: What it tells apart.
        maker: Who the samples differ by.
        group: What the identities belong to; groups are held out of training.
        images: What is counted as seen.
        baseline: What the nearest neighbour without an encoder compares.
        spoken: Whether the pictures are spectrograms.
    """

    sample: str
    identity: str
    maker: str
    group: str
    images: str
    baseline: str
    spoken: bool


DRAWINGS: Final = Terms("drawing", "character", "drawer", "alphabet", "images", "pixels", spoken=False)
UTTERANCES: Final = Terms("utterance", "word", "voice", "set", "recordings", "pixels of the spectrograms", spoken=True)

"""What a demo is about: all in which the demo of drawings and that of speech differ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge_oneshot.report.terms import Terms
from edge_oneshot.training.options import TrainOptions
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_export.judging.protocols import LabelledImages


@dataclass(frozen=True, slots=True, eq=False)
class Fresh:
    """Identities that neither training nor calibration saw.

    Attributes:
        enrolled: Of each name the files of three makers; the first is what the session enrols.
        stranger: A name that the session does not enrol.
        unknown: The file of the stranger.
        people: All identities, prepared for the encoder.
        source: What they are, in words.
    """

    enrolled: Mapping[str, tuple[bytes, bytes, bytes]]
    stranger: str
    unknown: bytes
    people: LabelledImages
    source: str


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A subject of the demo.

    Attributes:
        data: A name of the catalogue of data sets.
        option: The option that chooses it, and the folder of its results in the demo's folder; or nothing.
        title: Of the report.
        summary: Of the report, in a few sentences.
        terms: What the report calls the data.
        recipe: The training.
        samples: Folder of the session's files.
        suffix: Of these files.
        fresh: Makes what the session and the scores use, for an encoder's input.
        picture: From a file of the session to a PNG of it, as the encoder's input is.
        further: A command to try next.
    """

    data: str
    option: str
    title: str
    summary: str
    terms: Terms
    recipe: TrainOptions
    samples: str
    suffix: str
    fresh: Callable[[InputSection], Fresh]
    picture: Callable[[bytes, InputSection], bytes]
    further: str

"""The encoder to train, as one value: its net, input and embedding, where it starts, and how its training ends."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import keras

from edge_oneshot.data.loading import default_input
from edge_oneshot.errors import TrainingError
from edge_oneshot.faces import tuning
from edge_oneshot.faces.inputs import face_input, renewed, small_face_input
from edge_oneshot.faces.packages import SFACE
from edge_oneshot.faces.sface import EMBEDDING
from edge_oneshot.training.nets import build_encoder, build_trainee
from edge_oneshot.training.options import FACES, Precision, TrainOptions
from edge_oneshot.training.runs import RunRecord
from edge_oneshot_device.bundle.manifest import InputSection, Licence

_OF_THE_NET: Final = ("size", "embedding", "net", "precision")


@dataclass(frozen=True, slots=True)
class Origin:
    """The training that made an encoder's weights before: what provenance says of it, and its licence."""

    name: str
    licence: Licence


@dataclass(frozen=True, slots=True)
class TrainableEncoder:
    """An encoder to train.

    Attributes:
        net: Its name in run.json.
        input: How images become its input.
        embedding: Size of the embedding of a view.
        build: Makes a view in float32 from stock layers: what is validated, saved and exported.
        build_trainee: Makes the same weights in the same order, as the training step computes them.
        learning_rate: The default of the peak.
        minutes: The default of the length.
        turns: Whether it may be trained on turned images as classes, and so see a second view.
        ridge: Of the within-class whitening that ends the training, see `whiten`; None: there is none.
        origin: Who trained the weights that `build` gives; None where they are random.
    """

    net: str
    input: InputSection
    embedding: int
    build: Callable[[], keras.Model]
    build_trainee: Callable[[], keras.Model]
    learning_rate: float
    minutes: float
    turns: bool
    ridge: float | None
    origin: Origin | None


def encoder_to_train(data: str, options: TrainOptions) -> TrainableEncoder:
    """The encoder that a new training makes.

    Args:
        data: As `edge_oneshot.data.loading.load_data` takes it.
        options: Of the training.

    Raises:
        TrainingError: Reason ``wrong_use``: options that do not go together; ``bad_net``.
    """
    pretrained = options.start == FACES
    section = default_input(data, options.size, options.framing)
    if section.audio is not None:
        _require_for_recordings(options)
        return _convolutional(section, options.net or "tiny", options.embedding or 96, options.precision)
    if options.framing and (options.faces or pretrained):
        raise TrainingError("a face is framed by its points: leave out framing", reason="wrong_use")
    if not pretrained:
        section = small_face_input(options.size) if options.faces else section
        return _convolutional(section, options.net or "base", options.embedding or 128, options.precision)
    default = TrainOptions()
    if options.views == 2 or any(getattr(options, name) != getattr(default, name) for name in _OF_THE_NET):
        message = "the encoder faces has its own net: leave out size, embedding, net, precision and views"
        raise TrainingError(message, reason="wrong_use")
    return _sface(face_input())


def _require_for_recordings(options: TrainOptions) -> None:
    """Refuse the options that say how an image is seen."""
    default = TrainOptions()
    for name in ("size", "framing", "faces"):
        if getattr(options, name) != getattr(default, name):
            raise TrainingError(f"--{name} is for images, and these are recordings: leave it out", reason="wrong_use")
    if options.start == FACES:
        raise TrainingError("--start faces is for photos, and these are recordings: leave it out", reason="wrong_use")


def encoder_of(record: RunRecord) -> TrainableEncoder:
    """The encoder that a run trains.

    Raises:
        DataError: As `edge_oneshot.faces.inputs.renewed`, where the run takes faces.
    """
    settings, section = record.settings, renewed(record.input)
    if settings.net == tuning.NET:
        return _sface(section)
    return _convolutional(section, settings.net, settings.embedding, settings.precision)


def _convolutional(section: InputSection, net: str, embedding: int, precision: Precision) -> TrainableEncoder:
    """An encoder from `build_encoder`, with random weights."""
    shape, speech = (*section.shape, embedding), section.audio is not None
    return TrainableEncoder(
        net=net,
        input=section,
        embedding=embedding,
        build=partial(build_encoder, *shape, net=net),
        build_trainee=partial(build_trainee, *shape, net=net, precision=precision),
        learning_rate=4e-3 if speech else 2e-3,
        minutes=5.0 if speech else 20.0,
        turns=True,
        ridge=1.0 if speech else 0.3,  # chosen on held-out words and alphabets
        origin=None,
    )


def _sface(section: InputSection) -> TrainableEncoder:
    """SFace, of which the last block and the dense layer are trained."""
    return TrainableEncoder(
        net=tuning.NET,
        input=section,
        embedding=EMBEDDING,
        build=tuning.build_tunable,
        build_trainee=tuning.build_tunable,
        learning_rate=1e-4,
        minutes=2.0,  # a few hundred photos teach nothing more after that
        turns=False,
        ridge=None,  # the few people of a folder say too little of what all people vary by
        origin=Origin("SFace", SFACE.stored.licence),
    )

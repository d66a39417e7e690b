"""dlib's face encoder as a training begins with it: what it learned stays, its last stage goes on learning."""

from typing import TYPE_CHECKING, Final

from edge_oneshot.faces.net import build_net
from edge_oneshot.faces.packages import ENCODER, read_package_file
from edge_oneshot.faces.weights import read_weights

if TYPE_CHECKING:
    import keras

START: Final = "faces"
"""What a training begins with that begins with this encoder; a run of that name is ./faces."""

NET: Final = "dlib"
LEARNING_RATE: Final = 1e-4
MINUTES: Final = 2.0
"""How long a training is unless told otherwise; a few hundred photos teach nothing more after that."""

_LEARNING: Final = ("stage4", "embedding")


def build_tunable() -> "keras.Model":
    """See `edge_oneshot.faces.net.build_net`; all but its last residual block and the dense layer are frozen.

    Raises:
        DataError: ``extra_missing`` or ``wrong_file``.
    """
    model = build_net(read_weights(read_package_file(ENCODER)))
    for layer in model.layers:
        layer.trainable = layer.name.startswith(_LEARNING)
    return model

"""dlib's face encoder for fine-tuning: its last stage is trained, all other weights stay fixed."""

from typing import TYPE_CHECKING, Final

from edge_oneshot.faces.net import build_net
from edge_oneshot.faces.packages import ENCODER, read_package_file
from edge_oneshot.faces.weights import read_weights

if TYPE_CHECKING:
    import keras

NET: Final = "dlib"
"""Its name in run.json."""

_LEARNING: Final = ("stage4", "embedding")


def build_tunable() -> "keras.Model":
    """Dlib's network from `build_net` with its own weights, all frozen but the last residual block and the dense layer.

    Raises:
        DataError: ``extra_missing`` or ``wrong_file``.
    """
    model = build_net(read_weights(read_package_file(ENCODER)))
    for layer in model.layers:
        layer.trainable = layer.name.startswith(_LEARNING)
    return model

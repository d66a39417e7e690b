"""SFace for fine-tuning: its last block and its dense layer are trained, all other weights stay fixed."""

from typing import TYPE_CHECKING, Final

from edge_oneshot.faces.packages import SFACE, read_net
from edge_oneshot.faces.sface import build_sface

if TYPE_CHECKING:
    import keras

NET: Final = "sface"
"""Its name in run.json."""

_LEARNING: Final = ("depthwise13", "conv13", "embedding")


def build_tunable() -> "keras.Model":
    """SFace from `build_sface` with its own weights, all frozen but the last block and the dense layer.

    Raises:
        DataError: See `edge_oneshot.faces.packages.read_net`.
    """
    model = build_sface(read_net(SFACE))
    for layer in model.layers:
        layer.trainable = layer.name.startswith(_LEARNING)
    return model

"""Equalisation of the channels between layers, so that 8 bits do for all of them (after Nagel et al. 2019)."""

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_export.formats.conversion import spread

if TYPE_CHECKING:
    import keras

_IMAGES: Final = 100
_BATCH: Final = 10


def equalise(model: "keras.Model", images: NDArray[np.float32]) -> None:
    """Scale the channels between two layers so that they reach equally far.

    All channels of a map share one int8 scale. What a channel is multiplied by in one layer it is divided by in the
    next, which changes nothing else: PReLU, padding with zeros and flattening scale along. Before a depthwise layer,
    whose channels have scales of their own, all channels then reach equally far; before others, a channel reaches as
    far as the weights that it meets (as in Xiao et al. 2023).

    Args:
        model: A chain of Conv2D, DepthwiseConv2D and Dense layers with a PReLU between each two, see
            `edge_oneshot.faces.sface.build_sface`.
        images: float32 (n, h, w, c), as the model takes them; a hundred say how far the channels reach.
    """
    import keras

    between = [layer for layer in model.layers if isinstance(layer, keras.layers.PReLU)]
    rows = [layer for layer in model.layers if len(layer.get_weights()) == 2]  # kernel and bias
    for (one, other), reach in zip(pairwise(rows), _reaches(model, between, spread(images, _IMAGES)), strict=True):
        kernel, bias = other.get_weights()
        parts = kernel.reshape(-1, len(reach), kernel.shape[-1])
        depthwise = kernel.shape[-1] == 1
        met = np.ones_like(reach) if depthwise else np.abs(parts).max(axis=(0, 2))
        used = (reach > 0.0) & (met > 0.0)
        factor = np.divide(met, reach, where=used, out=np.ones_like(reach))
        factor = factor if depthwise else np.sqrt(factor)
        factor = np.where(used, factor / np.exp(np.log(factor[used]).mean()), 1.0)
        other.set_weights([(parts / factor[:, np.newaxis]).reshape(kernel.shape), bias])
        kernel, bias = one.get_weights()
        scaled = kernel * (factor[:, np.newaxis] if kernel.shape[-1] == 1 else factor)
        one.set_weights([scaled, bias * factor])


def _reaches(
    model: "keras.Model", layers: "list[keras.layers.Layer]", images: NDArray[np.float32]
) -> list[NDArray[np.float64]]:
    """The largest absolute value of each channel before and behind each layer."""
    import keras

    seen = keras.Model(model.input, [maps for layer in layers for maps in (layer.input, layer.output)])
    reaches = [np.zeros(layer.output.shape[-1]) for layer in layers]
    for start in range(0, len(images), _BATCH):
        for place, maps in enumerate(seen(images[start : start + _BATCH])):
            found = np.abs(np.asarray(maps)).reshape(-1, maps.shape[-1]).max(axis=0)
            reaches[place // 2] = np.maximum(reaches[place // 2], found)
    return reaches

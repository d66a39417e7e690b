"""Equalisation of the channels between layers, so that 8 bits do for all of them (Nagel et al. 2019, section 4.1)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import keras

_ROUNDS: Final = 20


def equalise(layers: "Sequence[keras.layers.Layer]") -> None:
    """Scale each channel between two layers so that its weights before and behind reach equally far.

    What a channel is multiplied by in one layer it is divided by in the next. The net computes the same as before
    where all that lies between the two scales along: PReLU, padding with zeros, pooling, flattening.

    Args:
        layers: The layers with kernel and bias of a chain, in order: Conv2D, DepthwiseConv2D, Dense.
    """
    kernels = [layer.get_weights()[0] for layer in layers]
    channels = [len(layer.get_weights()[1]) for layer in layers]
    inside = [kernels[0].shape[-2], *channels[:-1]]
    reaches = []  # of each layer, by channel before and, but for a depthwise one, behind
    for kernel, before in zip(kernels, inside, strict=True):
        outside = kernel.shape[-1]  # 1 if it is depthwise
        reaches.append(np.abs(kernel).reshape(-1, before, outside).max(axis=0).astype(np.float64))
    factors = [np.ones(count) for count in channels]
    for _ in range(_ROUNDS):
        for one, other in pairwise(range(len(layers))):
            ahead, behind = reaches[one].reshape(-1, channels[one]).max(axis=0), reaches[other].max(axis=1)
            used = (ahead > 0.0) & (behind > 0.0)
            factor = np.sqrt(np.divide(behind, ahead, where=used, out=np.ones_like(ahead)))
            factors[one] *= factor
            reaches[one] *= factor[:, np.newaxis] if reaches[one].shape[1] == 1 else factor
            reaches[other] /= factor[:, np.newaxis]
    for layer, before, after in zip(layers, [np.ones(inside[0]), *factors], factors, strict=False):
        kernel, bias = layer.get_weights()
        depthwise = kernel.shape[-1] == 1
        scaled = kernel.reshape(-1, len(before), kernel.shape[-1]) / before[:, np.newaxis]
        scaled *= after[:, np.newaxis] if depthwise else after
        layer.set_weights([scaled.reshape(kernel.shape), bias * after])

"""dlib's face recognition network in Keras."""

from typing import TYPE_CHECKING, Final

import numpy as np

from edge_oneshot.faces.weights import EMBEDDING, STAGES, Weights

if TYPE_CHECKING:
    import keras

SIDE: Final = 150
SCALE: Final = 256.0
_MEAN: Final = (122.782, 117.001, 104.298)  # subtracted from RGB by dlib


def build_net(weights: Weights) -> "keras.Model":
    """The residual network of dlib's ``dnn_face_recognition_ex.cpp`` (King 2017, after He et al. 2016).

    The affine layers are folded into the convolutions, and the mean of each channel into the first of them, so that
    an 8-bit input is the pixel minus 128. A convolution with a stride is not padded, the one after it is. The skip
    over a stride is a 2x2 mean. An addition pads the smaller map with zeros at the bottom and the right, and the
    fewer channels with zeros at the end.

    Args:
        weights: From `edge_oneshot.faces.weights.read_weights`.

    Returns:
        A model from float32 (n, 150, 150, 3), RGB as pixel / `SCALE`, to float32 (n, 128).
        Embeddings are compared by their Euclidean distance; two people are about 0.6 and more apart.
    """
    import keras
    from keras import layers

    image = keras.Input((SIDE, SIDE, 3), name="face")
    rows = [layers.Conv2D(STAGES[0][0], 7, 2, activation="relu", name="stem")]
    maps = layers.MaxPooling2D(3, 2)(rows[0](image))
    for stage, (filters, blocks) in enumerate(STAGES):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            name = f"stage{stage}_block{block}"
            first = layers.Conv2D(
                filters, 3, stride, "same" if stride == 1 else "valid", activation="relu", name=f"{name}_first"
            )
            second = layers.Conv2D(filters, 3, padding="same", name=f"{name}_second")
            rows += [first, second]
            skip = layers.AveragePooling2D(2)(maps) if stride == 2 else maps
            maps = layers.ReLU()(layers.Add()(_padded(second(first(maps)), skip)))
    dense = layers.Dense(EMBEDDING, use_bias=False, name="embedding")
    model = keras.Model(image, dense(layers.GlobalAveragePooling2D()(maps)), name="dlib_face")
    for layer, (kernel, bias) in zip(rows, weights.convolutions, strict=True):
        layer.set_weights([kernel, bias])
    kernel, bias = weights.convolutions[0]
    rows[0].set_weights([kernel, bias - kernel.sum(axis=(0, 1), dtype=np.float64).T @ np.divide(_MEAN, SCALE)])
    dense.set_weights([weights.dense])
    return model


def _padded(one: "keras.KerasTensor", other: "keras.KerasTensor") -> list["keras.KerasTensor"]:
    """Both maps, padded to the larger height, width and count of channels of the two."""
    from keras import ops

    sizes = [max(pair) for pair in zip(one.shape[1:], other.shape[1:], strict=True)]
    result = []
    for maps in (one, other):
        missing = [(0, size - own) for size, own in zip(sizes, maps.shape[1:], strict=True)]
        result.append(ops.pad(maps, [(0, 0), *missing]) if any(end for _, end in missing) else maps)
    return result

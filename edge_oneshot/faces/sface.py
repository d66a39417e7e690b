"""SFace in Keras: the face encoder of OpenCV's model zoo (Zhong et al. 2021), on the net of MobileNet v1."""

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_oneshot.faces.onnx_weights import Array, Layer, read_layers

if TYPE_CHECKING:
    import keras

SIDE: Final = 112
EMBEDDING: Final = 128
DEFAULT_VARIANTS: Final = ("dynamic", "float32")
"""Exported unless others are named: by accuracy per millisecond, see docs/experiments/faces.md."""

_FILTERS: Final = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
_HALVED: Final = (2, 4, 6, 12)  # the blocks whose depthwise convolution has a stride of 2
_MAP: Final = 7
_OPS: Final = ("Sub", "Mul", "Conv", "BatchNormalization", "PRelu", "Gemm")


def build_sface(content: bytes) -> "keras.Model":
    """SFace with the weights of its ONNX file.

    A convolution of 3x3 and 13 blocks of a depthwise and a pointwise one, each with PReLU, and a dense layer over the
    last map. Batch normalisations are folded into the layers beside them.

    Args:
        content: Of ``face_recognition_sface_2021dec.onnx`` or ``face_recognition_sface_2021dec_int8bq.onnx``.

    Returns:
        A model from float32 (n, 112, 112, 3), RGB in 0..255, to float32 (n, 128). Embeddings are compared by the
        cosine.

    Raises:
        DataError: Reason ``wrong_file``: the file holds another net.
    """
    import keras
    from keras import layers

    shift, scale, *rows = read_layers(content, _OPS, _shapes(), "SFace")
    stages = list(zip(rows[:-3:3], rows[1:-3:3], rows[2:-3:3], strict=True))
    image = keras.Input((SIDE, SIDE, 3), name="face")
    factor = float(scale.weights[0][0])
    maps = layers.Rescaling(factor, -float(shift.weights[0][0]) * factor, name="pixels")(image)
    chain = [layers.Conv2D(_FILTERS[0], 3, padding="same", name="conv0")]
    maps = _convolved(maps, chain[0], *stages[0])
    for block, filters in enumerate(_FILTERS[1:], 1):
        halved = block in _HALVED
        if halved:  # padded as in ONNX; with "same", TensorFlow would pad at the bottom and the right
            maps = layers.ZeroPadding2D(((1, 0), (1, 0)), name=f"pad{block}")(maps)
        padding = "valid" if halved else "same"
        chain.append(layers.DepthwiseConv2D(3, 2 if halved else 1, padding, name=f"depthwise{block}"))
        maps = _convolved(maps, chain[-1], *stages[2 * block - 1])
        chain.append(layers.Conv2D(filters, 1, name=f"conv{block}"))
        maps = _convolved(maps, chain[-1], *stages[2 * block])
    chain.append(layers.Dense(EMBEDDING, name="embedding"))
    model = keras.Model(image, chain[-1](layers.Flatten(name="flat")(maps)), name="sface")
    chain[-1].set_weights(_dense(*rows[-3:]))
    return model


def _shapes() -> list[tuple[int, ...]]:
    """The shapes of the first weights of each operator of `_OPS`."""

    def stage(*kernel: int) -> list[tuple[int, ...]]:
        return [kernel, kernel[:1], (kernel[0], 1, 1)]

    shapes: list[tuple[int, ...]] = [(1,), (1,), *stage(_FILTERS[0], 3, 3, 3)]
    for inside, outside in pairwise(_FILTERS):
        shapes += [*stage(inside, 1, 3, 3), *stage(outside, inside, 1, 1)]
    return [*shapes, (_FILTERS[-1],), (EMBEDDING, _FILTERS[-1] * _MAP**2), (EMBEDDING,)]


def _convolved(
    maps: "keras.KerasTensor", layer: "keras.layers.Layer", kernel: Layer, normalisation: Layer, slope: Layer
) -> "keras.KerasTensor":
    """A convolution with its batch normalisation folded in, and its PReLU."""
    from keras import layers

    prelu = layers.PReLU(shared_axes=(1, 2), name=f"{layer.name}_prelu")
    result = prelu(layer(maps))
    factor, summand = normalisation.normalisation()
    values = kernel.weights[0] * factor.reshape(-1, 1, 1, 1)
    layer.set_weights([values.transpose(2, 3, 1, 0).reshape(layer.kernel.shape), summand])
    prelu.set_weights([slope.weights[0].reshape(1, 1, -1)])
    return result


def _dense(before: Layer, dense: Layer, after: Layer) -> list[Array]:
    """Kernel and bias of the dense layer with the batch normalisations before and after it folded in."""
    kernel = dense.weights[0].reshape(EMBEDDING, -1, _MAP, _MAP)
    factor, summand = before.normalisation()
    bias = dense.weights[1] + np.einsum("ochw,c->o", kernel, summand)
    rows = (kernel * factor.reshape(-1, 1, 1)).transpose(2, 3, 1, 0).reshape(-1, EMBEDDING)
    factor, summand = after.normalisation()
    return [rows * factor, bias * factor + summand]

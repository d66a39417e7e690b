"""YuNet as a TFLite file: the face detector of OpenCV's model zoo (Wu, Peng and Yu 2023)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_oneshot.faces.onnx_weights import Layer, read_layers
from edge_oneshot_export.formats.conversion import INPUT_NAME, converting

if TYPE_CHECKING:
    import keras

SIDE: Final = 320
"""Side of the input that the file is stored with."""

_BACKBONE: Final = (16, 16, 16, 32, 32, 64, 64, 64, 64, 64, 64, 64)  # filters of the first convolution and the units
_HALVED: Final = (1, 5, 7, 9)  # the units after which the map is halved
_LEVELS: Final = (7, 9, 11)  # those whose maps, at strides of 8, 16 and 32, show the faces
_HEADS: Final = (1, 4, 1, 10)  # score of the class, box, score of the object, points; each for three maps


def convert_yunet(content: bytes) -> bytes:
    """YuNet as a float32 TFLite file, whose input can be resized to any multiple of 32.

    Args:
        content: As `build_yunet` takes it.

    Raises:
        DataError: Reason ``wrong_file``: the file holds another net.
        ExportError: The converter failed.
    """
    import keras
    import tensorflow as tf

    image = keras.Input(batch_shape=(1, None, None, 3), name=INPUT_NAME, dtype="float32")
    model = keras.Model(image, build_yunet(content)(image), name="finder")
    with converting("finder"):
        file = bytearray(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    graph = schema.Model.GetRootAs(file).Subgraphs(0)
    graph.Tensors(graph.Inputs(0)).ShapeAsNumpy()[1:3] = SIDE  # a view of the file; a free side is stored as 1
    return bytes(file)


def build_yunet(content: bytes) -> "keras.Model":
    """YuNet with the weights of its ONNX file.

    The heads of a map are computed as two, one of the scores and one of the rest. OpenCV's file takes BGR: here the
    first convolution has its channels in the other order.

    Args:
        content: Of ``face_detection_yunet_2023mar.onnx`` or ``face_detection_yunet_2023mar_int8bq.onnx``.

    Returns:
        A model from float32 (n, h, w, 3), RGB in 0..255 with sides that are multiples of 32, to float32 (n, cells, 16).
        The cells are those of strides 8, 16 and 32, row by row. A cell holds the scores of its class and of an object,
        in 0..1, and in strides the middle of the box, the logarithms of its width and height, and five points, both
        relative to the cell.

    Raises:
        DataError: Reason ``wrong_file``: the file holds another net.
    """
    import keras
    from keras import layers

    first, *rows = read_layers(content, ("Conv",), _shapes(), "YuNet")
    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    neck = pairs[len(_BACKBONE) - 1 :]
    heads = neck[len(_LEVELS) :]
    image = keras.Input((None, None, 3), name="photo")
    stem = layers.Conv2D(_BACKBONE[0], 3, 2, activation="relu", name="stem")
    maps = stem(layers.ZeroPadding2D(((1, 0), (1, 0)), name="pad")(image))
    stem.set_weights([first.weights[0][:, ::-1].transpose(2, 3, 1, 0), first.weights[1]])
    levels = []
    for number in range(1, len(_BACKBONE)):
        maps = _unit(maps, [pairs[number - 1]], "relu", f"unit{number}")
        if number in _LEVELS:
            levels.append(maps)
        if number in _HALVED:
            maps = layers.MaxPooling2D(2, name=f"pool{number}")(maps)
    for level in (2, 1, 0):
        if level < 2:
            levels[level] = layers.Add(name=f"sum{level}")([levels[level], _doubled(levels[level + 1], level)])
        levels[level] = _unit(levels[level], [neck[2 - level]], "relu", f"neck{level}")
    cells = []
    for level, maps in enumerate(levels):
        of_class, box, of_object, points = heads[level::3]
        scores = _unit(maps, [of_class, of_object], "sigmoid", f"scores{level}")
        joined = layers.Concatenate(name=f"joined{level}")([scores, _unit(maps, [box, points], None, f"rest{level}")])
        cells.append(layers.Reshape((-1, joined.shape[-1]), name=f"cells{level}")(joined))
    return keras.Model(image, layers.Concatenate(axis=1, name="cells")(cells), name="yunet")


def _shapes() -> list[tuple[int, ...]]:
    """The shapes of the kernels in the order of computation."""

    def unit(inside: int, outside: int) -> list[tuple[int, ...]]:
        return [(outside, inside, 1, 1), (outside, 1, 3, 3)]

    filters = (*_BACKBONE, *_BACKBONE[-1:] * len(_LEVELS))
    shapes: list[tuple[int, ...]] = [(_BACKBONE[0], 3, 3, 3)]
    shapes += [shape for pair in pairwise(filters) for shape in unit(*pair)]
    return shapes + [shape for size in _HEADS for _ in _LEVELS for shape in unit(filters[-1], size)]


def _unit(
    maps: "keras.KerasTensor", pairs: Sequence[tuple[Layer, Layer]], activation: str | None, name: str
) -> "keras.KerasTensor":
    """A pointwise and a depthwise convolution; several of the same map are computed as one."""
    from keras import layers

    (kernel, bias), (deep, deep_bias) = (
        [np.concatenate([pair[place].weights[part] for pair in pairs]) for part in (0, 1)] for place in (0, 1)
    )
    pointwise = layers.Conv2D(len(kernel), 1, name=f"{name}_pointwise")
    depthwise = layers.DepthwiseConv2D(3, padding="same", activation=activation, name=f"{name}_depthwise")
    result = depthwise(pointwise(maps))
    pointwise.set_weights([kernel.transpose(2, 3, 1, 0), bias])
    depthwise.set_weights([deep.transpose(2, 3, 0, 1), deep_bias])
    return result


def _doubled(maps: "keras.KerasTensor", level: int) -> "keras.KerasTensor":
    """Each value four times, in twice the height and width.

    Other than Keras's upsampling, whose size becomes a constant of the file, it follows a resized input.
    """
    from keras import layers, ops

    return ops.depth_to_space(layers.Concatenate(name=f"four{level}")([maps] * 4), 2)

"""The convolutional encoder as a Keras model, its second view, and the siamese model that compares two images."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from edge_oneshot.errors import TrainingError
from edge_oneshot.training.options import Precision

NETS: Final = {
    "base": "down32 res32 pool 64 res64 res64 pool 128 res128 1x64",
    "tiny": "down16 res16 pool 32 res32 pool 48 1x8",
}
"""Layers in order: N is a 3x3 convolution to N channels, downN a 5x5 convolution of stride 2, 1xN a 1x1
convolution, resN two 3x3 convolutions with a skip from N channels to N (He et al. 2016), pool a 2x2 maximum."""

_EMBEDDING: Final = "embedding"  # name of the last layer
_MOMENTUM = 0.97  # with Keras' 0.99 the averages still hold their initial values after a training of a minute


def build_encoder(
    height: int, width: int, channels: int = 1, embedding: int = 128, *, net: str = "base"
) -> keras.Model:
    """A plain convolutional encoder, flattened to a dense embedding.

    The maps reach the dense layer unpooled: where a stroke lies is what separates similar characters. The
    embedding is not L2-normalised, because int8 would leave too few levels; the device normalises on the host.

    Args:
        height: Of the input in pixels, 16 at least.
        width: Likewise.
        channels: 1 for grey, 3 for RGB.
        embedding: Size of the embedding.
        net: ``base``; ``tiny``, a tenth of its bytes; or layers as in `NETS`.

    Returns:
        A model from float32 (n, height, width, channels) to float32 (n, embedding).

    Raises:
        TrainingError: Reason ``bad_net``: `net` is none of these.
    """
    return _build((height, width, channels), embedding, net, layers.BatchNormalization, "float32")


def build_trainee(
    height: int, width: int, channels: int, embedding: int, *, net: str, precision: Precision
) -> keras.Model:
    """The encoder of `build_encoder` with a faster training step: the same weights in the same order.

    Args:
        height: Of the input in pixels, 16 at least.
        width: Likewise.
        channels: 1 for grey, 3 for RGB.
        embedding: Size of the embedding.
        net: As for `build_encoder`.
        precision: ``bfloat16`` computes in bfloat16 and keeps the weights in float32; it is faster on
            processors with AMX or AVX512-BF16, and on GPUs.

    Returns:
        A model from float32 (n, height, width, channels) to float32 (n, embedding).

    Raises:
        TrainingError: As for `build_encoder`.
    """
    policy = "float32" if precision == "float32" else "mixed_bfloat16"
    return _build((height, width, channels), embedding, net, _FusedBatchNormalization, policy)


def beside_turned(view: keras.Model) -> keras.Model:
    """An encoder that sees each image as it is and turned by 90 degrees.

    This is test-time augmentation (Krizhevsky et al. 2012); it costs a second pass and no weights. It lowers the
    error where the turned images of an identity were a class of their own, so that `view` knows them as well.

    Args:
        view: From `build_encoder`, for square images. It is shared, not copied.

    Returns:
        A model from float32 (n, height, width, channels) to both embeddings side by side, float32
        (n, 2 * embedding).
    """
    shape = side, _, channels = view.input_shape[1:]
    row = side * channels
    # neither XNNPACK nor the Edge TPU can reverse a row: as the channels of one pixel it goes through a 1x1 convolution
    reverse = layers.Conv2D(row, 1, use_bias=False, kernel_initializer="zeros", trainable=False, name="reversed")
    image = keras.Input(shape, name="image")
    rows = reverse(layers.Reshape((side, 1, row), name="rows")(image))
    turned = layers.Permute((2, 1, 3), name="turned")(layers.Reshape(shape, name="mirrored")(rows))
    permutation = np.kron(np.eye(side)[::-1], np.eye(channels))
    # tflite-runtime 2.14 ignores per-channel scales that are all equal, and answers 0
    permutation[:, 0] *= 1.0 + 2.0**-20
    reverse.set_weights([permutation.reshape(1, 1, row, row)])
    return keras.Model(image, layers.Concatenate(name="views")([view(image), view(turned)]), name="encoder")


def first_view(encoder: keras.Model) -> keras.Model:
    """The view that `beside_turned` was given, or the encoder itself if it sees each image once."""
    return next((layer for layer in encoder.layers if isinstance(layer, keras.Model)), encoder)


@dataclass(frozen=True, slots=True)
class Projection:
    """The last two layers of a view, which make the embedding: a dense layer without bias and its normalisation."""

    dense: layers.Dense
    normalisation: layers.BatchNormalization


def projection(view: keras.Model) -> Projection:
    """The last two layers of a model from `build_encoder` or `build_trainee`."""
    (dense,) = (layer for layer in view.layers if isinstance(layer, layers.Dense))
    return Projection(dense, view.get_layer(_EMBEDDING))


def build_siamese(encoder: keras.Model, slope: float, offset: float) -> keras.Model:
    """A siamese model: two images through one encoder to a degree of similarity (Bromley et al. 1993).

    Args:
        encoder: Maps an image to an embedding.
        slope: Of the logistic curve from the cosine of both embeddings to the degree.
        offset: Of the same curve.

    Returns:
        A model from two float32 (n, h, w, c) to float32 (n, 1) in 0..1.
    """
    left, right = (keras.Input(encoder.input_shape[1:], name=name) for name in ("left", "right"))
    cosine = layers.Dot(axes=-1, normalize=True)([encoder(left), encoder(right)])
    curve = layers.Dense(
        1,
        activation="sigmoid",
        kernel_initializer=keras.initializers.Constant(slope),
        bias_initializer=keras.initializers.Constant(offset),
        name="similarity",
    )
    return keras.Model([left, right], curve(cosine), name="siamese")


class _FusedBatchNormalization(layers.BatchNormalization):  # type: ignore[misc]
    """Batch normalisation as one op in training, where Keras makes about ten passes over the maps.

    With several replicas, each normalises by its own images, and the moving averages are over all of them.
    """

    def call(self, x: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        if not training:
            return super().call(x, training=False, mask=mask)
        maps = x if len(x.shape) == 4 else x[:, None, None, :]
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=maps,
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=[],
            variance=[],
            epsilon=self.epsilon,
            is_training=True,
        )
        if tf.distribute.get_strategy().num_replicas_in_sync > 1 and (replica := tf.distribute.get_replica_context()):
            mean, variance = replica.all_reduce(tf.distribute.ReduceOp.MEAN, [mean, variance])
        for average, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + now * (1.0 - self.momentum))
        return tf.reshape(y, tf.shape(x))


def _build(
    shape: tuple[int, int, int], embedding: int, net: str, normalise: Callable[..., layers.Layer], policy: str
) -> keras.Model:
    def convolution(x: keras.KerasTensor, filters: int, size: int = 3, stride: int = 1) -> keras.KerasTensor:
        x = layers.Conv2D(filters, size, stride, padding="same", use_bias=False, dtype=policy)(x)
        return normalise(momentum=_MOMENTUM, dtype=policy)(x)

    def relu(x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.ReLU(dtype=policy)(x)

    image = keras.Input(shape, name="image")
    x: keras.KerasTensor = image
    for kind, filters in _layers(net, shape[2]):
        if kind == "pool":
            x = layers.MaxPooling2D(dtype=policy)(x)
        elif kind == "res":
            inner = convolution(relu(convolution(x, filters)), filters)
            x = relu(layers.Add(dtype=policy)([x, inner]))
        else:
            size, stride = {"down": (5, 2), "1x": (1, 1), "": (3, 1)}[kind]
            x = relu(convolution(x, filters, size, stride))
    x = layers.Flatten(dtype=policy)(x)
    x = layers.Dense(embedding, use_bias=False, dtype=policy)(x)
    return keras.Model(image, normalise(momentum=_MOMENTUM, dtype="float32", name=_EMBEDDING)(x), name="encoder")


def _layers(net: str, channels: int) -> list[tuple[str, int]]:
    """Kind and filters of each layer."""
    found = []
    for word in NETS.get(net, net).split():
        match = re.fullmatch(r"(pool)|(down|res|1x|)([1-9][0-9]{0,3})", word)
        kind, filters = (match[1] or match[2], int(match[3] or channels)) if match else ("res", 0)
        if not match or (kind == "res" and filters != channels):
            needs = f"{channels} channels come in" if match else "known are N, downN, 1xN, resN and pool"
            message = f"net {net!r}: {word!r} does not fit: {needs}; or name {' or '.join(NETS)}"
            raise TrainingError(message, reason="bad_net")
        channels = filters
        found.append((kind, filters))
    return found

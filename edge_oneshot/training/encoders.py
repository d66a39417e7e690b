"""The siamese encoder, and the siamese view of it: two images in, a degree of similarity out."""

import keras
from keras import layers

_MOMENTUM = 0.97  # Keras' 0.99 has not forgotten its start after a training of a minute


def build_encoder(height: int, width: int, channels: int = 1, embedding: int = 128) -> keras.Model:
    """A plain convolutional encoder: six 3x3 convolutions, flattened to a dense embedding.

    The spatial layout reaches the dense layer unpooled: for drawn characters it is what tells
    near twins apart. The embedding leaves without L2 normalisation, which int8 has no room for;
    the device normalises on the host.

    Args:
        height: Of the input in pixels, 16 at least.
        width: Likewise.
        channels: 1 for grey, 3 for RGB.
        embedding: Size of the embedding.

    Returns:
        A model from float32 (n, height, width, channels) to float32 (n, embedding).
    """
    image = keras.Input((height, width, channels), name="image")
    x = _convolve(image, 24)
    x = layers.MaxPooling2D()(x)
    x = _convolve(x, 48)
    x = layers.MaxPooling2D()(x)
    x = _convolve(x, 64)
    x = _convolve(x, 64)
    x = layers.MaxPooling2D()(x)
    x = _convolve(x, 96)
    x = _convolve(x, 128)
    x = layers.Flatten()(x)
    x = layers.Dense(embedding, use_bias=False)(x)
    return keras.Model(image, layers.BatchNormalization(momentum=_MOMENTUM, name="embedding")(x), name="encoder")


def build_siamese(encoder: keras.Model, slope: float, offset: float) -> keras.Model:
    """Two images through one encoder to a degree of similarity (Bromley et al. 1993).

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


def _convolve(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=_MOMENTUM)(x))

"""Keras models that compute in 16 bits, or are none of Keras 3."""

import keras
import numpy as np
import pytest

from edge_oneshot_device import Bundle
from edge_oneshot_device.encoding.preprocessing import scale
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.formats.keras_models import in_float32, require_model
from edge_oneshot_export.keras_export import export
from edge_oneshot_export.packing.packer import BundleSpec
from tests.raising import raises


def encoder(policy, section, last="float32"):
    """A model as a GPU's owner trains it: 16 bits but for the last layer, with a model in the model."""
    layers = keras.layers
    inner_image = keras.Input((*section.shape[:2], 8), dtype=policy.removeprefix("mixed_"))
    inner = keras.Model(inner_image, layers.Conv2D(16, 3, 2, dtype=policy)(inner_image), name="inner")
    image = keras.Input(section.shape)
    maps = layers.ReLU(dtype=policy)(
        layers.BatchNormalization(dtype=policy)(layers.Conv2D(8, 3, 2, dtype=policy)(image))
    )
    maps = layers.Flatten(dtype=policy)(layers.Resizing(*section.shape[:2], dtype=policy)(maps))
    maps = layers.Reshape((*section.shape[:2], 8), dtype=policy)(maps)
    return keras.Model(image, layers.Dense(32, dtype=last)(layers.Flatten(dtype=policy)(inner(maps))))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
@pytest.mark.parametrize("last", ["float32", None])
def test_a_model_of_16_bits_is_rebuilt_in_float32_and_answers_the_same(policy, last, section, people):
    model = encoder(policy, section, last or policy)
    rebuilt = in_float32(model)
    assert {weight.dtype for weight in rebuilt.weights} == {"float32"}
    assert {tensor.dtype for tensor in rebuilt.outputs} == {"float32"}
    images = scale(people.images[:8], section)
    answers = [np.asarray(one(images), np.float32) for one in (model, rebuilt)]
    assert np.abs(answers[0] - answers[1]).max() < 0.05 * np.abs(answers[1]).max()


def test_a_model_of_float32_is_taken_as_it_is(model):
    assert in_float32(model) is model


def test_a_mixed_precision_model_becomes_a_bundle(section, images, people, destination):
    report = export(
        encoder("mixed_float16", section), destination, BundleSpec(section), images=images, calibration=people
    )
    assert [variant.name for variant in report.manifest.variants] == ["int8", "float32"]
    assert Bundle.open(destination).manifest.embedding.size == 32


def test_a_model_that_cannot_be_rebuilt_is_refused_by_its_precision(section):
    class Stubborn(keras.layers.Layer):
        def __init__(self, **_):
            super().__init__(dtype="mixed_float16")

        def call(self, x):
            return x

    image = keras.Input(section.shape)
    model = keras.Model(image, keras.layers.Flatten()(Stubborn()(image)))
    with raises(
        ModelError, match="computes in mixed_float16 and cannot be rebuilt in float32", reason="bad_precision"
    ) as raised:
        in_float32(model)
    assert "\n" not in str(raised.value)


def test_a_model_that_keras_has_quantized_is_refused_by_name(section):
    image = keras.Input(section.shape)
    model = keras.Model(image, keras.layers.Dense(8)(keras.layers.Flatten()(image)))
    model.layers[-1].quantize("int8")
    with pytest.raises(ModelError, match=r"Keras has quantized the model \(int8_from_float32\)"):
        in_float32(model)


def test_a_model_of_tf_keras_is_named_as_one():
    functional = type("Functional", (), {"__module__": "tf_keras.src.engine.functional"})
    for kind in (functional, type("Mine", (functional,), {"__module__": "mine"})):
        with raises(ModelError, match="a model of tf_keras, which is Keras 2", reason="not_a_model"):
            require_model(kind())

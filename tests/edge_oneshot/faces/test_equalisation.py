"""Equalised channels: the same answers from channels that reach equally far."""

import keras
import numpy as np
import pytest
from keras import layers

from edge_oneshot.faces.equalisation import equalise

IMAGES = np.random.default_rng(1).normal(size=(10, 8, 8, 3)).astype(np.float32)


@pytest.fixture
def chain():
    """Four layers between PReLUs, with channels of very different size, one of which is dead."""
    rng = np.random.default_rng(0)
    image = keras.Input((8, 8, 3))
    parts = [layers.Conv2D(4, 3), layers.DepthwiseConv2D(3, padding="same"), layers.Conv2D(6, 1), layers.Dense(5)]
    maps = image
    for part in parts[:-1]:
        maps = layers.PReLU(shared_axes=(1, 2), alpha_initializer="random_normal")(part(maps))
    model = keras.Model(image, parts[-1](layers.Flatten()(maps)))
    for part in parts:
        part.set_weights([rng.normal(size=weights.shape) for weights in part.get_weights()])
    kernel, bias = parts[0].get_weights()
    parts[0].set_weights([kernel * (1e3, 1.0, 1e-2, 0.0), bias * (1e3, 1.0, 1e-2, 0.0)])
    return model, parts


def reach(model, layer):
    """The largest value of each channel that a layer gives."""
    return np.abs(keras.Model(model.input, layer.output)(IMAGES)).max(axis=(0, 1, 2))


def test_the_net_computes_the_same(chain):
    model, _ = chain
    before = np.asarray(model(IMAGES))
    equalise(model, IMAGES)
    assert np.asarray(model(IMAGES)) == pytest.approx(before, rel=1e-4, abs=1e-4 * float(np.abs(before).max()))


def test_channels_before_a_depthwise_layer_reach_equally_far_and_a_dead_one_stays(chain):
    model, parts = chain
    equalise(model, IMAGES)
    *living, dead = reach(model, parts[0])
    assert living == pytest.approx([living[0]] * 3, rel=1e-4)
    assert dead == 0.0


def test_channels_before_another_layer_reach_as_far_as_the_weights_that_they_meet():
    image = keras.Input((8, 8, 3))
    parts = layers.Conv2D(4, 3, kernel_initializer="random_normal"), layers.Conv2D(6, 1)
    model = keras.Model(image, parts[1](layers.PReLU(shared_axes=(1, 2))(parts[0](image))))
    equalise(model, IMAGES)
    ratio = reach(model, parts[0]) / np.abs(parts[1].get_weights()[0]).max(axis=(0, 1, 3))
    assert ratio == pytest.approx(np.full(4, ratio[0]), rel=1e-3)

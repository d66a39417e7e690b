"""Equalised channels: the same answers from weights that reach equally far."""

import keras
import numpy as np
import pytest
from keras import layers

from edge_oneshot.faces.equalisation import equalise


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


def test_the_net_computes_the_same_with_channels_of_equal_reach(chain):
    model, parts = chain
    images = np.random.default_rng(1).normal(size=(3, 8, 8, 3))
    before = np.asarray(model(images))
    equalise(parts)
    assert np.asarray(model(images)) == pytest.approx(before, rel=1e-4, abs=1e-4 * float(np.abs(before).max()))
    ahead = np.abs(parts[0].get_weights()[0]).max(axis=(0, 1, 2))
    behind = np.abs(parts[1].get_weights()[0]).max(axis=(0, 1, 3))
    assert ahead[:3] == pytest.approx(behind[:3], rel=0.05)
    assert ahead[3] == 0.0


def test_layers_that_are_equal_already_stay_as_they_are(chain):
    _, parts = chain
    equalise(parts)
    once = [part.get_weights()[0] for part in parts]
    equalise(parts)
    for part, kernel in zip(parts, once, strict=True):
        assert part.get_weights()[0] == pytest.approx(kernel, rel=0.05, abs=1e-6)

import keras
import numpy as np
import pytest
from keras import layers

from edge_oneshot_export.formats.layers import layer_errors
from edge_oneshot_export.variants import VARIANTS

IMAGES = np.random.default_rng(0).random((8, 16, 16, 1), np.float32)


def net(name: str) -> keras.Model:
    image = keras.Input((16, 16, 1))
    found = layers.Conv2D(4, 3, name="first")(image)
    return keras.Model(image, layers.Dense(8)(layers.Flatten()(found)), name=name)


@pytest.mark.parametrize("name", ["encoder", "functional", "functional_1", "face"])
def test_an_error_names_its_layer_whatever_the_model_is_called(name):
    assert layer_errors(net(name), VARIANTS["int8"], IMAGES)[0].name.startswith("first")


def test_an_error_names_its_layer_where_a_model_is_used_in_another_one_twice():
    image = keras.Input((16, 16, 1))
    inner = net("inner")
    both = keras.Model(image, layers.Concatenate()([inner(image), inner(layers.Permute((2, 1, 3))(image))]))
    names = [error.name for error in layer_errors(both, VARIANTS["int8"], IMAGES)]
    assert sum(name.startswith("first") for name in names) == 2
    assert not any("inner" in name for name in names)

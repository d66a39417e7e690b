import numpy as np
import pytest

from edge_oneshot.training.nets import beside_turned, build_encoder, build_siamese, first_view


def test_the_encoder_maps_an_image_to_a_vector_of_128():
    encoder = build_encoder(48, 48)
    assert encoder.input_shape == (None, 48, 48, 1)
    assert encoder.output_shape == (None, 128)


def test_the_encoder_holds_no_normalisation_that_int8_would_break():
    kinds = {type(layer).__name__ for layer in build_encoder(24, 24).layers}
    assert kinds == {"InputLayer", "Conv2D", "BatchNormalization", "ReLU", "MaxPooling2D", "Add", "Flatten", "Dense"}


@pytest.mark.parametrize(("height", "width", "channels"), [(16, 16, 1), (50, 31, 3)])
def test_odd_shapes_work(height, width, channels):
    images = np.random.default_rng(0).random((2, height, width, channels), np.float32)
    assert build_encoder(height, width, channels, embedding=32)(images).shape == (2, 32)


@pytest.mark.parametrize("channels", [1, 3])
def test_two_views_are_the_embeddings_of_the_image_and_of_the_turned_one(channels):
    view = build_encoder(16, 16, channels, embedding=8)
    images = np.random.default_rng(0).random((4, 16, 16, channels), np.float32)
    turned = np.rot90(images, axes=(1, 2))
    both = np.concatenate([np.asarray(view(images)), np.asarray(view(turned))], axis=1)
    encoder = beside_turned(view)
    assert np.asarray(encoder(images)) == pytest.approx(both, abs=1e-5)
    assert first_view(encoder) is first_view(view) is view


def test_the_siamese_view_is_the_logistic_curve_of_the_cosine():
    encoder = build_encoder(16, 16, embedding=8)
    left, right = np.random.default_rng(0).random((2, 3, 16, 16, 1), np.float32)
    degree = np.asarray(build_siamese(encoder, slope=9.0, offset=-4.0)([left, right]))[:, 0]
    a, b = np.asarray(encoder(left)), np.asarray(encoder(right))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert degree == pytest.approx(1 / (1 + np.exp(4.0 - 9.0 * cosine)), abs=1e-5)


def test_an_image_is_most_similar_to_itself():
    siamese = build_siamese(build_encoder(16, 16, embedding=8), slope=9.0, offset=-4.0)
    images = np.random.default_rng(0).random((4, 16, 16, 1), np.float32)
    itself = np.asarray(siamese([images, images]))
    other = np.asarray(siamese([images, images[::-1]]))
    assert (itself > other).all()

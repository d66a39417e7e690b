import numpy as np
import pytest

from edge_oneshot.data.loading import default_input, load_data
from edge_oneshot.training.images import oversampled
from edge_oneshot.training.nets import build_encoder, projection
from edge_oneshot.training.whitening import whiten
from edge_oneshot_export.formats.conversion import reference_embeddings

SECTION = default_input("glyphs", 24)


@pytest.fixture(scope="module")
def training():
    data = load_data("glyphs", oversampled(SECTION))
    return data.only(data.group_names[:2])


@pytest.fixture
def encoder():
    encoder = build_encoder(24, 24, embedding=16, net="down8 pool 16")
    rng = np.random.default_rng(0)
    normalisation = projection(encoder).normalisation
    normalisation.set_weights([1 + rng.random(weights.shape) for weights in normalisation.get_weights()])
    return encoder


def half(training):
    images = training.images.astype(float)
    return ((images[:, ::2, ::2] + images[:, 1::2, ::2] + images[:, ::2, 1::2] + images[:, 1::2, 1::2]) / 4).round()


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def spread_within(embeddings, labels):
    """Largest over mean variance within identities."""
    around = np.concatenate(
        [embeddings[labels == label] - embeddings[labels == label].mean(0) for label in set(labels)]
    )
    variances = np.linalg.eigvalsh(np.cov(around.T))
    return variances.max() / variances.mean()


def test_all_directions_come_to_vary_more_alike_within_an_identity(encoder, training):
    images = half(training).astype(np.uint8)
    before = unit(reference_embeddings(encoder, images, SECTION))
    whiten(encoder, training, SECTION, 0.3)
    after = reference_embeddings(encoder, images, SECTION)
    assert spread_within(unit(after), training.labels) < 0.7 * spread_within(before, training.labels)


def test_it_is_a_linear_map_of_the_embedding_and_leaves_its_shape(encoder, training):
    images = half(training).astype(np.uint8)[:200]
    before = reference_embeddings(encoder, images, SECTION).astype(float)
    names = [layer.name for layer in encoder.layers]
    whiten(encoder, training, SECTION, 0.3)
    after = reference_embeddings(encoder, images, SECTION).astype(float)
    change = np.linalg.lstsq(before, after, rcond=None)[0]
    assert before @ change == pytest.approx(after, abs=1e-4)
    assert names == [layer.name for layer in encoder.layers]


def test_the_axes_of_the_embedding_are_the_principal_ones(encoder, training):
    images = half(training).astype(np.uint8)
    whiten(encoder, training, SECTION, 0.3)
    rows = reference_embeddings(encoder, images, SECTION).astype(float)
    products = rows.T @ rows
    apart = products - np.diag(np.diag(products))
    assert np.abs(apart).max() < 0.05 * products.max()


def test_images_that_are_all_alike_change_nothing(encoder, training):
    import dataclasses

    alike = dataclasses.replace(training, images=np.full_like(training.images, 255))
    before = encoder.get_weights()
    whiten(encoder, alike, SECTION, 0.3)
    assert all(np.array_equal(one, other) for one, other in zip(before, encoder.get_weights(), strict=True))

import math

import numpy as np
import pytest
import tensorflow as tf

from edge_oneshot.training.objectives import OBJECTIVES, contrastive, cosine_softmax, koch, prototypical, triplet


def test_cosine_softmax_on_a_worked_example():
    # cosines 0.6 and 0.8 to the two prototypes; the own class is the first
    embedding, prototypes = tf.constant([[3.0, 4.0]]), tf.constant([[2.0, 0.0], [0.0, 5.0]])
    loss = cosine_softmax(embedding, prototypes, tf.constant([0]), margin=0.1, scale=10.0)
    own, other = 10 * (0.6 - 0.1), 10 * 0.8
    assert float(loss) == pytest.approx(-math.log(math.exp(own) / (math.exp(own) + math.exp(other))), rel=1e-5)


def test_the_cosine_loss_is_blind_to_lengths():
    rng = np.random.default_rng(0)
    embeddings, prototypes = rng.normal(size=(5, 8)), rng.normal(size=(8, 3))
    labels = tf.constant([0, 1, 2, 0, 1])
    plain = cosine_softmax(tf.constant(embeddings, tf.float32), tf.constant(prototypes, tf.float32), labels)
    longer = cosine_softmax(tf.constant(7 * embeddings, tf.float32), tf.constant(0.1 * prototypes, tf.float32), labels)
    assert float(plain) == pytest.approx(float(longer), rel=1e-5)


def test_a_margin_makes_the_same_embedding_cost_more():
    embedding, prototypes = tf.constant([[1.0, 0.5]]), tf.constant([[1.0, 0.0], [0.0, 1.0]])
    losses = [float(cosine_softmax(embedding, prototypes, tf.constant([0]), margin=m)) for m in (0.0, 0.15, 0.3)]
    assert losses == sorted(losses)
    assert losses[0] < losses[1] < losses[2]


def at(*degrees: float) -> tf.Tensor:
    """Unit vectors at these angles."""
    angles = np.deg2rad(degrees)
    return tf.constant(np.stack([np.cos(angles), np.sin(angles)], axis=1), tf.float32)


def test_contrastive_on_a_worked_example():
    # 0 and 60 degrees are one class, 90 is another: chords 1, and 2 sin 45, 2 sin 15 to it
    loss = contrastive(5.0 * at(0, 60, 90), tf.constant([0, 0, 1]), margin=1.0)
    near = 2 * math.sin(math.radians(15))
    pull, push = 1.0**2 / 2, (0.0 + (1.0 - near) ** 2 / 2) / 2
    assert float(loss) == pytest.approx((pull + push) / 2, rel=1e-4)


def squared(a: float, b: float) -> float:
    return 2 - 2 * math.cos(math.radians(a - b))


def test_triplet_takes_the_nearest_negative_that_is_farther_than_the_positive():
    # from 0: positive 30, farther negatives 40 and 90; from 30: positive 0, of 40 and 90 only 90 is farther
    loss = triplet(3.0 * at(0, 30, 40, 90), tf.constant([0, 0, 1, 2]), margin=0.5)
    first = squared(0, 30) - squared(0, 40) + 0.5
    second = max(0.0, squared(30, 0) - squared(30, 90) + 0.5)
    assert float(loss) == pytest.approx((first + second) / 2, rel=1e-4)


def test_triplet_takes_the_farthest_negative_where_none_is_farther_than_the_positive():
    loss = triplet(at(0, 120, 10, 50), tf.constant([0, 0, 1, 1]), margin=0.2)
    expected = [
        squared(0, 120) - squared(0, 50) + 0.2,
        squared(0, 120) - squared(120, 10) + 0.2,
        max(0.0, squared(10, 50) - squared(10, 120) + 0.2),
        max(0.0, squared(10, 50) - squared(50, 0) + 0.2),
    ]
    # from 10 (positive at 40 degrees): 120 is farther, 0 is nearer; from 50: 0 at 50 degrees and 120 at 70 are farther
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-4)


def test_prototypical_on_a_worked_example():
    # supports at 0 and 3, one query at 1 of the first: squared distances 1 and 4
    embeddings = tf.constant([[0.0, 0.0], [3.0, 0.0], [1.0, 0.0]])
    loss = prototypical(embeddings, tf.constant([7, 9, 7]))
    assert float(loss) == pytest.approx(-math.log(math.exp(-1) / (math.exp(-1) + math.exp(-4))), rel=1e-5)


def test_koch_on_a_worked_example():
    # features sigmoid(0) = 0.5 and sigmoid(ln 3) = 0.75
    embeddings = tf.constant([[0.0, 0.0], [math.log(3), 0.0], [0.0, math.log(3)]])
    weights, bias = tf.constant([-4.0, -8.0]), tf.constant(1.0)
    loss = koch(embeddings, weights, bias, tf.constant([0, 0, 1]))
    softplus = [math.log1p(math.exp(x)) for x in (-(1 - 1.0), 1 - 2.0, 1 - 1.0 - 2.0)]
    assert float(loss) == pytest.approx((softplus[0] + (softplus[1] + softplus[2]) / 2) / 2, rel=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_has_finite_gradients_even_where_embeddings_coincide(name):
    objective = OBJECTIVES[name]
    head = [tf.Variable(first) for first in objective.head(4, 3, np.random.default_rng(0))]
    embeddings = tf.Variable([[1.0, 0.0, 0.0, 0.0]] * 4 + [[0.0, 1.0, 0.0, 0.0]] * 2)
    with tf.GradientTape() as tape:
        loss = objective.loss(embeddings, head, tf.constant([0, 0, 1, 1, 2, 2]))
    gradients = tape.gradient(loss, [embeddings, *head])
    assert math.isfinite(float(loss))
    assert all(np.isfinite(gradient.numpy()).all() for gradient in gradients)


@pytest.mark.parametrize("name", ["contrastive", "triplet", "koch"])
def test_a_batch_without_pairs_of_a_kind_costs_nothing_and_breaks_nothing(name):
    objective = OBJECTIVES[name]
    head = objective.head(2, 3, np.random.default_rng(0))
    for labels in ([0, 0, 0], [0, 1, 2]):
        assert math.isfinite(float(objective.loss(at(0, 40, 90), head, tf.constant(labels))))


@pytest.mark.parametrize("name", ["contrastive", "triplet", "prototypical", "koch"])
def test_descending_a_pair_objective_brings_classes_together(name):
    objective = OBJECTIVES[name]
    rng = np.random.default_rng(0)
    embeddings = tf.Variable(rng.normal(size=(12, 4)).astype(np.float32))
    head = [tf.constant(first) for first in objective.head(4, 3, rng)]
    labels = tf.constant(np.repeat([0, 1, 2], 4))

    def spread() -> float:
        unit = tf.math.l2_normalize(embeddings, -1).numpy()
        cosines = unit @ unit.T
        same = np.equal.outer(labels.numpy(), labels.numpy())
        return float(cosines[same].mean() - cosines[~same].mean())

    before = spread()
    for _ in range(200):
        with tf.GradientTape() as tape:
            loss = objective.loss(embeddings, head, labels)
        embeddings.assign_sub(0.5 * tape.gradient(loss, embeddings))
    assert spread() > before + 0.2

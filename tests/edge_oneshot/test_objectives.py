import math

import numpy as np
import pytest
import tensorflow as tf

from edge_oneshot.training.objectives import cosine_softmax


def test_cosine_softmax_on_a_worked_example():
    # cosines 0.6 and 0.8 to the two prototypes; the own class is the first
    embedding, prototypes = tf.constant([[3.0, 4.0]]), tf.constant([[2.0, 0.0], [0.0, 5.0]])
    loss = cosine_softmax(embedding, prototypes, tf.constant([0]), margin=0.1, scale=10.0)
    own, other = 10 * (0.6 - 0.1), 10 * 0.8
    assert float(loss) == pytest.approx(-math.log(math.exp(own) / (math.exp(own) + math.exp(other))), rel=1e-5)


def test_the_loss_is_blind_to_lengths():
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

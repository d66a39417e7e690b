"""The metric objective: what training pulls together and pushes apart."""

import tensorflow as tf

MARGIN = 0.15
SCALE = 20.0


def cosine_softmax(
    embeddings: tf.Tensor, prototypes: tf.Tensor, labels: tf.Tensor, *, margin: float = MARGIN, scale: float = SCALE
) -> tf.Tensor:
    """Softmax over the cosines to one learned prototype a class, less a margin for the right one.

    CosFace, Wang et al. 2018, equation 4: cross-entropy of ``scale * (cos - margin * [own class])``.

    Args:
        embeddings: float32 (n, d), of any length.
        prototypes: float32 (d, classes), of any length.
        labels: int (n,), 0..classes - 1.
        margin: By how much the own class must win, in cosine.
        scale: Inverse temperature.

    Returns:
        The mean loss, float32 scalar.
    """
    cosines = tf.math.l2_normalize(embeddings, -1) @ tf.math.l2_normalize(prototypes, 0)
    own = tf.one_hot(labels, tf.shape(prototypes)[1])
    logits = scale * (cosines - margin * own)
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(own, logits))

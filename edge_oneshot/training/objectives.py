"""Training objectives: the loss of each paper over the embeddings of a batch.

Embeddings are float32 (n, d), not normalised, with the class of each, int (n,). Losses over pairs and triplets use
all pairs of a batch, so that a batch holds several images per class.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edge_oneshot.training.options import ObjectiveName
from edge_oneshot_device.bundle.manifest import Metric

MARGIN = 0.15
SCALE = 12.0

Head = list[npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Objective:
    """A loss, and what training with it needs.

    Attributes:
        loss: From embeddings, the head's variables and the classes to the mean loss, a scalar.
        head: From the embedding's size, the number of classes and a generator to the initial values of the
            variables that are trained beside the encoder's.
        metric: How embeddings that were trained so are compared.
        images_per_class: Images per class in a batch; 0 where the loss needs no pairs.
        imprinted: Whether the head is one prototype per class, which begins at the mean of the class's embeddings.
    """

    loss: Callable[[tf.Tensor, Sequence[tf.Tensor], tf.Tensor], tf.Tensor]
    head: Callable[[int, int, np.random.Generator], Head]
    metric: Metric
    images_per_class: int
    imprinted: bool = False


def cosine_softmax(
    embeddings: tf.Tensor, prototypes: tf.Tensor, labels: tf.Tensor, *, margin: float = MARGIN, scale: float = SCALE
) -> tf.Tensor:
    """Softmax over the cosines to one learned prototype per class, with a margin on the true class.

    CosFace, Wang et al. 2018, equation 4: cross-entropy of ``scale * (cos - margin * [true class])``.

    Args:
        embeddings: float32 (n, d).
        prototypes: float32 (d, classes), of any length.
        labels: int (n,), 0..classes - 1.
        margin: Subtracted from the cosine to the true class.
        scale: Inverse temperature.

    Returns:
        The mean loss, a scalar.
    """
    cosines = tf.math.l2_normalize(embeddings, -1) @ tf.math.l2_normalize(prototypes, 0)
    own = tf.one_hot(labels, tf.shape(prototypes)[1])
    logits = scale * (cosines - margin * own)
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(own, logits))


def contrastive(embeddings: tf.Tensor, labels: tf.Tensor, *, margin: float = 1.0) -> tf.Tensor:
    """Contrastive loss over unit embeddings: genuine pairs close together, impostor pairs at least `margin` apart.

    Hadsell, Chopra & LeCun 2006, equation 4: ``D^2 / 2`` for genuine, ``max(0, margin - D)^2 / 2`` for impostor
    pairs. The mean is taken over each kind, because impostor pairs are far more numerous.

    Args:
        embeddings: float32 (n, d).
        labels: int (n,).
        margin: Distance beyond which an impostor pair costs nothing.

    Returns:
        The mean loss, a scalar.
    """
    distances = tf.sqrt(_squared_distances(tf.math.l2_normalize(embeddings, -1)) + 1e-12)
    genuine, impostor = _kinds(labels)
    pull = _mean(tf.square(distances) / 2.0, genuine)
    push = _mean(tf.square(tf.nn.relu(margin - distances)) / 2.0, impostor)
    return (pull + push) / 2.0


def triplet(embeddings: tf.Tensor, labels: tf.Tensor, *, margin: float = 0.2) -> tf.Tensor:
    """Triplet loss with semi-hard negatives, over squared distances of unit embeddings.

    FaceNet, Schroff et al. 2015, equation 3: ``max(0, D(a, p)^2 - D(a, n)^2 + margin)`` over all genuine pairs
    (a, p) of the batch. The semi-hard negative n is the nearest that is farther than p, else the farthest of all.

    Args:
        embeddings: float32 (n, d).
        labels: int (n,).
        margin: By how much the negative must be farther than the positive.

    Returns:
        The mean loss, a scalar.
    """
    squared = _squared_distances(tf.math.l2_normalize(embeddings, -1))
    genuine, impostor = _kinds(labels)
    # (anchor, positive, negative)
    farther = impostor[:, None, :] & (squared[:, None, :] > squared[:, :, None])
    nearest_farther = tf.reduce_min(tf.where(farther, squared[:, None, :], np.inf), axis=2)
    farthest = tf.reduce_max(tf.where(impostor, squared, -np.inf), axis=1, keepdims=True)
    negative = tf.where(tf.reduce_any(farther, axis=2), nearest_farther, farthest)
    usable = genuine & tf.reduce_any(impostor, axis=1, keepdims=True)
    return _mean(tf.nn.relu(squared - tf.where(usable, negative, 0.0) + margin), usable)


def prototypical(embeddings: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Prototypical loss: a batch as a one-shot episode, softmax over squared distances to the support images.

    Snell et al. 2017, equation 2, with one support image per class: the first image of each class in the batch is
    its support, all others are queries.

    Args:
        embeddings: float32 (n, d).
        labels: int (n,).

    Returns:
        The mean loss over the queries, a scalar.
    """
    same = labels[:, None] == labels[None, :]
    first = tf.argmax(same, axis=1, output_type=tf.int32)
    place = tf.range(tf.shape(labels)[0])
    support = first == place
    logits = tf.where(support[None, :], -_squared_distances(embeddings), -np.inf)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(first, logits)
    return _mean(losses, ~support)


def koch(embeddings: tf.Tensor, weights: tf.Tensor, bias: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The siamese head of Koch et al. 2015: cross-entropy of the sigmoid of a weighted L1 distance, over pairs.

    Section 3.1: ``p = sigmoid(sum_j alpha_j |h1_j - h2_j|)`` with ``h`` in 0..1, the sigmoid of the embedding; 1 means
    the same class. Genuine and impostor pairs have equal weight, as in Koch's balanced pairs. With the bias, two equal
    embeddings can have a probability near 1.

    Args:
        embeddings: float32 (n, d).
        weights: alpha, float32 (d,).
        bias: float32 scalar.
        labels: int (n,).

    Returns:
        The mean loss, a scalar.
    """
    features = tf.sigmoid(embeddings)
    logits = tf.abs(features[:, None, :] - features[None, :, :]) @ weights[:, None]
    logits = logits[..., 0] + bias
    genuine, impostor = _kinds(labels)
    return (_mean(tf.nn.softplus(-logits), genuine) + _mean(tf.nn.softplus(logits), impostor)) / 2.0


def _squared_distances(rows: tf.Tensor) -> tf.Tensor:
    """Between all rows (n, d): (n, n)."""
    lengths = tf.reduce_sum(tf.square(rows), axis=1)
    return tf.nn.relu(lengths[:, None] + lengths[None, :] - 2.0 * rows @ tf.transpose(rows))


def _kinds(labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The genuine pairs (n, n) of two different images, and the impostor pairs."""
    same = labels[:, None] == labels[None, :]
    return same & ~tf.eye(tf.shape(labels)[0], dtype=tf.bool), ~same


def _mean(values: tf.Tensor, where: tf.Tensor) -> tf.Tensor:
    """Mean of the values where `where` is true, 0 when it is nowhere."""
    return tf.math.divide_no_nan(
        tf.reduce_sum(tf.where(where, values, 0.0)), tf.reduce_sum(tf.cast(where, values.dtype))
    )


def _no_head(_embedding: int, _classes: int, _rng: np.random.Generator) -> Head:
    return []


def _prototypes(embedding: int, classes: int, rng: np.random.Generator) -> Head:
    return [rng.normal(0.0, 0.05, (embedding, classes)).astype(np.float32)]


def _koch_head(embedding: int, _classes: int, _rng: np.random.Generator) -> Head:
    # equal embeddings begin near 1, and any difference lowers that
    return [np.full(embedding, -8.0 / embedding, np.float32), np.full((), 2.0, np.float32)]


OBJECTIVES: Final[dict[ObjectiveName, Objective]] = {
    "cosine": Objective(lambda e, head, y: cosine_softmax(e, head[0], y), _prototypes, "cosine", 0, imprinted=True),
    "contrastive": Objective(lambda e, _, y: contrastive(e, y), _no_head, "cosine", 4),
    "triplet": Objective(lambda e, _, y: triplet(e, y), _no_head, "cosine", 4),
    "prototypical": Objective(lambda e, _, y: prototypical(e, y), _no_head, "euclidean", 4),
    "koch": Objective(lambda e, head, y: koch(e, head[0], head[1], y), _koch_head, "cosine", 4),
}

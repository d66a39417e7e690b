"""How far an exported variant's embeddings lie from the Keras model's, and whether that is near enough."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.manifest import Drift, Metric
from edge_oneshot_export.errors import ModelError

FLOAT_COSINE_MIN: Final = 0.9999
"""Float variants repeat Keras: 1 - cosine measured below 1e-10, in LiteRT and ONNX Runtime, for seven layers."""

INT8_COSINE_MEAN: Final = 0.99
INT8_COSINE_P01: Final = 0.97
"""Measured means, TFLite and ONNX: 0.9994 and 0.9990 for a contrastively trained depthwise-separable encoder
(minimum 0.9977), 0.9983 and 0.9956 for a plain one of seven layers with random weights."""

COLLAPSED: Final[dict[Metric, float]] = {"cosine": 0.98, "euclidean": 0.9999}
"""Mean cosine between different images from which on every image looks the same, and every drift perfect.

Euclidean embeddings may lie far from the origin, so only those that hardly vary at all are refused.
"""


def measure_drift(encoder: Encoder, reference: NDArray[np.float32], images: NDArray[np.uint8]) -> Drift:
    """Compare a variant, run as the device runs it, with the Keras model.

    Euclidean embeddings are compared as seen from the mean reference: a common offset has a
    cosine of its own.

    Args:
        encoder: The exported variant.
        reference: float32 (n, size), what the Keras model answers.
        images: uint8 (n, h, w, c), the images behind `reference`.
    """
    answered = encoder.embed_many(images)
    metric = encoder.embedding.metric
    origin = reference.mean(axis=0) if metric == "euclidean" else np.float32(0)
    cosines = np.sum(unit(answered - origin) * unit(reference - origin), axis=1)
    changed = nearest(answered, metric) != nearest(reference, metric)
    return Drift(
        images=len(images),
        cosine_mean=float(cosines.mean()),
        cosine_p01=float(np.percentile(cosines, 1)),
        cosine_min=float(cosines.min()),
        neighbour_changed=float(changed.mean()),
    )


def gate(variant: str, drift: Drift) -> str | None:
    """Why a variant has drifted too far to be shipped, or None."""
    if variant.endswith("int8"):
        bounds = [("mean", drift.cosine_mean, INT8_COSINE_MEAN), ("1st percentile", drift.cosine_p01, INT8_COSINE_P01)]
    else:
        bounds = [("minimum", drift.cosine_min, FLOAT_COSINE_MIN)]
    for name, measured, bound in bounds:
        if not measured >= bound:  # NaN fails as well
            return f"the {name} cosine to the Keras model is {measured:.4f} on {drift.images} images, below {bound}"
    return None


def check_alive(reference: NDArray[np.float32], metric: Metric) -> None:
    """Refuse an encoder that tells no images apart.

    Args:
        reference: float32 (n, size), what the Keras model answers for n different images.
        metric: How its embeddings are compared.

    Raises:
        ModelError: ``zero_embedding`` or ``collapsed``.
    """
    if metric == "cosine" and not np.linalg.norm(reference, axis=1).all():
        message = "the model answers all zeros for some image, which has no direction to compare: train it anew"
        raise ModelError(message, reason="zero_embedding")
    units = unit(reference)
    count = len(units)
    # the sum over all ordered pairs of different rows, without the matrix of them
    alike = float((np.square(units.sum(axis=0)).sum() - np.square(units).sum()) / (count * (count - 1)))
    if not alike <= COLLAPSED[metric]:
        message = (
            f"the encoder has collapsed: the mean cosine between different images is {alike:.4f}, at most "
            f"{COLLAPSED[metric]} is accepted; train it anew, or give images that differ"
        )
        raise ModelError(message, reason="collapsed")


def nearest(embeddings: NDArray[np.float32], metric: Metric) -> NDArray[np.int64]:
    """For each row of (n, size) the position of its nearest other row."""
    rows = unit(embeddings) if metric == "cosine" else embeddings.astype(np.float64)
    alike = rows @ rows.T
    if metric == "euclidean":
        alike = 2 * alike - np.square(rows).sum(axis=1)  # minus the squared distance, up to a constant per row
    np.fill_diagonal(alike, -np.inf)
    return np.asarray(alike.argmax(axis=1))


def unit(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rows (n, d) of length 1; all zeros stay so."""
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide / np.maximum(lengths, np.finfo(np.float64).tiny))

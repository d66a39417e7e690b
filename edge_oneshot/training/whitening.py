"""Within-class whitening: directions in which drawings of one character vary count less in the embedding."""

import keras
import numpy as np

from edge_oneshot.data.dataset import Dataset
from edge_oneshot.training.images import unvaried
from edge_oneshot.training.nets import projection
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_export.formats.conversion import reference_embeddings
from edge_oneshot_export.judging.drift import unit


def whiten(encoder: keras.Model, training: Dataset, section: InputSection, ridge: float) -> None:
    """Multiply the encoder's last layers by the inverse square root of the within-class covariance.

    This is within-class covariance normalisation (Hatch, Kajarekar & Stolcke 2006) with a ridge. The covariance
    is that of the unit embeddings of the training images, not augmented. It costs the device nothing, because
    the map is folded into the dense layer and its batch normalisation.

    Args:
        encoder: From `edge_oneshot.training.nets.build_encoder`; changed in place.
        training: Images as `edge_oneshot.training.images.oversampled` says of the section.
        section: Scales the pixels.
        ridge: Share of the mean variance that is added to each direction's.
    """
    rows = unit(reference_embeddings(encoder, unvaried(training.images, section), section))
    members = np.bincount(training.labels)
    means = np.zeros((len(members), rows.shape[1]))
    np.add.at(means, training.labels, rows)
    around = rows - (means / np.maximum(members, 1)[:, None])[training.labels]
    variances, directions = np.linalg.eigh(around.T @ around / len(rows))
    if variances.mean() < 1e-12:  # all images of each class are equal
        return
    change = directions / np.sqrt(np.maximum(variances, 0.0) + ridge * variances.mean()) @ directions.T
    change /= np.linalg.norm(change, 2)
    # Rotate to the principal axes; cosines stay the same. The widest axis sets the step of the 8-bit output, which is
    # then so coarse that runtimes that round differently differ by less than three steps.
    change @= np.linalg.eigh(change.T @ (rows.T @ rows) @ change)[1]
    last = projection(encoder)
    dense, normalisation = last.dense, last.normalisation
    gamma, beta, mean, variance = normalisation.get_weights()
    gain = gamma / np.sqrt(variance + normalisation.epsilon)
    one = np.sqrt(1.0 + normalisation.epsilon)
    dense.set_weights([(dense.get_weights()[0] * gain) @ change])
    shift = (beta - mean * gain) @ change
    normalisation.set_weights([np.full_like(gamma, one), shift, np.zeros_like(mean), np.ones_like(variance)])

"""Within-class whitening: what the same character varies by counts less in the embedding."""

import keras
import numpy as np

from edge_oneshot.data.dataset import Dataset
from edge_oneshot.training.augmentation import OVERSAMPLING
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_export.formats.conversion import reference_embeddings
from edge_oneshot_export.judging.drift import unit

_RIDGE = 0.3  # of the mean variance, added to that of each direction; chosen on held-out alphabets


def whiten(encoder: keras.Model, training: Dataset, section: InputSection) -> None:
    """Multiply the encoder's last layers by the inverse square root of the within-class covariance.

    Within-class covariance normalisation (Hatch, Kajarekar & Stolcke 2006), of unit embeddings of
    the training images as they are, with a ridge. It costs the device nothing: the map is folded
    into the dense layer and its batch normalisation.

    Args:
        encoder: From `edge_oneshot.training.encoders.build_encoder`; changed in place.
        training: Images at `OVERSAMPLING` times the encoder's resolution.
        section: Scales the pixels.
    """
    count, height, width, channels = training.images.shape
    blocks = (count, height // OVERSAMPLING, OVERSAMPLING, width // OVERSAMPLING, OVERSAMPLING, channels)
    images = training.images.reshape(blocks).mean(axis=(2, 4)).round().astype(np.uint8)
    rows = unit(reference_embeddings(encoder, images, section))
    members = np.bincount(training.labels)
    means = np.zeros((len(members), rows.shape[1]))
    np.add.at(means, training.labels, rows)
    around = rows - (means / np.maximum(members, 1)[:, None])[training.labels]
    variances, directions = np.linalg.eigh(around.T @ around / count)
    if variances.mean() < 1e-12:  # the images of each class are the same one
        return
    change = directions / np.sqrt(np.maximum(variances, 0.0) + _RIDGE * variances.mean()) @ directions.T
    change /= np.linalg.norm(change, 2)
    # Turned to the principal axes, which leaves cosines as they are. The widest one sizes the steps of 8 bits: they are
    # coarse enough then that what runtimes round differently does not add up to three.
    change @= np.linalg.eigh(change.T @ (rows.T @ rows) @ change)[1]
    dense, normalisation = encoder.layers[-2], encoder.layers[-1]
    gamma, beta, mean, variance = normalisation.get_weights()
    gain = gamma / np.sqrt(variance + normalisation.epsilon)
    one = np.sqrt(1.0 + normalisation.epsilon)
    dense.set_weights([(dense.get_weights()[0] * gain) @ change])
    shift = (beta - mean * gain) @ change
    normalisation.set_weights([np.full_like(gamma, one), shift, np.zeros_like(mean), np.ones_like(variance)])

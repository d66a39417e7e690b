"""A bundle of an untrained encoder: good for times and for attacks, not for accuracy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def export_untrained(path: Path, variants: Sequence[str] | None = None) -> Path:
    """Export a few convolutions with random weights, for the glyphs at 48 x 48; None: in every variant."""
    import keras
    from keras import layers

    from edge_oneshot.data.loading import default_input, load_data
    from edge_oneshot_device.encoding.preprocessing import scale
    from edge_oneshot_export import BundleSpec, ExportOptions, LabelledImages, export

    section = default_input("glyphs")
    seen, held_out = load_data("glyphs", section).split(4, seed=0)
    images = seen.images[:: len(seen.images) // 200]
    keras.utils.set_random_seed(0)
    pixels = keras.Input(section.shape)
    features = pixels
    for filters in (16, 32, 64, 64):
        features = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(features)
    embed = layers.Dense(128)
    model = keras.Model(pixels, embed(layers.Flatten()(features)))
    # centred, so that embeddings of different images point in different directions
    embed.bias.assign(-np.asarray(model(scale(images, section))).mean(axis=0))
    people = LabelledImages(held_out.images, held_out.labels, held_out.identities)
    options = ExportOptions(variants="all" if variants is None else tuple(variants))
    return export(model, path, BundleSpec(section), images=images, calibration=people, options=options).path

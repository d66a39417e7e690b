"""Write former/: a bundle and a state folder as the release of its day made them; not to be renewed.

Run with that release: the files show that later ones still open them.
"""

import os
import shutil
import tempfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
from edge_oneshot_device.recognition.installation import install
from keras import layers

from edge_oneshot.data.loading import default_input, load_data
from edge_oneshot_device import Bundle, Recognizer
from edge_oneshot_device.encoding.preprocessing import scale
from edge_oneshot_device.gallery.access import Access
from edge_oneshot_device.gallery.keys import KeySource, read_key
from edge_oneshot_device.gallery.rotation import rotate_key
from edge_oneshot_device.gallery.transfer import back_up, export_people
from edge_oneshot_export import LabelledImages, export

OUT = Path(__file__).with_name("former")


def main() -> None:
    """Write state/ with its bundle, key, door.backup and door.people."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    section = default_input("glyphs", 32)
    seen, held_out = load_data("glyphs", section).split(4, seed=0)
    keras.utils.set_random_seed(0)
    pixels = keras.Input(section.shape)
    features = pixels
    for filters in (8, 16, 16):
        features = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(features)
    embed = layers.Dense(16)
    model = keras.Model(pixels, embed(layers.Flatten()(features)))
    embed.bias.assign(-np.asarray(model(scale(seen.images[::20], section))).mean(axis=0))
    people = LabelledImages(held_out.images, held_out.labels, held_out.identities)
    with tempfile.TemporaryDirectory() as name:
        bundle, key, state = Path(name) / "door.oneshot", Path(name) / "key", OUT / "state"
        export(model, bundle, images=seen.images[::20], calibration=people, input=section, variants=("int8", "float32"))
        opened = Bundle.open(bundle)
        ada, grace, *_ = (opened.read(path) for path in opened.manifest.self_test.images)
        install(bundle, state, key=key, keep_photos=True)
        with Recognizer.open(state, key=key) as door:
            door.enrol("ada", ada)
            door.enrol("grace", grace)
            rotate_key(door.gallery)
            door.gallery.set_access("grace", Access(valid_until="2100-01-01T00:00:00Z"))
            door.identify(ada)
            door.verify("grace", ada)
            back_up(door.gallery, OUT / "door.backup")
            export_people(door.gallery, OUT / "door.people", read_key(KeySource(key)))
        shutil.copy(key, OUT / "key")


if __name__ == "__main__":
    main()

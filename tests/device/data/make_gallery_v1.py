"""Writes gallery-v1.db, a gallery as version 1 made it. Run with the release of its day; not to be renewed."""

from pathlib import Path

import numpy as np

from edge_oneshot_device.gallery import Gallery

with Gallery.open(Path(__file__).with_name("gallery-v1.db"), "a" * 64, 4) as gallery:
    gallery.enrol("ada", np.array([[0.5, -0.5, 0.5, -0.5]], np.float32))
    gallery.enrol("Zoë", np.array([[1, 0, 0, 0], [0, 0, 0, -1]], np.float32))

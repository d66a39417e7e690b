"""Parity of the ported network with dlib: embeddings that dlib computed once, compared with those of Keras."""

import hashlib
import io
import json
from importlib import resources
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot.errors import DataError
from edge_oneshot.faces.net import SIDE
from edge_oneshot.faces.packages import ASTRONAUT, read_package_file
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_export.formats.conversion import reference_embeddings

if TYPE_CHECKING:
    import keras

LARGEST: Final = 1e-4
"""Largest difference of a component; measured: 2e-6. Embeddings have a length of about 1.3, and those of two people
are 0.6 and more apart."""

_FACE: Final = (150, 30, 300, 180)  # left, upper, right, lower in the photo


def check_parity(model: "keras.Model", section: InputSection) -> float:
    """Compare the embeddings of the Keras network with dlib's embeddings of the same images.

    Args:
        model: From `edge_oneshot.faces.net.build_net`.
        section: The encoder's input, for which the images are scaled.

    Returns:
        The largest difference of a component.

    Raises:
        DataError: Reason ``not_dlib``: it is larger than `LARGEST`; ``extra_missing``: the photo's package is missing.
    """
    answered = reference_embeddings(model, parity_chips(), section)
    golden = resources.files("edge_oneshot.faces").joinpath("golden.json").read_bytes()
    largest = float(np.abs(answered - np.array(json.loads(golden))).max())
    if not largest <= LARGEST:
        message = f"the ported face network is {largest:.2g} off dlib's own answers, at most {LARGEST:g} is expected"
        raise DataError(f"{message}; report it with the versions of keras and tensorflow", reason="not_dlib")
    return largest


def parity_chips() -> NDArray[np.uint8]:
    """A face of a package's photo, noise from SHAKE-256, and a gradient: uint8 (3, 150, 150, 3)."""
    with Image.open(io.BytesIO(read_package_file(ASTRONAUT))) as photo:
        face = np.asarray(photo.convert("RGB").crop(_FACE))
    noise = np.frombuffer(hashlib.shake_256(b"parity").digest(face.size), np.uint8).reshape(face.shape)
    rows, columns = np.indices((SIDE, SIDE))
    slope = np.stack([rows, columns, rows + columns], axis=-1) % 256
    return np.stack([face, noise, slope.astype(np.uint8)])

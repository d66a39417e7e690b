"""The ported network answers what dlib answers: numbers that dlib computed once, held against Keras."""

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
"""Of a component; measured 2e-6. Embeddings are about 1.3 long, and other people's 0.6 and more apart."""

_FACE: Final = (150, 30, 300, 180)  # left, upper, right, lower in the photo


def check_parity(model: "keras.Model", section: InputSection) -> float:
    """Compare the Keras network with what dlib answers to the same chips.

    Args:
        model: See `edge_oneshot.faces.net.build_net`.
        section: How chips become its input.

    Returns:
        The largest difference of a component.

    Raises:
        DataError: ``not_dlib``: it is larger than `LARGEST`; or the package of the photo is missing.
    """
    answered = reference_embeddings(model, parity_chips(), section)
    golden = resources.files("edge_oneshot.faces").joinpath("golden.json").read_bytes()
    largest = float(np.abs(answered - np.array(json.loads(golden))).max())
    if not largest <= LARGEST:
        message = f"the ported face network is {largest:.2g} off dlib's own answers, at most {LARGEST:g} is expected"
        raise DataError(f"{message}; report it with the versions of keras and tensorflow", reason="not_dlib")
    return largest


def parity_chips() -> NDArray[np.uint8]:
    """A face of a package's photo, noise drawn from SHAKE-256, and a slope: uint8 (3, 150, 150, 3)."""
    with Image.open(io.BytesIO(read_package_file(ASTRONAUT))) as photo:
        face = np.asarray(photo.convert("RGB").crop(_FACE))
    noise = np.frombuffer(hashlib.shake_256(b"parity").digest(face.size), np.uint8).reshape(face.shape)
    rows, columns = np.indices((SIDE, SIDE))
    slope = np.stack([rows, columns, rows + columns], axis=-1) % 256
    return np.stack([face, noise, slope.astype(np.uint8)])

"""Parity of the ported nets with their ONNX files, run by ONNX Runtime."""

import hashlib
import io
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot.errors import DataError
from edge_oneshot.faces.onnx_weights import plain
from edge_oneshot.faces.packages import ASTRONAUT, read_package_file
from edge_oneshot.faces.sface import SIDE

if TYPE_CHECKING:
    import keras

LARGEST: Final = 1e-4
"""Largest difference of a component; measured: 4e-6. Embeddings have a length of about 10."""

_FACE: Final = (150, 30, 300, 180)  # left, upper, right, lower in the photo


def check_parity(model: "keras.Model", content: bytes) -> float:
    """Compare the embeddings of SFace in Keras with those of its ONNX file.

    Args:
        model: From `edge_oneshot.faces.sface.build_sface`.
        content: The ONNX file that it was built from.

    Returns:
        The largest difference of a component.

    Raises:
        DataError: Reason ``not_sface``: it is larger than `LARGEST`; ``extra_missing``: the photo's package is missing.
    """
    import onnxruntime

    chips = parity_chips().astype(np.float32)
    session = onnxruntime.InferenceSession(plain(content).SerializeToString(), providers=["CPUExecutionProvider"])
    (name,) = (tensor.name for tensor in session.get_inputs())
    exact = [session.run(None, {name: chip[np.newaxis].transpose(0, 3, 1, 2)})[0][0] for chip in chips]
    largest = float(np.abs(np.asarray(model(chips)) - exact).max())
    if not largest <= LARGEST:
        message = f"the ported face network is {largest:.2g} off its ONNX file, at most {LARGEST:g} is expected"
        raise DataError(f"{message}; report it with the versions of keras and tensorflow", reason="not_sface")
    return largest


def parity_chips() -> NDArray[np.uint8]:
    """A face of a package's photo, noise from SHAKE-256, and a gradient: uint8 (3, 112, 112, 3)."""
    with Image.open(io.BytesIO(read_package_file(ASTRONAUT))) as photo:
        face = np.asarray(photo.convert("RGB").crop(_FACE).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    noise = np.frombuffer(hashlib.shake_256(b"parity").digest(face.size), np.uint8).reshape(face.shape)
    rows, columns = np.indices((SIDE, SIDE))
    slope = np.stack([rows, columns, rows + columns], axis=-1) % 256
    return np.stack([face, noise, slope.astype(np.uint8)])

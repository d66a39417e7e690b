"""Parity of the ported nets with their ONNX files, run by ONNX Runtime."""

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot.errors import DataError
from edge_oneshot.faces.onnx_weights import plain

if TYPE_CHECKING:
    import keras

LARGEST: Final = 1e-4
"""Largest difference of a component; measured: 4e-6. Embeddings have a length of about 10."""


def check_parity(model: "keras.Model", content: bytes, chips: NDArray[np.uint8]) -> float:
    """Compare the embeddings of SFace in Keras with those of its ONNX file.

    Args:
        model: From `edge_oneshot.faces.sface.build_sface`.
        content: The ONNX file that it was built from.
        chips: uint8 (n, 112, 112, 3), what both are shown.

    Returns:
        The largest difference of a component.

    Raises:
        DataError: Reason ``not_sface``: it is larger than `LARGEST`.
    """
    import onnxruntime

    shown = chips.astype(np.float32)
    session = onnxruntime.InferenceSession(plain(content).SerializeToString(), providers=["CPUExecutionProvider"])
    (name,) = (tensor.name for tensor in session.get_inputs())
    exact = [session.run(None, {name: chip[np.newaxis].transpose(0, 3, 1, 2)})[0][0] for chip in shown]
    largest = float(np.abs(np.asarray(model(shown)) - exact).max())
    if not largest <= LARGEST:
        message = f"the ported face network is {largest:.2g} off its ONNX file, at most {LARGEST:g} is expected"
        raise DataError(f"{message}; report it with the versions of keras and tensorflow", reason="not_sface")
    return largest

"""The one pair of quantize and dequantize: ``real = scale * (integer - zero_point)``."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import TensorSpec


def quantize(values: NDArray[np.float32], tensor: TensorSpec) -> NDArray[Any]:
    """Quantize real values to the integers of a tensor: round half to even, clip, cast.

    Args:
        values: float32 array of any shape, finite.
        tensor: Has dtype, scale and zero point.

    Returns:
        Array of the same shape and of the tensor's dtype; for a float tensor `values` itself.
    """
    if tensor.dtype == "float32":
        return values
    limits = np.iinfo(tensor.dtype)
    integers = np.rint(values.astype(np.float64) / tensor.scale) + tensor.zero_point
    clipped: NDArray[Any] = np.clip(integers, limits.min, limits.max).astype(tensor.dtype)
    return clipped


def dequantize(raw: NDArray[Any], tensor: TensorSpec) -> NDArray[np.float32]:
    """Dequantize the integers of a tensor to real values.

    Args:
        raw: Array of any shape, of the tensor's dtype.
        tensor: Has scale and zero point.

    Returns:
        float32 array of the same shape; for a float tensor a copy.
    """
    if tensor.dtype == "float32":
        return raw.astype(np.float32)
    # Widened first: an int8 minus a zero point overflows int8.
    return (raw.astype(np.int32) - tensor.zero_point).astype(np.float32) * np.float32(tensor.scale)

"""Lookup tables of 256 entries: from pixels to an input tensor, and from an 8-bit output tensor to real values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import InputSection, TensorSpec
from edge_oneshot_device.encoding.preprocessing import scale
from edge_oneshot_device.encoding.quantization import dequantize, quantize


def input_tables(section: InputSection, tensor: TensorSpec) -> NDArray[Any]:
    """The model's input value for each of the 256 pixel values.

    Args:
        section: Has the scaling of pixels.
        tensor: The input tensor.

    Returns:
        Array (channels, 256) of the tensor's dtype; (1, 256) when all channels agree.
    """
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, np.newaxis], section.channels, axis=1)
    tables = np.ascontiguousarray(quantize(scale(levels, section), tensor).T)
    return tables[:1] if (tables == tables[0]).all() else tables


def input_flip(tables: NDArray[Any]) -> np.uint8 | None:
    """The bits to flip in each pixel, when that gives its input value: an offset of 128, or an inversion; else None."""
    if len(tables) > 1 or tables.itemsize > 1:
        return None
    bits = tables[0].view(np.uint8)
    flip: np.uint8 = bits[0]
    return flip if (bits == np.arange(256, dtype=np.uint8) ^ flip).all() else None


def output_values(tensor: TensorSpec) -> NDArray[np.float32] | None:
    """The real value of each of the 256 values of an 8-bit output, by its bits; None for a float output."""
    if tensor.dtype == "float32":
        return None
    return dequantize(np.arange(256, dtype=np.uint8).view(tensor.dtype), tensor)

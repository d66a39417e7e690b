"""A runtime for tests: it needs no model file and no native library, and gives the same outputs on every machine."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import TensorSpec
from edge_oneshot_device.encoding.quantization import dequantize, quantize


class FakeModel:
    """A `Model` that projects its input on random directions.

    Different images get clearly different embeddings, because random projections keep angles and distances (Johnson and
    Lindenstrauss 1984).

    Args:
        input: Tensor (1, height, width, channels).
        output: Tensor (1, size).
        seed: Random seed of the directions.
    """

    runtime = "fake"

    def __init__(self, input: TensorSpec, output: TensorSpec, *, seed: int = 0) -> None:  # noqa: A002
        self.input = input
        self.output = output
        pixels = int(np.prod(input.shape))
        directions = np.random.default_rng(seed).standard_normal((pixels, output.shape[1]))
        self._directions = (directions / np.sqrt(pixels)).astype(np.float32)

    def run(self, values: NDArray[Any]) -> NDArray[Any]:
        """Run the model once, see `Model.run`."""
        real = dequantize(values, self.input).reshape(1, -1)
        return quantize(real @ self._directions, self.output)

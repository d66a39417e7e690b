"""A face net in its runtime: one RGB input and two outputs, all in float32."""

import math

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.encoding.runtimes import open_tflite
from edge_oneshot_device.errors import IntegrityError, MachineError

Shape = tuple[int, ...]


class FaceNet:
    """A .tflite file that finds a face or its points; for one thread at a time.

    Args:
        content: The file.
        file: Its name, for errors.
        shapes: Shapes of the input and of both outputs, the smaller output first.
        low: Input value for black; white is 1.
        runtime: ``litert`` or ``tflite-runtime``.
        threads: Threads of one inference.

    Raises:
        IntegrityError: ``model_refused``, or ``model_mismatch``: its tensors have other shapes or dtypes.
        MachineError: ``runtime_missing`` or ``out_of_memory``.
    """

    def __init__(
        self, content: bytes, file: str, shapes: tuple[Shape, Shape, Shape], *, low: float, runtime: str, threads: int
    ) -> None:
        self._file, self._interpreter = file, open_tflite(content, runtime, threads)
        found = sorted(self._interpreter.get_output_details(), key=lambda details: math.prod(details["shape"]))
        tensors = [*self._interpreter.get_input_details(), *found]
        actual = tuple(tuple(map(int, details["shape"])) for details in tensors)
        if actual != shapes or any(details["dtype"] != np.float32 for details in tensors):
            message = f"the tensors of {file} are {actual}, expected {shapes} of float32; export the bundle again"
            raise IntegrityError(message, reason="model_mismatch")
        self._input, *self._outputs = (details["index"] for details in tensors)
        self._step, self._low = np.float32((1.0 - low) / 255.0), np.float32(low)

    def run(self, shown: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run the net once.

        Args:
            shown: uint8 (height, width, 3).

        Returns:
            Both outputs without the batch dimension, the smaller first.

        Raises:
            MachineError: ``runtime_failed``.
        """
        try:
            self._fill(shown)
            self._interpreter.invoke()
            first, second = (self._interpreter.get_tensor(index)[0] for index in self._outputs)
        except (ValueError, RuntimeError) as error:
            raise MachineError(f"the runtime failed to run {self._file}: {error}", reason="runtime_failed") from error
        if not (np.isfinite(first).all() and np.isfinite(second).all()):
            raise MachineError(f"{self._file} returns NaN or infinity; use another runtime", reason="runtime_failed")
        return first, second

    def _fill(self, shown: NDArray[np.uint8]) -> None:
        # a function of its own, because the runtime refuses to run while a reference to its memory exists
        values = self._interpreter.tensor(self._input)()[0]
        np.multiply(shown, self._step, out=values, dtype=np.float32)
        np.add(values, self._low, out=values)

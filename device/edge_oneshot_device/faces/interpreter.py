"""What the nets about a face have in common: one square RGB input, two outputs, all in float32."""

import math

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.errors import IntegrityError, MachineError
from edge_oneshot_device.manifest import FaceModel
from edge_oneshot_device.runtimes import open_tflite

Shape = tuple[int, ...]


class FaceNet:
    """A .tflite file that finds a face or its points; for one thread at a time.

    Args:
        content: The file.
        model: What the manifest says of it.
        outputs: The shapes of both outputs, the smaller first.
        runtime: ``litert`` or ``tflite-runtime``.
        threads: Threads of one inference.

    Raises:
        IntegrityError: ``model_refused``, or ``model_mismatch``: its tensors are others.
        MachineError: ``runtime_missing`` or ``out_of_memory``.
    """

    def __init__(
        self, content: bytes, model: FaceModel, outputs: tuple[Shape, Shape], *, runtime: str, threads: int
    ) -> None:
        self._file, self._interpreter = model.file, open_tflite(content, runtime, threads)
        found = sorted(self._interpreter.get_output_details(), key=lambda details: math.prod(details["shape"]))
        tensors = [*self._interpreter.get_input_details(), *found]
        shapes = [tuple(map(int, details["shape"])) for details in tensors]
        expected = [(1, model.size, model.size, 3), *outputs]
        if shapes != expected or any(details["dtype"] != np.float32 for details in tensors):
            message = (
                f"the tensors of {model.file} are {shapes}, expected {expected} of float32; export the bundle again"
            )
            raise IntegrityError(message, reason="model_mismatch")
        self._input, *self._outputs = (details["index"] for details in tensors)

    def run(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both outputs, without the batch, for an input (size, size, 3).

        Raises:
            MachineError: ``runtime_failed``.
        """
        try:
            self._interpreter.set_tensor(self._input, pixels[np.newaxis])
            self._interpreter.invoke()
            first, second = (self._interpreter.get_tensor(index)[0].astype(np.float64) for index in self._outputs)
        except (ValueError, RuntimeError) as error:
            raise MachineError(f"the runtime failed to run {self._file}: {error}", reason="runtime_failed") from error
        if not (np.isfinite(first).all() and np.isfinite(second).all()):
            raise MachineError(f"{self._file} answers what is no number; use another runtime", reason="runtime_failed")
        return first, second

"""A face net in its runtime: one RGB input and float32 outputs."""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.encoding.runtimes import open_tflite
from edge_oneshot_device.errors import IntegrityError, MachineError

Shape = tuple[int, ...]

_KEPT: Final = 1_600_000  # pixels of the inputs whose interpreters are kept, 100 bytes each: a camera repeats its sizes


class FaceNet:
    """A .tflite file that finds a face or its points; for one thread at a time.

    Args:
        content: The file.
        file: Its name, for errors.
        shapes: Shapes of the input and of the outputs as the file is stored, the smallest output first.
        white: Input value for white; black is 0.
        runtime: ``litert`` or ``tflite-runtime``.
        threads: Threads of one inference.

    Raises:
        IntegrityError: ``model_refused``, or ``model_mismatch``: its tensors have other shapes or dtypes.
        MachineError: ``runtime_missing`` or ``out_of_memory``.
    """

    def __init__(
        self, content: bytes, file: str, shapes: tuple[Shape, ...], *, white: float, runtime: str, threads: int
    ) -> None:
        self._content, self._file, self._runtime, self._threads = content, file, runtime, threads
        interpreter = open_tflite(content, runtime, threads)
        found = sorted(interpreter.get_output_details(), key=lambda details: math.prod(details["shape"]))
        tensors = [*interpreter.get_input_details(), *found]
        actual = tuple(tuple(map(int, details["shape"])) for details in tensors)
        if actual != shapes or any(details["dtype"] != np.float32 for details in tensors):
            message = f"the tensors of {file} are {actual}, expected {shapes} of float32; export the bundle again"
            raise IntegrityError(message, reason="model_mismatch")
        self._input, *self._outputs = (details["index"] for details in tensors)
        self._step = np.float32(white / 255.0)
        self._sized: dict[Shape, Any] = {shapes[0][1:]: interpreter}

    def run(self, shown: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Run the net once.

        Args:
            shown: uint8 (height, width, 3), of the stored size, or of any size that the net takes.

        Returns:
            The outputs without the batch dimension, the smallest first.

        Raises:
            MachineError: ``runtime_failed`` or ``out_of_memory``.
        """
        try:
            interpreter = self._of_size(shown.shape)
            _fill(interpreter, self._input, shown, self._step)
            interpreter.invoke()
            outputs = tuple(interpreter.get_tensor(index)[0] for index in self._outputs)
        except (ValueError, RuntimeError) as error:
            raise MachineError(f"the runtime failed to run {self._file}: {error}", reason="runtime_failed") from error
        if not all(np.isfinite(output).all() for output in outputs):
            raise MachineError(f"{self._file} returns NaN or infinity; use another runtime", reason="runtime_failed")
        return outputs

    def _of_size(self, shape: Shape) -> Any:
        """The interpreter for an input of this shape, opened where it is not among those used last."""
        interpreter = self._sized.pop(shape, None)
        if interpreter is None:
            while self._sized and sum(map(math.prod, self._sized)) + math.prod(shape) > 3 * _KEPT:
                del self._sized[next(iter(self._sized))]
            interpreter = open_tflite(self._content, self._runtime, self._threads)
            interpreter.resize_tensor_input(self._input, (1, *shape))
            interpreter.allocate_tensors()
        self._sized[shape] = interpreter
        return interpreter


def _fill(interpreter: Any, index: int, shown: NDArray[np.uint8], step: np.float32) -> None:
    # a function of its own, because the runtime refuses to run while a reference to its memory exists
    np.multiply(shown, step, out=interpreter.tensor(index)()[0], dtype=np.float32)

"""The runtimes that execute a model file: LiteRT, tflite-runtime, ONNX Runtime; the Edge TPU is in `edgetpu`.

A model runs in the runtime that was asked for or in the default of its format, never silently in another one.
"""

import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Dtype, Format, TensorSpec
from edge_oneshot_device.bundle.runtime_kinds import RUNTIME_KINDS, runtimes_of
from edge_oneshot_device.encoding.onnx_check import check_onnx
from edge_oneshot_device.encoding.options import MAX_THREADS
from edge_oneshot_device.encoding.tflite_check import check_tflite
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError

EDGE_TPU = "edgetpu"

_quiet_lock = threading.Lock()


class Model(Protocol):
    """A model file in a runtime; for one thread at a time."""

    @property
    def runtime(self) -> str:
        """Name of the runtime."""

    @property
    def input(self) -> TensorSpec:
        """Input tensor (1, height, width, channels), as the runtime reports it."""

    @property
    def output(self) -> TensorSpec:
        """Output tensor (1, size), as the runtime reports it."""

    def run(self, values: NDArray[Any]) -> NDArray[Any]:
        """Run once.

        Args:
            values: Array (1, height, width, channels) of the input's dtype.

        Returns:
            Array (1, size) of the output's dtype, owned by the caller.

        Raises:
            MachineError: ``runtime_failed``.
        """


def open_model(format: Format, content: bytes, *, runtime: str | None = None, threads: int = 1) -> Model:  # noqa: A002
    """Load a model file into a runtime.

    It takes the file's content, never a path, because a mapped file that is truncated later would crash the process.
    The caller has to check the content's digest before, because a corrupt file can crash a runtime.

    Args:
        format: ``tflite`` or ``onnx``.
        content: The model file.
        runtime: One of `runtimes_of` the format; None takes the first.
        threads: Threads of one inference, 1..256.

    Raises:
        InputError: ``wrong_runtime`` or ``wrong_threads``.
        IntegrityError: ``model_refused`` by the runtime, or ``model_mismatch``: a bundle cannot describe its input or
            output.
        MachineError: ``runtime_missing`` (the message says what to install) or ``out_of_memory``.
    """
    known = runtimes_of(format)
    name = known[0] if runtime is None else runtime
    if name not in known:
        raise InputError(
            f"runtime {name!r} does not run {format} files; use {' or '.join(known)}", reason="wrong_runtime"
        )
    if not 1 <= threads <= MAX_THREADS:
        raise InputError(f"{threads} threads; use 1 to {MAX_THREADS}", reason="wrong_threads")
    with _quiet_stderr():
        return _MODELS[name](content, threads, name)


class TfliteModel:
    """A .tflite file in LiteRT or in its predecessor tflite-runtime, on the processor or with a delegate."""

    def __init__(self, content: bytes, threads: int, runtime: str, delegate: str | None = None) -> None:
        interpreter = _interpreter(content, threads, runtime, delegate)
        self.runtime = runtime
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise _mismatch(f"{len(inputs)} inputs and {len(outputs)} outputs; one of each is expected")
        self.input, self.output = _tflite_tensor(inputs[0]), _vector(_tflite_tensor(outputs[0]))
        self._input_index, self._output_index = inputs[0]["index"], outputs[0]["index"]
        self._set, self._invoke, self._get = interpreter.set_tensor, interpreter.invoke, interpreter.get_tensor
        self._ops = interpreter._get_ops_details

    @property
    def delegated(self) -> bool:
        """Whether a delegate computes: XNNPACK, unless another one was named."""
        return any(op["op_name"] == "DELEGATE" for op in self._ops())

    def run(self, values: NDArray[Any]) -> NDArray[Any]:
        """Run once, see `Model.run`."""
        try:
            self._set(self._input_index, values)
            self._invoke()
            result: NDArray[Any] = self._get(self._output_index)
        except (ValueError, RuntimeError) as error:
            raise _failed(self.runtime, error) from error
        return result.reshape(self.output.shape)


class OnnxModel:
    """An .onnx file in ONNX Runtime, on the processor."""

    def __init__(self, content: bytes, threads: int, runtime: str) -> None:
        onnxruntime = _import("onnxruntime", runtime)
        state = _import("onnxruntime.capi.onnxruntime_pybind11_state", runtime)
        check_onnx(content)
        self.runtime = runtime
        # ONNX Runtime's errors have no common root but Exception.
        own = (kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
        self._faults: tuple[type[Exception], ...] = (ValueError, RuntimeError, *own)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except MemoryError as error:
            raise _out_of_memory(self.runtime) from error
        except self._faults as error:
            raise _refused(self.runtime, error) from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise _mismatch(f"{len(inputs)} inputs and {len(outputs)} outputs; one of each is expected")
        self.input, self.output = _onnx_tensor(inputs[0]), _onnx_tensor(outputs[0])
        self._input_name, self._output_names = inputs[0].name, [outputs[0].name]

    def run(self, values: NDArray[Any]) -> NDArray[Any]:
        """Run once, see `Model.run`."""
        try:
            result: NDArray[Any] = self._session.run(self._output_names, {self._input_name: values})[0]
        except self._faults as error:
            raise _failed(self.runtime, error) from error
        return result


_MODELS: Final[dict[str, Callable[[bytes, int, str], Model]]] = {
    "litert": TfliteModel,
    "tflite-runtime": TfliteModel,
    "onnxruntime": OnnxModel,
}


def open_tflite(content: bytes, runtime: str, threads: int) -> Any:
    """The interpreter of a .tflite file that is no encoder, such as a face detector.

    Args:
        content: The file.
        runtime: ``litert`` or ``tflite-runtime``.
        threads: Threads of one inference.

    Raises:
        IntegrityError: ``model_refused``.
        MachineError: ``runtime_missing`` or ``out_of_memory``.
    """
    with _quiet_stderr():
        return _interpreter(content, threads, runtime)


def _interpreter(content: bytes, threads: int, runtime: str, delegate: str | None = None) -> Any:
    module = _import("ai_edge_litert.interpreter" if runtime == "litert" else "tflite_runtime.interpreter", runtime)
    check_tflite(content, compiled=delegate is not None)
    delegates = None if delegate is None else [_delegate(module, delegate)]
    try:
        # The default resolver uses XNNPACK; other kernels give other int8 outputs.
        interpreter = module.Interpreter(model_content=content, num_threads=threads, experimental_delegates=delegates)
        interpreter.allocate_tensors()
    except MemoryError as error:
        raise _out_of_memory(runtime) from error
    except SystemError as error:  # tflite-runtime with numpy 2
        raise _broken(runtime, error.__cause__ or error) from error
    except (ValueError, RuntimeError) as error:
        raise _refused(runtime, error) from error
    return interpreter


def _delegate(module: Any, library: str) -> Any:
    try:
        return module.load_delegate(library)
    except (OSError, ValueError, RuntimeError) as error:
        told = " ".join(str(error).split()) or "no reason given"
        message = f"the Edge TPU cannot be used ({told}); edge-oneshot-device doctor says what is missing"
        raise MachineError(message, reason="edgetpu_unavailable") from error


def _tflite_tensor(details: dict[str, Any]) -> TensorSpec:
    dtype = np.dtype(details["dtype"]).name
    shape = tuple(int(side) for side in details["shape"])
    parameters = details["quantization_parameters"]
    if len(parameters["scales"]) > 1:
        raise _mismatch("an input or output quantized per channel; one scale is expected")
    scale, zero_point = details["quantization"]
    return _tensor(dtype, shape, float(scale), int(zero_point))


def _vector(tensor: TensorSpec) -> TensorSpec:
    """An output tensor of a shape such as (1, 1, 1, size), described as (1, size)."""
    shape = tensor.shape
    sizes = [side for side in shape if side > 1]
    return msgspec.structs.replace(tensor, shape=(1, *sizes)) if len(shape) > 2 and len(sizes) == 1 else tensor


def _onnx_tensor(argument: Any) -> TensorSpec:
    batch, *sides = argument.shape or [None]
    # A free batch size is a name or None instead of a number; the model is run with a batch of 1.
    shape = (batch if isinstance(batch, int) else 1, *sides)
    if not all(isinstance(side, int) for side in shape):
        raise _mismatch(f"an input or output of the free shape {argument.shape}; a fixed one is expected")
    dtype = "float32" if argument.type == "tensor(float)" else str(argument.type)
    return _tensor(dtype, shape, 0.0, 0)


def _tensor(dtype: str, shape: tuple[int, ...], scale: float, zero_point: int) -> TensorSpec:
    for known in get_args(Dtype):
        if dtype == known and (known == "float32") == (scale == 0.0):
            return TensorSpec(dtype=known, shape=shape, scale=scale, zero_point=zero_point)
    raise _mismatch(f"an input or output of dtype {dtype} with scale {scale}; int8, uint8 or float32 is expected")


def _import(module: str, runtime: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if runtime == "tflite-runtime" and sys.version_info >= (3, 12):
            message = f"the runtime {runtime} exists for Python up to 3.11 only; take litert"
        else:
            message = f"the runtime {runtime} is not installed; run: {RUNTIME_KINDS[runtime].install}"
        raise MachineError(message, reason="runtime_missing") from error
    except (ImportError, AttributeError) as error:  # built for another numpy or another Python
        raise _broken(runtime, error) from error


def _broken(runtime: str, error: BaseException) -> MachineError:
    message = f"the runtime {runtime} does not load here ({error}); run: {RUNTIME_KINDS[runtime].install}"
    return MachineError(message, reason="runtime_missing")


def _refused(runtime: str, error: Exception) -> IntegrityError:
    told = " ".join(str(error).split())
    return IntegrityError(f"{runtime} refuses the model file: {told}; export it again", reason="model_refused")


def _mismatch(what: str) -> IntegrityError:
    return IntegrityError(f"the model file has {what}; export it again", reason="model_mismatch")


def _failed(runtime: str, error: Exception) -> MachineError:
    told = " ".join(str(error).split())
    return MachineError(f"{runtime} failed to run the model: {told}", reason="runtime_failed")


def _out_of_memory(runtime: str) -> MachineError:
    return MachineError(f"{runtime} has not enough memory for the model; free some", reason="out_of_memory")


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Discard what native code prints to stderr: LiteRT has no setting for its line about XNNPACK.

    File descriptor 2 is redirected while a model loads; Python's own errors are exceptions and are not affected.
    """
    with _quiet_lock:
        try:
            kept = os.dup(2)
        except OSError:  # stderr is closed: there is nothing to discard
            yield
            return
        try:
            if sys.stderr is not None:
                sys.stderr.flush()
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            os.close(null)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)

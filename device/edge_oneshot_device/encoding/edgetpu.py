"""The Edge TPU: a compiled model behind libedgetpu, in a process of its own.

A libedgetpu that does not fit the runtime ends its process by a signal, and a device that was pulled out may
leave a call that never returns: both befall the worker, and a new one is started in its place. `python -m` of
this module is the worker.
"""

import contextlib
import importlib.util
import logging
import os
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Runtime, TensorSpec
from edge_oneshot_device.encoding.runtimes import EDGE_TPU, Model, TfliteModel
from edge_oneshot_device.errors import DeviceError, IntegrityError, MachineError

LIBRARY: Final = "libedgetpu.so.1"

_START_SECONDS: Final = 60.0  # it loads firmware, and the parameters with the first inference
_RUN_SECONDS: Final = 5.0
_GRACE_SECONDS: Final = 5.0  # for a killed worker to be gone, which one that waits for the kernel is not
_log = logging.getLogger(__name__)


class _Order(msgspec.Struct):
    """The first message to the worker; each that follows is an input's bytes."""

    model: bytes
    host: str
    library: str
    seconds: tuple[float, float]


class _Answer(msgspec.Struct):
    """What the worker says to each message: first the tensors, then outputs; or an error of this kind."""

    input: TensorSpec | None = None
    output: TensorSpec | None = None
    values: bytes = b""
    kind: str = ""
    reason: str = ""
    error: str = ""


def host_runtime() -> Runtime:
    """What a delegate is loaded into, and runs the plain file: tflite-runtime where only that is installed."""
    installed = [importlib.util.find_spec(name) is not None for name in ("ai_edge_litert", "tflite_runtime")]
    return "tflite-runtime" if installed == [False, True] else "litert"


class EdgeTpuModel:
    """A .tflite file compiled for the Edge TPU; see `edge_oneshot_device.encoding.runtimes.Model`.

    A worker that dies or does not answer in time is started anew, and given the same input once more.

    Args:
        content: The compiled file.
        plain: Opens the file that it was compiled from, to be run when the Edge TPU fails; None: not allowed.

    Raises:
        IntegrityError: The runtime refuses the file.
        MachineError: ``edgetpu_unavailable``, ``edgetpu_crashed`` or ``edgetpu_hung``, or as `open_model`.
    """

    def __init__(self, content: bytes, plain: Callable[[], Model] | None = None) -> None:
        self._content, self._plain = content, plain
        self._instead: Model | None = None
        self._worker: _Worker | None = None
        try:
            self._worker = _Worker(content)
            self.input, self.output = self._worker.input, self._worker.output
        except MachineError as error:
            instead = self._fall_back(error)
            self.input, self.output = instead.input, instead.output

    @property
    def runtime(self) -> str:
        """``edgetpu``, or what runs the plain file once the Edge TPU has failed."""
        return EDGE_TPU if self._instead is None else self._instead.runtime

    def run(self, values: NDArray[Any]) -> NDArray[Any]:
        """Run once, see `Model.run`; the reasons are those of the constructor as well."""
        if values.shape != self.input.shape or values.dtype != self.input.dtype:
            message = f"{EDGE_TPU} takes {self.input.dtype} {self.input.shape}, not {values.dtype} {values.shape}"
            raise MachineError(message, reason="runtime_failed")
        if self._instead is None:
            try:
                return self._run(values)
            except MachineError as error:
                self._worker = None
                self._fall_back(error)
        assert self._instead is not None
        return self._instead.run(values)

    def _run(self, values: NDArray[Any]) -> NDArray[Any]:
        if self._worker is not None:
            try:
                return self._worker.run(values)
            except MachineError as error:
                _log.warning("%s; it is started anew", error)
        self._worker = None  # the former one gives the device back before
        self._worker = _Worker(self._content)
        return self._worker.run(values)

    def _fall_back(self, error: MachineError) -> Model:
        if self._plain is None:
            raise error
        self._instead = self._plain()
        _log.warning("%s; %s runs the plain file in its place, as is allowed", error, self._instead.runtime)
        return self._instead


class _Worker:
    """A process that holds the delegate; stopped with the last reference to it."""

    def __init__(self, content: bytes) -> None:
        self._host = host_runtime()
        self._seconds = _START_SECONDS, _RUN_SECONDS
        own, its = socket.socketpair()
        # what a library prints is read when it has died; of what nobody reads a full pipe takes no more
        told, telling = os.pipe()
        os.set_blocking(telling, False)
        os.set_blocking(told, False)
        with its, open(telling, "wb") as stderr:  # noqa: PTH123 (a descriptor)
            command = [sys.executable, "-P", "-m", __name__]
            process = subprocess.Popen(command, stdin=its.fileno(), stdout=subprocess.DEVNULL, stderr=stderr)  # noqa: S603
        self._channel, self._told, self._process = own, told, process
        self._stop = weakref.finalize(self, _stop, process, own, told)
        order = _Order(content, self._host, LIBRARY, self._seconds)
        answer = self._ask(msgspec.msgpack.encode(order), self._seconds[0], "while it was started")
        assert answer.input is not None
        assert answer.output is not None
        self.input, self.output = answer.input, answer.output

    def run(self, values: NDArray[Any]) -> NDArray[Any]:
        answer = self._ask(values.tobytes(), self._seconds[1], "in an inference")
        return np.frombuffer(bytearray(answer.values), self.output.dtype).reshape(self.output.shape)

    def _ask(self, message: bytes, seconds: float, when: str) -> _Answer:
        self._channel.settimeout(seconds)
        try:
            _send(self._channel, message)
            received = _receive(self._channel)
        except TimeoutError as error:
            self._stop()
            message_ = f"the Edge TPU did not answer within {seconds:g} s {when}; plug it in again if that stays so"
            raise MachineError(message_, reason="edgetpu_hung") from error
        except OSError:
            received = b""
        if not received:
            raise self._died(when)
        answer = msgspec.msgpack.decode(received, type=_Answer)
        if answer.error:
            self._stop()
            kind = IntegrityError if answer.kind == "IntegrityError" else MachineError
            raise kind(answer.error, reason=answer.reason)
        return answer

    def _died(self, when: str) -> MachineError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)
        code, said = self._process.returncode, b""
        with contextlib.suppress(OSError):
            said = os.read(self._told, 1 << 16)
        self._stop()
        how = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with code {code}"
        last = "".join(f" ({line})" for line in said.decode(errors="replace").splitlines()[-1:])
        message = (
            f"{LIBRARY} on {self._host} ended its process {how} {when}{last}: it may be built for another version of"
            " the runtime; edge-oneshot-device doctor says what there is"
        )
        return MachineError(message, reason="edgetpu_crashed")


def _stop(process: "subprocess.Popen[bytes]", channel: socket.socket, told: int) -> None:
    channel.close()
    os.close(told)
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)


def _send(channel: socket.socket, message: bytes) -> None:
    channel.sendall(len(message).to_bytes(4) + message)


def _receive(channel: socket.socket) -> bytes:
    """The next message; empty at the end."""
    wanted, parts = 4, b""
    while len(parts) < wanted:
        part = channel.recv(min(wanted - len(parts), 1 << 20))
        if not part:
            return b""
        parts += part
        if len(parts) == 4:
            wanted += int.from_bytes(parts)
    return parts[4:]


def _work() -> None:
    """The worker: the delegate and the model from the order, then an output for each input."""
    with socket.socket(fileno=0) as channel:
        order = msgspec.msgpack.decode(_receive(channel), type=_Order)
        started, ran = order.seconds
        try:
            model = _until(2 * started, lambda: _load(order))
            _send(channel, msgspec.msgpack.encode(_Answer(input=model.input, output=model.output)))
            while message := _receive(channel):
                values = np.frombuffer(message, model.input.dtype).reshape(model.input.shape)
                output = _until(2 * ran, lambda values=values: model.run(values))  # type: ignore[misc]
                _send(channel, msgspec.msgpack.encode(_Answer(values=output.tobytes())))
        except DeviceError as error:
            answer = _Answer(kind=type(error).__name__, reason=error.reason, error=str(error))
            _send(channel, msgspec.msgpack.encode(answer))


def _load(order: _Order) -> TfliteModel:
    model = TfliteModel(order.model, 1, order.host, delegate=order.library)
    model.run(np.zeros(model.input.shape, model.input.dtype))
    return model


def _until(seconds: float, work: Callable[[], Any]) -> Any:
    """Do it; the kernel ends a process whose call hangs, so that one without a parent does not keep the device."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    result = work()
    signal.setitimer(signal.ITIMER_REAL, 0)
    return result


if __name__ == "__main__":
    _work()

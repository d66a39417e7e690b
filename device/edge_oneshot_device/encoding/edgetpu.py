"""The Edge TPU: a compiled model runs in libedgetpu, in a worker process.

A libedgetpu that does not fit the runtime crashes its process, and after the device is unplugged a call may never
return. Both affect the worker alone, and a new worker replaces it. The worker runs this module with `python -m`.
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

_START_SECONDS: Final = 60.0  # a start loads firmware, and the first inference the parameters
_RUN_SECONDS: Final = 5.0
_GRACE_SECONDS: Final = 5.0  # until a killed worker must be gone; one that waits in the kernel stays
_log = logging.getLogger(__name__)


class _LoadRequest(msgspec.Struct):
    """The first message to the worker; each message that follows is the bytes of an input."""

    model: bytes
    host: str
    library: str
    seconds: tuple[float, float]


class _Reply(msgspec.Struct):
    """The worker's reply to each message: first the tensors, then outputs; or an error and its class."""

    input: TensorSpec | None = None
    output: TensorSpec | None = None
    values: bytes = b""
    kind: str = ""
    reason: str = ""
    error: str = ""


def host_runtime() -> Runtime:
    """The runtime for the delegate and for the plain file: LiteRT, or tflite-runtime where only that is installed."""
    installed = [importlib.util.find_spec(name) is not None for name in ("ai_edge_litert", "tflite_runtime")]
    return "tflite-runtime" if installed == [False, True] else "litert"


class EdgeTpuModel:
    """A .tflite file compiled for the Edge TPU; see `edge_oneshot_device.encoding.runtimes.Model`.

    When a worker crashes or does not reply in time, a new one is started and gets the same input once more.

    Args:
        content: The compiled file.
        plain: Opens the file that it was compiled from, which runs when the Edge TPU fails; None: an error instead.

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
        """``edgetpu``, or the runtime of the plain file once the Edge TPU has failed."""
        return EDGE_TPU if self._instead is None else self._instead.runtime

    def run(self, values: NDArray[Any]) -> NDArray[Any]:
        """Run the model once, see `Model.run`; it also raises the errors of the constructor."""
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
        self._worker = None  # the former worker has to release the device first
        self._worker = _Worker(self._content)
        return self._worker.run(values)

    def _fall_back(self, error: MachineError) -> Model:
        if self._plain is None:
            raise error
        self._instead = self._plain()
        _log.warning("%s; %s runs the plain file in its place, as is allowed", error, self._instead.runtime)
        return self._instead


class _Worker:
    """A process that holds the delegate; it is stopped with the last reference to this object."""

    def __init__(self, content: bytes) -> None:
        self._host = host_runtime()
        self._seconds = _START_SECONDS, _RUN_SECONDS
        own, its = socket.socketpair()
        # stderr is read only after a crash, so a pipe that is full by then must not block the worker
        stderr_read, stderr_write = os.pipe()
        os.set_blocking(stderr_write, False)
        os.set_blocking(stderr_read, False)
        with its, open(stderr_write, "wb") as stderr:  # noqa: PTH123 (a descriptor)
            command = [sys.executable, "-P", "-m", __name__]
            process = subprocess.Popen(command, stdin=its.fileno(), stdout=subprocess.DEVNULL, stderr=stderr)  # noqa: S603
        self._channel, self._stderr, self._process = own, stderr_read, process
        self._stop = weakref.finalize(self, _stop, process, own, stderr_read)
        request = _LoadRequest(content, self._host, LIBRARY, self._seconds)
        reply = self._request(msgspec.msgpack.encode(request), self._seconds[0], "while it was started")
        assert reply.input is not None
        assert reply.output is not None
        self.input, self.output = reply.input, reply.output

    def run(self, values: NDArray[Any]) -> NDArray[Any]:
        reply = self._request(values.tobytes(), self._seconds[1], "in an inference")
        return np.frombuffer(bytearray(reply.values), self.output.dtype).reshape(self.output.shape)

    def _request(self, message: bytes, seconds: float, when: str) -> _Reply:
        """Send a message and wait for the reply; `when` is for the error's message."""
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
        reply = msgspec.msgpack.decode(received, type=_Reply)
        if reply.error:
            self._stop()
            kind = IntegrityError if reply.kind == "IntegrityError" else MachineError
            raise kind(reply.error, reason=reply.reason)
        return reply

    def _died(self, when: str) -> MachineError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)
        code, printed = self._process.returncode, b""
        with contextlib.suppress(OSError):
            printed = os.read(self._stderr, 1 << 16)
        self._stop()
        cause = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with code {code}"
        last = "".join(f" ({line})" for line in printed.decode(errors="replace").splitlines()[-1:])
        message = (
            f"{LIBRARY} on {self._host} ended its process {cause} {when}{last}: it may be built for another version of"
            " the runtime; edge-oneshot-device doctor says what there is"
        )
        return MachineError(message, reason="edgetpu_crashed")


def _stop(process: "subprocess.Popen[bytes]", channel: socket.socket, stderr: int) -> None:
    channel.close()
    os.close(stderr)
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)


def _send(channel: socket.socket, message: bytes) -> None:
    channel.sendall(len(message).to_bytes(4) + message)


def _receive(channel: socket.socket) -> bytes:
    """The next message; empty when the other side has closed the socket."""
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
    """The worker: load the delegate and the model, then reply to each input with an output."""
    with socket.socket(fileno=0) as channel:
        request = msgspec.msgpack.decode(_receive(channel), type=_LoadRequest)
        start_seconds, run_seconds = request.seconds
        try:
            model = _until(2 * start_seconds, lambda: _load(request))
            _send(channel, msgspec.msgpack.encode(_Reply(input=model.input, output=model.output)))
            while message := _receive(channel):
                values = np.frombuffer(message, model.input.dtype).reshape(model.input.shape)
                output = _until(2 * run_seconds, lambda values=values: model.run(values))  # type: ignore[misc]
                _send(channel, msgspec.msgpack.encode(_Reply(values=output.tobytes())))
        except DeviceError as error:
            reply = _Reply(kind=type(error).__name__, reason=error.reason, error=str(error))
            _send(channel, msgspec.msgpack.encode(reply))


def _load(request: _LoadRequest) -> TfliteModel:
    model = TfliteModel(request.model, 1, request.host, delegate=request.library)
    model.run(np.zeros(model.input.shape, model.input.dtype))
    return model


def _until(seconds: float, work: Callable[[], Any]) -> Any:
    """Call `work`; the kernel ends the process after so many seconds, so that an orphan does not keep the device."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    result = work()
    signal.setitimer(signal.ITIMER_REAL, 0)
    return result


if __name__ == "__main__":
    _work()

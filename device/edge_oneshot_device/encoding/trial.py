"""A trial run of model files in a child process with limits of time and memory, before they are used.

Only a run shows what a graph costs: a file of a kilobyte can request a tensor of terabytes or an hour of computation,
and a corrupt file can crash the process. The child process runs this module with `python -m`.
"""

import contextlib
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from edge_oneshot_device.bundle.manifest import Format, Runtime
from edge_oneshot_device.bundle.runtime_kinds import runtimes_of
from edge_oneshot_device.encoding.runtimes import EDGE_TPU, open_model, open_tflite
from edge_oneshot_device.errors import DeviceError, IntegrityError, MachineError

if TYPE_CHECKING:
    from edge_oneshot_device.bundle.bundle import Bundle

SECONDS: Final = 30
"""Processor time to start Python, load the files and run each once; an encoder itself takes milliseconds."""

MEMORY: Final = 2 << 30
"""Bytes of memory. Loading the largest file that a bundle can hold takes a gigabyte."""

_PATIENCE: Final = 20  # times the processor time until the child is ended, because other programs may be busy


class _TrialRequest(msgspec.Struct):
    """The files that the child process runs, and its limits."""

    files: list[tuple[Format, Runtime, bytes]]
    seconds: int
    memory: int


class _Failure(msgspec.Struct):
    """An error of the runtime in the child process, which writes nothing when all files run."""

    kind: str
    reason: str
    error: str


def try_variant(bundle: "Bundle", variant: str, runtime: str | None = None) -> None:
    """Run every model file of a variant once in a child process.

    `Encoder.open` refuses a wrong name or runtime, and runs the file for the Edge TPU in a worker process anyway.

    Args:
        bundle: The bundle.
        variant: Name of one of its variants.
        runtime: As of `Encoder.open`.

    Raises:
        IntegrityError, MachineError: As `try_files`.
    """
    if runtime == EDGE_TPU:
        from edge_oneshot_device.encoding.edgetpu import host_runtime

        runtime = host_runtime()
    face = bundle.manifest.input.face
    chosen = [one for one in bundle.manifest.variants if one.name == variant]
    files: list[tuple[Format, str]] = [(one.format, one.file) for one in chosen]
    files += [] if face is None else [("tflite", model.file) for model in face.models]
    try_files([(kind, bundle.read(path)) for kind, path in files], runtime)


def try_files(
    files: Sequence[tuple[Format, bytes]], runtime: str | None = None, *, seconds: int = SECONDS, memory: int = MEMORY
) -> None:
    """Load model files and run each once, on zeros, in a child process.

    Args:
        files: Format and content of each.
        runtime: Used for the files whose format it executes; the others run in the default of their format.
        seconds: Limit of processor time.
        memory: Limit of memory in bytes.

    Raises:
        IntegrityError: ``model_refused``: a file exceeds a limit, fails or crashes the child; or as `open_model`.
        MachineError: ``runtime_missing``.
    """
    chosen = [(kind, _runtime_for(kind, runtime), content) for kind, content in files]
    request = msgspec.msgpack.encode(_TrialRequest(chosen, seconds, memory))
    command = [sys.executable, "-P", "-m", __name__]
    limits = f"{seconds} s of processor time and {memory >> 20} MiB"
    try:
        done = subprocess.run(command, input=request, capture_output=True, timeout=_PATIENCE * seconds, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise _refused("does not end", limits) from error
    if done.returncode == 0:
        return
    if done.returncode == 1 and done.stdout:
        failure = msgspec.msgpack.decode(done.stdout, type=_Failure)
        if failure.reason in ("out_of_memory", "runtime_failed"):
            raise _refused(f"fails ({failure.error})", limits)
        kind = IntegrityError if failure.kind == "IntegrityError" else MachineError
        raise kind(failure.error, reason=failure.reason)
    if done.returncode == -signal.SIGXCPU:
        raise _refused("does not end", limits)
    cause = f"by {signal.Signals(-done.returncode).name}" if done.returncode < 0 else f"with code {done.returncode}"
    raise _refused(f"ends the process {cause}: it is corrupt, or needs too much memory", limits)


def _runtime_for(kind: Format, runtime: str | None) -> Runtime:
    """The runtime if it executes this format, otherwise the default of the format."""
    known = runtimes_of(kind)
    return next((name for name in known if name == runtime), known[0])


def _refused(what: str, limits: str) -> IntegrityError:
    message = f"the model file, run once within {limits}, {what}; export it again, or use a smaller encoder"
    return IntegrityError(message, reason="model_refused")


def _work() -> int:
    """The child process: run the files of the request; the exit code is 1 when one fails."""
    request = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_TrialRequest)
    with contextlib.suppress(ValueError, OSError):  # a stricter limit is set already
        resource.setrlimit(resource.RLIMIT_CPU, (request.seconds, request.seconds + 5))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (request.memory, request.memory))
    with contextlib.suppress(OSError):  # when memory is short, the kernel ends this process before others
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        for kind, runtime, content in request.files:
            _run(kind, runtime, content)
    except DeviceError as error:
        failure = _Failure(type(error).__name__, error.reason, str(error))
        sys.stdout.buffer.write(msgspec.msgpack.encode(failure))
        return 1
    return 0


def _run(kind: Format, runtime: str, content: bytes) -> None:
    if kind == "onnx":
        model = open_model(kind, content, runtime=runtime)
        model.run(np.zeros(model.input.shape, model.input.dtype))
        return
    interpreter = open_tflite(content, runtime, 1)  # unlike an encoder, face nets have several outputs
    try:
        for details in interpreter.get_input_details():
            interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        told = " ".join(str(error).split())
        raise MachineError(f"{runtime} failed to run the model: {told}", reason="runtime_failed") from error


if __name__ == "__main__":
    sys.exit(_work())

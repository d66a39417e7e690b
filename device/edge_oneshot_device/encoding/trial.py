"""The first inference of a model file that is not in use yet, in a process of its own with limits of time and memory.

What a graph costs shows only when it is run: a file of a kilobyte can ask for a tensor of terabytes, or for an hour of
multiplications, and a corrupt one can end the process. `python -m` of this module is the process.
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
from edge_oneshot_device.encoding.runtimes import EDGE_TPU, RUNTIMES, open_model, open_tflite
from edge_oneshot_device.errors import DeviceError, IntegrityError, MachineError

if TYPE_CHECKING:
    from edge_oneshot_device.bundle.bundle import Bundle

SECONDS: Final = 30
"""Of processor time, to start Python, load the files and run each once; an encoder takes milliseconds at a door."""

MEMORY: Final = 2 << 30
"""Bytes. The largest file that a bundle holds needs a gigabyte while it is loaded."""

_WAITS: Final = 20  # for so many times the processor time, where other programs have the processor


class _Order(msgspec.Struct):
    """What the process is to run."""

    files: list[tuple[Format, Runtime, bytes]]
    seconds: int
    memory: int


class _Failure(msgspec.Struct):
    """An error of the runtime in the process; nothing is said where all went well."""

    kind: str
    reason: str
    error: str


def try_variant(bundle: "Bundle", variant: str, runtime: str | None = None) -> None:
    """Run what a variant of a bundle runs, once, in a process of its own; arguments as `Encoder.open` takes them.

    A name or a runtime that does not fit is left to `Encoder.open`, as is the file for the Edge TPU, which has a
    process of its own anyway.

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
    """Load model files and run each once, on zeros, in a process of its own.

    Args:
        files: Format and content of each.
        runtime: Of those that execute its format; one that does not is replaced by the first.
        seconds: Of processor time.
        memory: In bytes.

    Raises:
        IntegrityError: ``model_refused``: it takes more than that, fails or ends the process; or as `open_model`.
        MachineError: ``runtime_missing``.
    """
    chosen = [(kind, _own(kind, runtime), content) for kind, content in files]
    order = msgspec.msgpack.encode(_Order(chosen, seconds, memory))
    command = [sys.executable, "-P", "-m", __name__]
    limits = f"{seconds} s of processor time and {memory >> 20} MiB"
    try:
        done = subprocess.run(command, input=order, capture_output=True, timeout=_WAITS * seconds, check=False)  # noqa: S603
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
    how = f"by {signal.Signals(-done.returncode).name}" if done.returncode < 0 else f"with code {done.returncode}"
    raise _refused(f"ends the process {how}: it is corrupt, or needs too much memory", limits)


def _own(kind: Format, runtime: str | None) -> Runtime:
    """The runtime where it executes such files, otherwise the first that does."""
    known = RUNTIMES[kind]
    return next((name for name in known if name == runtime), known[0])


def _refused(what: str, limits: str) -> IntegrityError:
    message = f"the model file, run once within {limits}, {what}; export it again, or give an encoder that does less"
    return IntegrityError(message, reason="model_refused")


def _work() -> int:
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Order)
    with contextlib.suppress(ValueError, OSError):  # stricter ones hold already
        resource.setrlimit(resource.RLIMIT_CPU, (order.seconds, order.seconds + 5))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (order.memory, order.memory))
    with contextlib.suppress(OSError):  # a machine that runs out of memory ends this process before others
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        for kind, runtime, content in order.files:
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
    interpreter = open_tflite(content, runtime, 1)  # those that find a face have several outputs
    try:
        for details in interpreter.get_input_details():
            interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        told = " ".join(str(error).split())
        raise MachineError(f"{runtime} failed to run the model: {told}", reason="runtime_failed") from error


if __name__ == "__main__":
    sys.exit(_work())

"""Run the Edge TPU compiler where it is installed, read its log, and compare it with the prediction."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from ai_edge_litert.schema_py_generated import BuiltinOperator

from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.files import read_file, write_atomically
from edge_oneshot_device.outputs import check_output
from edge_oneshot_export.edgetpu import rules
from edge_oneshot_export.edgetpu.preflight import (
    MAX_MODEL_BYTES,
    CompiledOps,
    CompilerLog,
    CompilerRun,
    PreflightReport,
    preflight,
)
from edge_oneshot_export.errors import ExportError
from edge_oneshot_export.formats.tflite_file import EDGETPU_OP, read_tflite

PROGRAM = "edgetpu_compiler"
# the runtime of compiler 16 and libedgetpu 16, to which the rules of the preflight apply
MIN_RUNTIME = 14
# the compiler's own limit is 180 s
TIMEOUT_SECONDS = 240.0

# github.com/google-coral/edgetpu/issues/211 and #206: the same file compiles at a later attempt
_FLAKY = "Internal compiler error. Aborting!"
_TRIES = 5

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_CAUSE = re.compile(r"error|invalid|failed:|not quantized|could not", re.IGNORECASE)
_ROW = re.compile(r"^(?P<op>[\w-]+)\s+(?P<count>\d{1,9})\s+(?P<status>\S.*?)\s*$")


@dataclass(frozen=True, slots=True)
class Compilation:
    """A compiled file.

    Attributes:
        content: The file. It needs an Edge TPU, so keep the plain file beside it.
        log: Everything that the compiler printed at the successful attempt.
        parsed: The content of that log.
        tries: Number of attempts.
        seconds: Duration of all attempts.
    """

    content: bytes
    log: str
    parsed: CompilerLog
    tries: int
    seconds: float


def compile_for_edgetpu(content: bytes, *, timeout: float = TIMEOUT_SECONDS) -> Compilation | None:
    """Compile a .tflite file for the Edge TPU.

    A known transient failure of the compiler ("Internal compiler error") is retried, with five attempts in all.

    Args:
        content: A quantized .tflite file.
        timeout: Limit of one attempt in seconds.

    Returns:
        The compiled file; None if edgetpu_compiler is not on PATH.

    Raises:
        ExportError: ``compiler_refused`` or, after all attempts, ``compiler_failed``; the log is a note of the error.
        MachineError: ``compiler_timeout``, or ``compiler_broken``: it cannot be started.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        return None
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edge-oneshot-") as folder:
        (Path(folder) / "model.tflite").write_bytes(content)
        compiled = Path(folder) / "model_edgetpu.tflite"
        command = [program, "-s", "-m", str(MIN_RUNTIME), "-o", folder, str(Path(folder) / "model.tflite")]
        log = ""
        for attempt in range(1, _TRIES + 1):
            log = _run(command, folder, timeout)
            if compiled.is_file() and _FLAKY not in log:
                result = compiled.read_bytes()
                read_tflite(result, f"what {PROGRAM} wrote")
                return Compilation(result, log, parse_log(log), attempt, time.monotonic() - start)
            if _FLAKY not in log:
                raise _failed("refuses the model", "compiler_refused", log)
    raise _failed(f"failed {_TRIES} times", "compiler_failed", log)


def parse_log(text: str) -> CompilerLog:
    """Parse what the compiler prints with ``--show_operations``; what is missing is None."""
    ops = tuple(_table(text))
    edgetpu = _number(text, r"Number of operations that will run on Edge TPU: (\d+)")
    cpu = _number(text, r"Number of operations that will run on CPU: (\d+)")
    total = _number(text, r"Total number of operations: (\d+)")
    if edgetpu is None and total is not None and re.search(r"^Model compiled successfully", text, re.MULTILINE):
        edgetpu, cpu = total, 0  # it prints both only where they differ
    return CompilerLog(
        version=_word(text, r"Edge TPU Compiler version (\S+)"),
        milliseconds=_number(text, r"Model compiled successfully in (\d+) ms"),
        on_chip_bytes=_size(text, "On-chip memory used for caching model parameters"),
        off_chip_bytes=_size(text, "Off-chip memory used for streaming uncached model parameters"),
        subgraphs=_number(text, r"Number of Edge TPU subgraphs: (\d+)"),
        edgetpu_ops=edgetpu,
        cpu_ops=cpu,
        ops=ops,
    )


def check(path: str | os.PathLike[str], *, timeout: float = TIMEOUT_SECONDS) -> PreflightReport:
    """Predict what the compiler does with a .tflite file; where it is installed, also run it, and compare.

    The compiled file is written beside the file, as NAME_edgetpu.tflite.

    Args:
        path: The file.
        timeout: Limit of one attempt of the compiler in seconds.

    Returns:
        The prediction, with what the compiler did.

    Raises:
        ModelError: ``not_tflite``.
        InputError: The file does not exist, or the compiled file may not be written beside it.
        MachineError: ``compiler_timeout``, ``compiler_broken`` or ``cannot_write``.
    """
    report = preflight(path)
    if report.compiled:
        return report
    beside = Path(path).with_name(f"{Path(path).stem}_edgetpu.tflite")
    if shutil.which(PROGRAM) is not None:
        check_output(beside, inputs=[path])
    try:
        compilation = compile_for_edgetpu(read_file(path, MAX_MODEL_BYTES), timeout=timeout)
    except ExportError as error:
        surprise = () if report.faults else ("the prediction was that it takes the file",)
        log = "".join(getattr(error, "__notes__", ()))
        return replace(report, compiler=CompilerRun(None, str(error), surprise, parse_log(log), log))
    if compilation is None:
        return report
    write_atomically(beside, compilation.content, check=lambda: check_output(beside, inputs=[path]))
    told = tuple(disagreements(report, compilation))
    return replace(report, compiler=CompilerRun(str(beside), None, told, compilation.parsed, compilation.log))


def disagreements(report: PreflightReport, compilation: Compilation) -> list[str]:
    """The differences between the prediction and what the compiler did.

    Args:
        report: The prediction.
        compilation: What the compiler did.

    Returns:
        A sentence for each difference.
    """
    parsed = compilation.parsed
    told = [f"the prediction was that the compiler refuses the file ({fault})" for fault in report.faults]
    for what, expected, found in (
        ("operators on the Edge TPU", report.edgetpu_ops, parsed.edgetpu_ops),
        ("operators on the CPU", report.cpu_ops, parsed.cpu_ops),
        ("Edge TPU subgraphs", report.subgraphs, parsed.subgraphs),
    ):
        if found is not None and expected != found:
            told.append(f"{what}: {expected} predicted, {found} in the compiler's log")
    if parsed.off_chip_bytes is not None and report.fits_on_chip != (parsed.off_chip_bytes == 0):
        fit = "to fit" if report.fits_on_chip else "not to fit"
        told.append(f"parameters were predicted {fit} on the chip, {parsed.off_chip_bytes:,} bytes are streamed")
    left = Counter(verdict.op for verdict in report.ops if verdict.target == "cpu")
    kept = Counter(operator.name for operator in read_tflite(compilation.content).operators)
    kept.pop(EDGETPU_OP, None)
    told += [
        f"{op} on the CPU: {left[op]} predicted, {kept[op]} in the compiled file"
        for op in sorted((left - kept) | (kept - left))
    ]
    return told + _statuses(report, parsed)


def _statuses(report: PreflightReport, parsed: CompilerLog) -> list[str]:
    """Rows of the log's table that differ from the prediction, except those of mapped operators."""
    # the table calls all custom operators CUSTOM
    named = {verdict.op: verdict.op if hasattr(BuiltinOperator, verdict.op) else "CUSTOM" for verdict in report.ops}
    predicted = Counter((named[verdict.op], verdict.status) for verdict in report.ops)
    logged: Counter[tuple[str, str]] = Counter()
    for row in parsed.ops:
        logged[row.op, row.status] += row.count
    if not logged:
        return []
    differing = sorted((predicted - logged) | (logged - predicted))
    return [
        f"{op}, {status!r}: {predicted[op, status]} predicted, {logged[op, status]} in the compiler's log"
        for op, status in differing
        if status != rules.MAPPED
    ]


def _run(command: list[str], folder: str, timeout: float) -> str:
    try:
        # in a session of its own: the compiler works in a child process, which has to end with it
        process = subprocess.Popen(  # noqa: S603 - the program that the user has on PATH
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        message = f"{command[0]} cannot be started: {error.strerror}; install it again"
        raise MachineError(message, reason="compiler_broken") from error
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        message = f"{PROGRAM} did not end within {timeout:g} s; try again, or leave the file uncompiled"
        raise MachineError(message, reason="compiler_timeout") from None
    return output.decode(errors="replace")


def _failed(what: str, reason: str, log: str) -> ExportError:
    lines = [line.strip() for line in log.splitlines()]
    causes = [line for line in lines if _CAUSE.search(line)]
    message = f"{PROGRAM} {what}: {'; '.join(causes or lines[-1:]) or 'it said nothing'}; see preflight for the cause"
    error = ExportError(message, reason=reason)
    error.add_note(log)
    return error


def _table(text: str) -> list[CompiledOps]:
    head = re.search(r"^Operator\s+Count\s+Status\s*$", text, re.MULTILINE)
    rows: list[CompiledOps] = []
    for line in text[head.end() :].splitlines() if head else ():
        found = _ROW.match(line)
        if found:
            rows.append(CompiledOps(found["op"], int(found["count"]), found["status"]))
        elif line.strip():
            break
    return rows


def _word(text: str, pattern: str) -> str | None:
    found = re.search(pattern, text)
    return found[1] if found else None


def _number(text: str, pattern: str) -> int | None:
    word = _word(text, pattern)
    return None if word is None else int(word)


def _size(text: str, label: str) -> int | None:
    found = re.search(rf"{label}: (\d+(?:\.\d+)?)\s*([KMG]?i?B)", text)
    return round(float(found[1]) * _UNITS[found[2]]) if found and found[2] in _UNITS else None

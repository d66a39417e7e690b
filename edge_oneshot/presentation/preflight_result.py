"""The result of `preflight` as text: a table of operators, other faults, and a verdict."""

from collections import Counter
from collections.abc import Iterable

from edge_oneshot_device.formatting import align, count
from edge_oneshot_device.text import one_line
from edge_oneshot_export.edgetpu.preflight import ON_CHIP_BYTES, CompilerRun, PreflightReport

_TARGETS = {"edgetpu": "Edge TPU", "cpu": "CPU"}


def preflight_text(report: PreflightReport) -> str:
    """One row per kind of operator and status, in the order of first appearance."""
    rows = Counter((verdict.op, verdict.version, verdict.target, verdict.reason) for verdict in report.ops)
    table = [("operator", "version", "count", "runs on", "status")]
    table += [
        (one_line(op), str(version), str(count), _TARGETS[target], one_line(reason))
        for (op, version, target, reason), count in rows.items()
    ]
    lines = [align(table), ""]
    lines += [f"the compiler refuses the file: {one_line(fault)}" for fault in report.faults]
    lines += list(report.notes)
    fit = "fit" if report.fits_on_chip else "do not fit"
    lines.append(f"parameters: {report.parameter_bytes:,} bytes {fit} into the {ON_CHIP_BYTES:,} on the chip")
    if report.compiler is not None:
        lines += _compiler(report.compiler)
    lines.append(f"{report.model}: {_verdict(report)}")
    return "\n".join(lines)


def _compiler(run: CompilerRun) -> Iterable[str]:
    if run.error is not None:
        yield run.error
    else:
        sizes = f"{run.parsed.on_chip_bytes or 0:,} bytes on the chip, {run.parsed.off_chip_bytes or 0:,} streamed"
        yield f"compiled by version {run.parsed.version}: {run.file} ({sizes})"
    yield from (f"unlike the prediction: {one_line(told)}" for told in run.disagreements)


def _verdict(report: PreflightReport) -> str:
    if report.mapped:
        return f"wholly mapped: {report.edgetpu_ops} of {report.edgetpu_ops} operators run on the Edge TPU"
    if report.faults:
        return "not mapped: the compiler refuses it; until then all of it runs on the CPU"
    if report.edgetpu_ops == 0:
        return "not mapped: all of it runs on the CPU"
    return f"partly mapped: {count(report.edgetpu_ops, 'operator')} on the Edge TPU, {report.cpu_ops:,} on the CPU"

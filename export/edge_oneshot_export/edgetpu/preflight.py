"""Predict, without the compiler, what the Edge TPU compiler does with each operator of a .tflite file."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from edge_oneshot_device.files import read_file
from edge_oneshot_export.edgetpu import rules
from edge_oneshot_export.edgetpu.parts import mapped_part
from edge_oneshot_export.edgetpu.rules import Fault, Use
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.formats.tflite_file import EDGETPU_OP, Operator, Subgraph, Tensor, TfliteFile, read_tflite

# coral.ai/docs/edgetpu/compiler: "roughly 8 MB", of which the program takes some as well
ON_CHIP_BYTES = 8_000_000
MAX_MODEL_BYTES = 1 << 30

_STATIC = (
    "Attempting to use a delegate that only supports static-sized tensors with a graph that has dynamic-sized tensors"
)


@dataclass(frozen=True, slots=True)
class TensorSummary:
    """A tensor. Free sides of its shape are -1; several scales mean one per channel."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OpVerdict:
    """Where one operator runs, and why.

    Attributes:
        index: Its position in the file, from 0, across all subgraphs.
        op: The name in BuiltinOperator, or the custom code.
        version: The version of the operator.
        target: Where it runs.
        status: The status as in the compiler's log.
        reason: The status, and what is wrong in this file.
        outputs: The tensors that it computes.
    """

    index: int
    op: str
    version: int
    target: Literal["edgetpu", "cpu"]
    status: str
    reason: str
    outputs: tuple[TensorSummary, ...]


@dataclass(frozen=True, slots=True)
class CompiledOps:
    """A row of the log's table: the number of operators of a kind with a status."""

    op: str
    count: int
    status: str


@dataclass(frozen=True, slots=True)
class CompilerLog:
    """The content of the compiler's log; None for what it does not contain.

    Attributes:
        version: Version of the compiler.
        milliseconds: Duration of the compilation.
        on_chip_bytes: Size of the parameters that stay on the Edge TPU.
        off_chip_bytes: Size of the parameters that are streamed for each inference.
        subgraphs: Number of Edge TPU subgraphs.
        edgetpu_ops: Number of operators that run on the Edge TPU.
        cpu_ops: Number of operators that run on the CPU.
        ops: The table of operators.
    """

    version: str | None
    milliseconds: int | None
    on_chip_bytes: int | None
    off_chip_bytes: int | None
    subgraphs: int | None
    edgetpu_ops: int | None
    cpu_ops: int | None
    ops: tuple[CompiledOps, ...]


@dataclass(frozen=True, slots=True)
class CompilerRun:
    """What the compiler itself did with the file.

    Attributes:
        file: The file that it wrote; None if it refused.
        error: Why it refused; None if it did not.
        disagreements: Differences from the prediction.
        parsed: The content of its log.
        log: Everything that it printed.
    """

    file: str | None
    error: str | None
    disagreements: tuple[str, ...]
    parsed: CompilerLog
    log: str


@dataclass(frozen=True, slots=True)
class PreflightReport:
    """A prediction of what the Edge TPU compiler, version 16, does with a file.

    Attributes:
        model: The file's path, or "the model".
        mapped: Whether all operators run on the Edge TPU.
        subgraphs: Number of Edge TPU subgraphs, 0 or 1: the mapped operators become one custom operator.
        edgetpu_ops: Number of operators that are mapped.
        cpu_ops: Number of operators that are not.
        faults: Why the compiler refuses the file as a whole; then nothing is mapped.
        notes: Further remarks.
        compiled: Whether the compiler wrote this file; then the report says what it did.
        parameter_bytes: Size of the weights and other constants that operators read.
        fits_on_chip: Whether these fit into the 8 MB on the Edge TPU; otherwise some are streamed for each inference.
        inputs: The model's inputs.
        outputs: The model's outputs.
        ops: One verdict per operator, in the file's order.
        compiler: What the compiler itself did; None if it was not run.
    """

    model: str
    mapped: bool
    subgraphs: int
    edgetpu_ops: int
    cpu_ops: int
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    compiled: bool
    parameter_bytes: int
    fits_on_chip: bool
    inputs: tuple[TensorSummary, ...]
    outputs: tuple[TensorSummary, ...]
    ops: tuple[OpVerdict, ...]
    compiler: CompilerRun | None = None


def preflight(source: str | os.PathLike[str] | bytes) -> PreflightReport:
    """Predict which operators the Edge TPU compiler maps.

    The compiler makes one Edge TPU subgraph of operators without an unmappable operator between them. The operators
    before and after it stay on the CPU (models-intro, "Compiling" and "Float input and output tensors"). `parts` has
    the rule.

    Args:
        source: Path of a .tflite file, or its content.

    Raises:
        ModelError: ``not_tflite``.
        InputError: The file does not exist.
    """
    name = "the model" if isinstance(source, bytes) else os.fspath(source)
    content = source if isinstance(source, bytes) else read_file(source, MAX_MODEL_BYTES)
    file = read_tflite(content, name)
    try:
        faults = () if file.compiled else tuple(_refusals(file))
        ops = tuple(_left(file) if file.compiled else _verdicts(file, refused=bool(faults)))
    except (LookupError, ValueError, TypeError, ZeroDivisionError) as error:
        message = f"{name}: not a .tflite file: an operator lacks what its kind has; give one as the converter wrote it"
        raise ModelError(message, reason="not_tflite") from error
    graph = file.subgraphs[0]
    mapped = sum(op.target == "edgetpu" for op in ops)
    parameters = _parameter_bytes(file)
    return PreflightReport(
        model=name,
        mapped=mapped == len(ops) > 0,
        subgraphs=sum(op.op == EDGETPU_OP for op in ops) if file.compiled else int(mapped > 0),
        edgetpu_ops=mapped,
        cpu_ops=len(ops) - mapped,
        faults=faults,
        notes=tuple(_notes(file, parameters, ops)),
        compiled=file.compiled,
        parameter_bytes=parameters,
        fits_on_chip=parameters <= ON_CHIP_BYTES,
        inputs=_summaries(graph, graph.inputs),
        outputs=_summaries(graph, graph.outputs),
        ops=ops,
    )


def _refusals(file: TfliteFile) -> Iterable[str]:
    dynamic = [tensor for graph in file.subgraphs for tensor in graph.tensors if tensor.dynamic]
    if dynamic:
        graph = file.subgraphs[0]
        inputs = [graph.tensors[index] for index in graph.inputs if index >= 0 and graph.tensors[index].dynamic]
        first = (inputs or dynamic)[0]
        free, shape = _free(first), f"{first.name[-60:]!r} has the shape {first.shape_signature}"
        remedy = "a fixed batch of 1" if free == "free batch" else "a fixed size"
        yield f"{free}: {shape}; export with {remedy}: {_STATIC}"
    values = [tensor for graph in file.subgraphs for tensor in graph.tensors if not tensor.constant]
    if not any(tensor.dtype in ("int8", "uint8") and tensor.scales for tensor in values):
        yield "no operator works on quantized int8 or uint8; export with full int8 quantization: Model not quantized"
    unread: dict[str, str] = {}
    for graph in file.subgraphs:
        for operator in graph.operators:
            found = rules.fault(_use(graph, operator)) if rules.unread(operator) else None
            # operators of a kind share their version; the one that causes it has the longest reason
            if found is not None and len(found.reason) > len(unread.get(operator.name, "")):
                unread[operator.name] = found.reason
    yield from (f"{name}: {reason}" for name, reason in unread.items())


def _verdicts(file: TfliteFile, *, refused: bool) -> Iterable[OpVerdict]:
    index = 0
    for number, graph in enumerate(file.subgraphs):
        faults = [_own_fault(graph, operator, refused=refused) for operator in graph.operators]
        part = mapped_part(graph.operators, [found is None for found in faults]) if number == 0 else set()
        for place, (operator, own) in enumerate(zip(graph.operators, faults, strict=True)):
            found = _outside(number) if own is None and place not in part else own
            yield _verdict(index, operator, found, _summaries(graph, operator.outputs))
            index += 1


def _own_fault(graph: Subgraph, operator: Operator, *, refused: bool) -> Fault | None:
    use = _use(graph, operator)
    if (found := rules.fault(use)) is not None:
        return found
    if free := [tensor for tensor in (*filter(None, use.inputs), *use.outputs) if tensor.dynamic]:
        return Fault(_STATIC, _free(free[0]))
    return Fault("Compilation failed!", "the compiler refuses the file for another operator") if refused else None


def _outside(subgraph: int) -> Fault:
    between = "an operator that stays on the CPU lies between it and the part that is mapped"
    return Fault(rules.MORE_SUBGRAPHS, between if subgraph == 0 else "it is in the body of a branch or loop")


def _left(file: TfliteFile) -> Iterable[OpVerdict]:
    """The verdicts of a compiled file: its custom operator is on the Edge TPU, all others are on the CPU."""
    index = 0
    for graph in file.subgraphs:
        for operator in graph.operators:
            own = operator.custom and operator.name == EDGETPU_OP
            found = None if own else Fault("Not mapped", "the compiler left it on the CPU; its log says why")
            yield _verdict(index, operator, found, _summaries(graph, operator.outputs))
            index += 1


def _verdict(index: int, operator: Operator, found: Fault | None, outputs: tuple[TensorSummary, ...]) -> OpVerdict:
    return OpVerdict(
        index=index,
        op=operator.name,
        version=operator.version,
        target="edgetpu" if found is None else "cpu",
        status=rules.MAPPED if found is None else found.status,
        reason=rules.MAPPED if found is None else f"{found.status}: {found.reason}",
        outputs=outputs,
    )


def _use(graph: Subgraph, operator: Operator) -> Use:
    inputs = tuple(graph.tensors[index] if index >= 0 else None for index in operator.inputs)
    return Use(operator, inputs, tuple(graph.tensors[index] for index in operator.outputs))


def _parameter_bytes(file: TfliteFile) -> int:
    read: dict[int, Tensor] = {}
    for graph in file.subgraphs:
        for operator in graph.operators:
            for index in operator.inputs:
                if index >= 0 and graph.tensors[index].constant:
                    read[graph.tensors[index].buffer] = graph.tensors[index]
    programs = sum(len(operator.custom_options) for operator in file.operators if operator.name == EDGETPU_OP)
    return sum(tensor.bytes for tensor in read.values()) + programs


def _notes(file: TfliteFile, parameters: int, ops: Sequence[OpVerdict]) -> Iterable[str]:
    graph = file.subgraphs[0]
    if file.compiled:
        yield "this file is compiled already; the report says what the compiler did, not what it would do"
    for kind, indices in (("input", graph.inputs), ("output", graph.outputs)):
        if any(graph.tensors[index].dtype == "float32" for index in indices if index >= 0):
            yield f"the {kind} is float32, so the CPU converts it; export with int8 in and out"
    if len(file.subgraphs) > 1:
        yield f"{len(file.subgraphs)} subgraphs: bodies of branches and loops stay on the CPU"
    before = [*takewhile(lambda op: op.status != rules.MAPPED, ops)]
    skipped = sum(op.status == rules.MORE_SUBGRAPHS for op in before)
    if len(before) < len(ops) and skipped:
        yield (
            f"operators before the mapped part that could be mapped as well: {skipped}; the compiler maps one part: "
            "by a log of version 16 the largest, as predicted here, by its manual the first"
        )
    if parameters > ON_CHIP_BYTES:
        yield f"parameters of {parameters:,} bytes do not fit on the chip; the rest is sent anew for each inference"


def _free(tensor: Tensor) -> str:
    return "free batch" if tensor.shape_signature[0] < 0 else "free size"


def _summaries(graph: Subgraph, indices: Iterable[int]) -> tuple[TensorSummary, ...]:
    tensors = (graph.tensors[index] for index in indices if index >= 0)
    return tuple(TensorSummary(t.name, t.shape_signature, t.dtype, t.scales, t.zero_points) for t in tensors)

"""The rules of Edge TPU compiler 16: which operators it maps, up to which version, and the limits of each.

Sources, by their names in the comments:

- models-intro: "TensorFlow models on the Edge TPU", coral.ai/docs/edgetpu/models-intro, its table
  of supported operations for runtime 14;
- runtime_version.cc: tensorflow/lite/tools/versioning, the release in which TensorFlow Lite
  learned each version of an operator; compiler 16 (July 2021) reads what TensorFlow 2.5 reads;
- #N: reports at github.com/google-coral/edgetpu/issues/N, which quote the compiler's logs.

The statuses are those of the compiler's log. docs/reference/edge-tpu.md has the rules as a table.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_oneshot_export.formats.tflite_file import Operator, Tensor

MAPPED = "Mapped to Edge TPU"
DATA_TYPE = "Operation is working on an unsupported data type"
VERSION = "Operation version not supported"
UNSUPPORTED = "Operation not supported"
RANK = "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"
NOT_CONSTANT = "Filter, bias, or other param is not constant at compile-time"
MORE_SUBGRAPHS = "More than one subgraph is not supported"
UNSPECIFIED = "Operation is otherwise supported, but not mapped due to some unspecified limitation"

# models-intro (the operators), runtime_version.cc (the newest version of each that TensorFlow 2.5 knows)
# fmt: off
_SUPPORTED = {
    "ADD": 3, "AVERAGE_POOL_2D": 3, "CONCATENATION": 3, "CONV_2D": 5, "DEPTHWISE_CONV_2D": 6, "EXPAND_DIMS": 1,
    "FULLY_CONNECTED": 9, "L2_NORMALIZATION": 2, "LOGISTIC": 3, "MAXIMUM": 4, "MAX_POOL_2D": 3, "MEAN": 3,
    "MINIMUM": 4, "MUL": 4, "PACK": 3, "PAD": 3, "PRELU": 1, "QUANTIZE": 2, "REDUCE_MAX": 3, "REDUCE_MIN": 3,
    "RELU": 3, "RELU6": 3, "RELU_N1_TO_1": 1, "RESHAPE": 1, "RESIZE_BILINEAR": 4, "RESIZE_NEAREST_NEIGHBOR": 4,
    "RSQRT": 2, "SLICE": 5, "SOFTMAX": 3, "SPACE_TO_DEPTH": 2, "SPLIT": 4, "SQUARED_DIFFERENCE": 2, "SQUEEZE": 2,
    "STRIDED_SLICE": 5, "SUB": 5, "SUM": 2, "TANH": 3, "TILE": 2, "TRANSPOSE": 5,
    "TRANSPOSE_CONV": 3, "UNIDIRECTIONAL_SEQUENCE_LSTM": 3,
}
# fmt: on
# models-intro lacks TILE; it is reported to be mapped, as docs/reference/edge-tpu.md says
# it reads these and leaves them on the CPU
_READ = {"ARG_MAX": 2, "ARG_MIN": 2, "BATCH_MATMUL": 4, "CAST": 1, "DEQUANTIZE": 4, "GATHER": 5, "LEAKY_RELU": 2}
_NEWEST = {**_SUPPORTED, **_READ}
_LAST_BUILTIN = schema.BuiltinOperator.HASHTABLE_SIZE  # runtime_version.cc: the last one that 2.5 added

# inputs that have to be constant, by position; only they may have other types than int8 and uint8
_PARAMETERS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), (1, 2)),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "PAD", "RESHAPE", "TILE", "TRANSPOSE"), (1,)),
    **dict.fromkeys(("EXPAND_DIMS", "PRELU", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), (1,)),
    "TRANSPOSE_CONV": (0, 1, 3),
    "SPLIT": (0,),
    "SLICE": (1, 2),
    "STRIDED_SLICE": (1, 2, 3),
    # all but the input and the two states: weights, biases, projection, layer normalisation (lstm_shared.h)
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (*range(1, 18), *range(20, 24)),
}
# those of them that are quantized like values; biases are int32
_WEIGHTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "PRELU", "TRANSPOSE_CONV"), (1,)),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (*range(1, 9), 16),
}
_LSTM_CELL_STATE = 19  # int16 where everything else is int8

_SOFTMAX_ELEMENTS = 16_000
# #461: a mean of 256x128 stays on the CPU, one of 64x128 is mapped
_MEAN_PIXELS = 64 * 128
# #31, #187: doubling is mapped to 128x128 but not to 256x256; #377: quadrupling is mapped
_RESIZE_FACTORS = (1.0, 2.0, 4.0)
_RESIZE_SIDE = 128


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an operator stays on the CPU: the compiler's status, and what is wrong in this file."""

    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class Use:
    """An operator with its tensors; None for an absent optional input."""

    operator: Operator
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]


def unread(operator: Operator) -> str | None:
    """Why the compiler refuses the whole file because of this operator; None if it reads it.

    #631 and #879: the compilation ends at an operator version that its TensorFlow Lite does not know.
    """
    if operator.custom:
        return None
    newest = _NEWEST.get(operator.name, operator.version)
    if getattr(schema.BuiltinOperator, operator.name) <= _LAST_BUILTIN and operator.version <= newest:
        return None
    known = f"the compiler reads up to {newest}" if operator.name in _NEWEST else "the compiler is older"
    words = f"Didn't find op for builtin opcode '{operator.name}' version '{operator.version}'"
    return f"version {operator.version}: {known} and refuses the file: {words}"


def fault(use: Use) -> Fault | None:
    """What keeps an operator off the Edge TPU, regardless of the operators around it; None for nothing.

    Raises:
        LookupError, ValueError: The operator lacks tensors or options that its kind has.
    """
    operator = use.operator
    groups = _groups(use)
    if (missing := unread(operator)) is not None:
        return Fault(VERSION, f"{groups or _channels(use)}{missing}")
    if (wrong := _data_type(use)) is not None:
        # its log has the first status for the QUANTIZE of a float input
        return Fault(UNSPECIFIED if operator.name == "QUANTIZE" else DATA_TYPE, wrong)
    if operator.name not in _SUPPORTED:
        return Fault(UNSUPPORTED, "not among the operators that the Edge TPU runs")
    for position in _PARAMETERS.get(operator.name, ()):
        parameter = use.inputs[position] if position < len(use.inputs) else None
        if parameter is not None and not parameter.constant:
            return Fault(NOT_CONSTANT, f"{_named(parameter)} is computed at run time")
    for tensor in (*_values(use), *use.outputs):
        if math.prod(tensor.shape[:-3]) > 1:
            return Fault(RANK, f"{_named(tensor)} has the shape {tensor.shape}; batch 1 is needed")
    if groups:
        return Fault(UNSPECIFIED, groups.rstrip(", "))
    limit = _LIMITS.get(operator.name)
    reason = limit(use) if limit is not None else None
    return None if reason is None else Fault(UNSPECIFIED, reason)


def _data_type(use: Use) -> str | None:
    weights = [use.inputs[at] for at in _WEIGHTS.get(use.operator.name, ()) if at < len(use.inputs)]
    lstm = use.operator.name == "UNIDIRECTIONAL_SEQUENCE_LSTM"
    states = use.inputs[_LSTM_CELL_STATE : _LSTM_CELL_STATE + 1] if lstm else ()
    for tensor in filter(None, (*_values(use), *use.outputs, *weights)):
        if tensor.dtype not in ("int8", "uint8") and not (tensor.dtype == "int16" and tensor in states):
            return f"{_named(tensor)} is {tensor.dtype}; only int8 and uint8 are mapped"
        if not tensor.scales:
            return f"{_named(tensor)} is {tensor.dtype} without a scale, so it is not quantized"
        if not all(
            0.0 < scale < math.inf for scale in tensor.scales
        ):  # #350: the compilation ends at an infinite scale
            return f"{_named(tensor)} has a scale that is no positive number"
        if len(tensor.scales) > 1 and tensor not in weights:
            return f"{_named(tensor)} is quantized per channel ({len(tensor.scales)} scales); only weights can be"
    return None


def _values(use: Use) -> list[Tensor]:
    """The inputs that are not parameters."""
    if use.operator.name not in _SUPPORTED:
        return [tensor for tensor in use.inputs if tensor is not None and not tensor.constant]
    parameters = _PARAMETERS.get(use.operator.name, ())
    return [t for position, t in enumerate(use.inputs) if t is not None and position not in parameters]


def _groups(use: Use) -> str:
    if use.operator.name != "CONV_2D":
        return ""
    taken, given = _first(use.inputs).shape[-1], _first(use.inputs[1:]).shape[-1]
    if taken == given:
        return ""
    return f"grouped convolution, {given} of {taken} channels a filter, "


def _channels(use: Use) -> str:
    several = [tensor for tensor in use.outputs if len(tensor.scales) > 1]
    return f"quantized per channel ({len(several[0].scales)} scales), " if several else ""


def _dilation(use: Use) -> str | None:
    across, down = (use.operator.options.get(f"dilation{axis}Factor", 1) for axis in "WH")
    return None if across == down else f"dilation {down}x{across} differs between the axes"


def _no_activation(use: Use) -> str | None:
    none = schema.ActivationFunctionType.NONE
    fused = use.operator.options.get("fusedActivationFunction", none)
    return None if fused == none else "a fused activation; make it an operator of its own"


def _concatenation(use: Use) -> str | None:
    constants = [tensor for tensor in use.inputs if tensor is not None and tensor.constant]
    zeros = all(_integers(tensor) == {tensor.zero_points[0]} for tensor in constants if tensor.zero_points)
    if constants and not (len(use.inputs) == 2 and zeros):
        return "a constant input is allowed only as one of two, and all zeros"
    return _no_activation(use)


def _fully_connected(use: Use) -> str | None:
    weights = _first(use.inputs[1:])
    if len(weights.scales) > 1:
        return (
            f"weights quantized per channel ({len(weights.scales)} scales), of which it reads one; set the "
            "converter's _experimental_disable_per_channel_quantization_for_dense_layers"
        )
    formats = schema.FullyConnectedOptionsWeightsFormat
    if use.operator.options.get("weightsFormat", formats.DEFAULT) != formats.DEFAULT:
        return "weights in a shuffled format"
    return _one_row(use)


def _one_row(use: Use) -> str | None:
    shape = _first(use.outputs).shape
    return None if math.prod(shape[:-1]) == 1 else f"the output {shape} has more than one dimension"


def _softmax(use: Use) -> str | None:
    if (elements := _first(use.inputs).shape[-1]) > _SOFTMAX_ELEMENTS:
        return f"{elements:,} elements, of at most {_SOFTMAX_ELEMENTS:,}"
    return _one_row(use)


def _mean(use: Use) -> str | None:
    shape = _first(use.inputs).shape
    axes = {axis % len(shape) for axis in _integers(use.inputs[1])}
    if len(shape) - 1 in axes and shape[-1] % 4:
        return f"a mean over {shape[-1]} channels, which is no multiple of 4"
    pixels = math.prod(shape[axis] for axis in axes if axis != len(shape) - 1)
    if pixels > _MEAN_PIXELS:
        return f"a mean over {pixels:,} pixels; {_MEAN_PIXELS:,} are known to be mapped"
    return _batch_kept(use)


def _batch_kept(use: Use) -> str | None:
    shape = _first(use.inputs).shape
    return "it reduces the batch" if 0 in {axis % len(shape) for axis in _integers(use.inputs[1])} else None


def _pad(use: Use) -> str | None:
    shape = _first(use.inputs).shape
    data = use.inputs[1]
    width = np.frombuffer(data.data, _INTEGERS[data.dtype]) if data is not None and data.data is not None else ()
    return "it pads the batch" if len(shape) == 4 and any(width[:2]) else None


def _resize(use: Use) -> str | None:
    taken, given = _first(use.inputs).shape[1:3], _first(use.outputs).shape[1:3]
    corners = 1 if use.operator.options.get("alignCorners", False) else 0
    for before, after in zip(taken, given, strict=True):
        same = before == after
        factor = 1.0 if same else (after - corners) / (before - corners) if before > corners else math.inf
        if factor not in _RESIZE_FACTORS or (after > _RESIZE_SIDE and not same):
            return (
                f"{taken[0]}x{taken[1]} to {given[0]}x{given[1]} would lose precision; twice or four times the size, "
                f"up to {_RESIZE_SIDE}x{_RESIZE_SIDE}, is known to be mapped"
            )
    return None


def _axis_kept(use: Use) -> str | None:
    return "along the batch" if use.operator.options.get("axis", 0) == 0 else None


def _split(use: Use) -> str | None:
    return "along the batch" if _integers(use.inputs[0]) == {0} else None


def _prelu(use: Use) -> str | None:
    shape = _first(use.inputs[1:]).shape
    return None if math.prod(shape[:-1]) == 1 else f"alpha has the shape {shape}; one value a channel is needed"


def _strided_slice(use: Use) -> str | None:
    if _integers(use.inputs[3]) != {1}:
        return "strides other than 1"
    masks = [name for name in ("ellipsisMask", "newAxisMask") if use.operator.options.get(name, 0)]
    return f"{masks[0]} is set" if masks else None


_INTEGERS: dict[str, Any] = {"int32": "<i4", "int64": "<i8", "int8": "i1", "uint8": "u1"}

_LIMITS: dict[str, Callable[[Use], str | None]] = {
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), _no_activation),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), _dilation),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), _resize),
    **dict.fromkeys(("SUM", "REDUCE_MAX", "REDUCE_MIN"), _batch_kept),
    "CONCATENATION": _concatenation,
    "FULLY_CONNECTED": _fully_connected,
    "MEAN": _mean,
    "PACK": _axis_kept,
    "PAD": _pad,
    "PRELU": _prelu,
    "SOFTMAX": _softmax,
    "SPLIT": _split,
    "STRIDED_SLICE": _strided_slice,
}


def _first(tensors: Sequence[Tensor | None]) -> Tensor:
    if not tensors or tensors[0] is None or not tensors[0].shape:
        raise ValueError("an operator without a tensor that it needs")
    return tensors[0]


def _integers(tensor: Tensor | None) -> set[int]:
    """The distinct values of a constant."""
    if tensor is None or tensor.data is None:
        raise ValueError("an operator without a constant that it needs")
    return set(np.frombuffer(tensor.data, _INTEGERS[tensor.dtype]).tolist())


def _named(tensor: Tensor) -> str:
    return repr(tensor.name[-60:]) if tensor.name else "a tensor"

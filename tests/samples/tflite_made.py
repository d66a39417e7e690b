"""A .tflite file made by hand: tensors and operators as a list, where no converter writes what a test needs."""

from collections.abc import Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_NUMPY = {"int8": np.int8, "uint8": np.uint8, "int16": np.int16, "int32": np.int32, "float32": np.float32}


def tensor(*shape: int, dtype: str = "int8", scale: float | None = 0.1, values: object = None) -> schema.TensorT:
    """A tensor, quantized unless `scale` is None; with `values` (one number will do) a constant."""
    made = schema.TensorT()
    made.shape, made.type = list(shape), getattr(schema.TensorType, dtype.upper())
    made.values = None if values is None else np.broadcast_to(np.asarray(values, _NUMPY[dtype]), shape)
    if scale is not None:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = [scale], [0]
    return made


def tflite(
    tensors: dict[str, schema.TensorT], operators: Sequence[tuple[str, str, str]], inputs: str, outputs: str
) -> bytes:
    """A file of one graph.

    Args:
        tensors: By their name.
        operators: (kind, inputs, outputs): names with blanks between; "-" for an absent input.
        inputs: Of the graph.
        outputs: Of the graph.
    """
    model, graph, numbers = schema.ModelT(), schema.SubGraphT(), {name: n for n, name in enumerate(tensors)}
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], [schema.BufferT()], []
    graph.tensors, graph.operators = list(tensors.values()), []
    for name, made in tensors.items():
        made.name, made.buffer = name, 0
        if made.values is not None:
            made.buffer = len(model.buffers)
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = np.frombuffer(made.values.tobytes(), np.uint8)

    def numbered(names: str) -> list[int]:
        return [numbers.get(name, -1) for name in names.split()]

    for kind, taken, given in operators:
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode, code.version = getattr(schema.BuiltinOperator, kind), 1
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        operator.opcodeIndex = len(model.operatorCodes)
        operator.inputs, operator.outputs = numbered(taken), numbered(given)
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    graph.inputs, graph.outputs = numbered(inputs), numbered(outputs)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())

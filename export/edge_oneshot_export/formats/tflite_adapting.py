"""Adapt a .tflite encoder to what a bundle takes: batch 1, channels last, one output, an input with a scale."""

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers.builder import BuilderSizeError
from numpy.typing import NDArray

from edge_oneshot_device.encoding.tflite_check import check_tflite
from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.formats.shapes import (
    Size,
    choose_output,
    image_sides,
    in_words,
    require_one_input,
    vector_size,
)
from edge_oneshot_export.formats.tflite_file import Tensor, read_tflite

_DTYPES: Final = ("float32", "uint8", "int8")
_Change = Callable[[Any], None]  # of a file's ModelT


def adapted(content: bytes, size: Size | None = None, outputs: Sequence[str] = ()) -> bytes:
    """Adapt a .tflite file.

    Free sides are fixed, other outputs than the chosen one are removed, channels that come first are moved to the end,
    and a uint8 input without quantization, which takes pixels as they are, gets scale 1 and zero point 0.

    Args:
        content: The file.
        size: Height and width of the input, where they are free.
        outputs: See `edge_oneshot_export.formats.shapes.choose_output`.

    Returns:
        The adapted file, or the file itself if nothing has to change.

    Raises:
        ModelError: It is not a .tflite file, not an encoder, or cannot be adapted.
        IntegrityError: See `edge_oneshot_device.encoding.tflite_check.check_tflite`.
    """
    try:
        return _adapted(content, size, outputs)
    except (ModelError, IntegrityError):
        raise
    except (
        struct.error,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        BuilderSizeError,
    ) as error:
        # as in `read_tflite`, from parts that it does not read
        raise ModelError("it is a damaged .tflite file: copy or convert it again", reason="not_tflite") from error


def _adapted(content: bytes, size: Size | None, outputs: Sequence[str]) -> bytes:
    file = read_tflite(content, "it")
    if file.compiled:
        message = "it is compiled for the Edge TPU: give the .tflite that it was compiled from, without _edgetpu in its"
        raise ModelError(f"{message} name; export compiles it again where edgetpu_compiler is", reason="compiled")
    check_tflite(content)
    graph = file.subgraphs[0]
    require_one_input([_in_words(graph.tensors[index]) for index in graph.inputs])
    image = graph.tensors[graph.inputs[0]]
    sides, first = image_sides(image.shape_signature, size)
    named = _signature_names(content)
    found = [
        ([graph.tensors[index].name, *named.get(index, ())], _kind(graph.tensors[index])) for index in graph.outputs
    ]
    chosen = graph.outputs[choose_output(found, outputs)]
    answer = graph.tensors[chosen]
    _check_dtype(image, "input", "inference_input_type")
    _check_dtype(answer, "output", "inference_output_type")
    if not answer.dynamic:
        vector_size(answer.shape)
    changes: list[_Change] = []
    if image.shape != sides or image.dynamic:
        changes.append(lambda model: _fix(model, sides))
    if len(graph.outputs) > 1:
        changes.append(lambda model: _keep_one(model, chosen))
    if image.dtype == "uint8" and not image.scales:
        changes.append(_take_pixels)
    if first:
        changes.append(lambda model: _put_last(model, sides))
    return _changed(content, changes) if changes else content


def _changed(content: bytes, changes: Sequence[_Change]) -> bytes:
    file, model = schema.Model.GetRootAs(content), schema.ModelT()
    model.version = file.Version()
    # metadata and signatures are left out, because they describe the original file
    codes, buffers = range(file.OperatorCodesLength()), range(file.BuffersLength())
    model.operatorCodes = [schema.OperatorCodeT.InitFromObj(file.OperatorCodes(index)) for index in codes]
    model.subgraphs = [schema.SubGraphT.InitFromObj(file.Subgraphs(0))]
    model.buffers = [schema.BufferT.InitFromObj(file.Buffers(index)) for index in buffers]
    for change in changes:
        change(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _image(model: Any) -> Any:
    graph = model.subgraphs[0]
    return graph.tensors[graph.inputs[0]]


def _fix(model: Any, sides: Sequence[int]) -> None:
    _image(model).shape = _ints(*sides)
    _image(model).shapeSignature = None


def _keep_one(model: Any, output: int) -> None:
    model.subgraphs[0].outputs = _ints(output)


def _take_pixels(model: Any) -> None:
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = np.ones(1, np.float32), np.zeros(1, np.int64)
    _image(model).quantization = quantization


def _put_last(model: Any, sides: Sequence[int]) -> None:
    """Insert a transposition before the model."""
    graph = model.subgraphs[0]
    inner = graph.inputs[0]
    order = schema.BufferT()
    order.data = np.frombuffer(np.array([0, 3, 1, 2], "<i4").tobytes(), np.uint8)
    model.buffers.append(order)
    permutation, image = schema.TensorT(), schema.TensorT()
    permutation.name, permutation.type, permutation.shape = b"channels_first", schema.TensorType.INT32, _ints(4)
    permutation.buffer = len(model.buffers) - 1
    image.name, image.type = b"image_channels_last", graph.tensors[inner].type
    image.shape, image.quantization = _ints(sides[0], *sides[2:], sides[1]), graph.tensors[inner].quantization
    graph.tensors += [permutation, image]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.TRANSPOSE
    model.operatorCodes.append(code)
    turn = schema.OperatorT()
    turn.opcodeIndex = len(model.operatorCodes) - 1
    turn.inputs, turn.outputs = _ints(len(graph.tensors) - 1, len(graph.tensors) - 2), _ints(inner)
    turn.builtinOptionsType, turn.builtinOptions = schema.BuiltinOptions.TransposeOptions, schema.TransposeOptionsT()
    graph.operators.insert(0, turn)
    graph.inputs = _ints(len(graph.tensors) - 1)


def _ints(*values: int) -> NDArray[np.int32]:
    return np.array(values, np.int32)


def _check_dtype(tensor: Tensor, what: str, setting: str) -> None:
    meaningless = tensor.dtype == "int8" or (tensor.dtype == "uint8" and what == "output")
    if tensor.dtype not in _DTYPES:
        message = f"its {what} is {tensor.dtype}, but a bundle's is float32, uint8 or int8: convert it with {setting}"
        raise ModelError(f"{message} = tf.float32 (weights may stay as they are)", reason=f"bad_{what}")
    if meaningless and not tensor.scales:
        message = f"its {what} is {tensor.dtype} without a scale and a zero point, which says nothing of its values"
        raise ModelError(f"{message}: convert it with {setting} = tf.float32", reason=f"bad_{what}")


def _in_words(tensor: Tensor) -> str:
    return f"{tensor.name} {_kind(tensor)}"


def _kind(tensor: Tensor) -> str:
    return f"{tensor.dtype} {in_words(tensor.shape_signature)}"


def _signature_names(content: bytes) -> dict[int, list[str]]:
    """The names of the outputs in the file's signatures, by tensor."""
    model = schema.Model.GetRootAs(content)
    names: dict[int, list[str]] = {}
    for number in range(min(model.SignatureDefsLength(), 10)):
        signature = model.SignatureDefs(number)
        for index in range(min(signature.OutputsLength(), 100)):
            entry = signature.Outputs(index)
            names.setdefault(entry.TensorIndex(), []).append((entry.Name() or b"").decode(errors="replace"))
    return names

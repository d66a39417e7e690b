"""Adapt an .onnx encoder to what a bundle takes: weights inside, batch 1, channels last, float32 in, one vector out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError

from edge_oneshot_device.encoding.onnx_check import check_onnx
from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.formats.onnx import branches
from edge_oneshot_export.formats.onnx_weights import read_weights
from edge_oneshot_export.formats.shapes import (
    Size,
    choose_output,
    image_sides,
    in_words,
    require_one_input,
    vector_size,
)

if TYPE_CHECKING:
    import onnx

_DOMAINS: Final = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")  # whose operators ONNX Runtime knows
_CAST_INPUTS: Final = ("float16", "double", "uint8")  # cast from the float32 that the device gives
_CAST_OUTPUTS: Final = ("float16", "double")


def adapted(
    content: bytes, folder: Path, limit: int, size: Size | None = None, outputs: Sequence[str] = ()
) -> tuple[bytes, bool]:
    """Adapt an .onnx file.

    Args:
        content: The file.
        folder: The file's folder; weights in files there are put inside.
        limit: Largest size in bytes, weights included.
        size: Height and width of the input, where they are free.
        outputs: See `edge_oneshot_export.formats.shapes.choose_output`.

    Returns:
        The adapted file, and whether it takes pixels as they are because its original input is uint8.

    Raises:
        ModelError: It is not an ONNX file, contains what no encoder has, or cannot be adapted.
        IntegrityError: See `edge_oneshot_device.encoding.onnx_check.check_onnx`.
    """
    try:
        return _adapted(_read(content, folder, limit), size, outputs)
    except (ModelError, IntegrityError):
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:  # a name that is no text, say
        message = f"it is a damaged ONNX model ({_first_line(error)}): copy or export it again"
        raise ModelError(message, reason="bad_model") from error


def _adapted(model: "onnx.ModelProto", size: Size | None, outputs: Sequence[str]) -> tuple[bytes, bool]:
    import onnx

    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer} | {one.values.name for one in graph.sparse_initializer}
    # old exporters list the weights among the inputs, as ONNX required before version 4 of the format
    model.ir_version = max(model.ir_version, 4)
    _keep(graph.input, [value for value in graph.input if value.name not in constants])
    if len(graph.input) == 1:  # report faults of the input before those of the outputs
        image_sides(_sides(graph.input[0]), size)
    found = [([value.name], _kind(value)) for value in graph.output]
    answer = graph.output[choose_output(found, outputs)]
    if len(graph.output) > 1:
        _keep_one(graph, answer)
        answer = graph.output[0]
    require_one_input([f"{value.name} {_kind(value)}" for value in graph.input])
    image = graph.input[0]
    sides, first = image_sides(_sides(image), size)
    kind = _elements(image, "input", _CAST_INPUTS)
    _elements(answer, "output", _CAST_OUTPUTS)
    values = _fixed(model, sides)
    if first:
        _put_before(model, "Transpose", image.type.tensor_type.elem_type, [1, *sides[2:], sides[1]], perm=[0, 3, 1, 2])
    if kind != "float":
        _put_before(model, "Cast", onnx.TensorProto.FLOAT, _sides(graph.input[0]), to=image.type.tensor_type.elem_type)
    if len(_sides(answer)) != 2:
        _put_behind(model, "Flatten", answer.type.tensor_type.elem_type, values, axis=0)
    if answer.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        _put_behind(model, "Cast", onnx.TensorProto.FLOAT, values, to=onnx.TensorProto.FLOAT)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True)), kind == "uint8"


def _read(content: bytes, folder: Path, limit: int) -> "onnx.ModelProto":
    import onnx

    try:
        model = onnx.load_from_string(content)
    except DecodeError as error:
        raise ModelError(f"it is no ONNX model: {_first_line(error)}", reason="bad_model") from error
    if not model.graph.node and not model.graph.output:
        raise ModelError("it is no ONNX model: it holds no graph; give the .onnx itself", reason="bad_model")
    loops = [node.op_type for node in model.graph.node if branches(node)]
    if loops:
        message = f"it holds a {loops[0]}: an encoder has no branches or loops; export it with loops unrolled"
        raise ModelError(message, reason="control_flow")
    newest = onnx.defs.onnx_opset_version()
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    if opset > newest:
        message = f"it is of opset {opset}, and this machine's onnx knows up to {newest}: export it with opset 17"
        raise ModelError(f"{message}, or install a newer onnx and onnxruntime", reason="bad_model")
    read_weights(model, folder, limit - len(content))
    check_onnx(model.SerializeToString())
    foreign = [node for node in model.graph.node if node.domain not in _DOMAINS]
    if foreign:
        message = f"it holds the operator {foreign[0].op_type} of {foreign[0].domain}, which ONNX Runtime has not"
        raise ModelError(f"{message}: export it with ONNX's own operators", reason="foreign_operator")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        message = f"ONNX's own checker refuses it ({_first_line(error)}): export it again"
        raise ModelError(message, reason="bad_model") from error
    return model


def _keep_one(graph: "onnx.GraphProto", answer: "onnx.ValueInfoProto") -> None:
    """Remove the other outputs, and the nodes that only they need."""
    needed, nodes = {answer.name}, []
    for node in reversed(graph.node):  # the checker ensures that each comes after those that it needs
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
    _keep(graph.node, nodes[::-1])
    _keep(graph.output, [answer])
    _keep(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])
    _keep(graph.input, [value for value in graph.input if value.name in needed])


def _keep(field: Any, kept: Sequence[Any]) -> None:  # repeated fields have no public type
    copies = [type(entry).FromString(entry.SerializeToString()) for entry in kept]
    del field[:]
    field.extend(copies)


def _fixed(model: "onnx.ModelProto", sides: Sequence[int]) -> int:
    """Set the input's shape and infer the output's; returns the number of values of the output."""
    import onnx

    image, answer = model.graph.input[0], model.graph.output[0]
    said = _sides(answer)
    for side, value in zip(image.type.tensor_type.shape.dim, sides, strict=True):
        side.dim_value = value
    model.graph.ClearField("value_info")  # they have other shapes
    answer.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        message = f"it does not take an image of {in_words(sides)} ({_first_line(error)}): export it for that size"
        raise ModelError(message, reason="bad_input") from error
    found = _sides(inferred.graph.output[0]) or [1, *said[1:]]
    if len(found) == len(said):  # where inference finds nothing, the file may declare it
        found = [side or max(declared, 0) for side, declared in zip(found, said, strict=True)]
    values = vector_size(found)
    if len(found) > 1:
        if found[0] > 1:
            message = f"its output is {in_words(found)} for one image: export it with a batch of 1"
            raise ModelError(message, reason="bad_output")
        found[0] = 1
    for value in found:
        answer.type.tensor_type.shape.dim.add().dim_value = value
    return values


def _elements(value: "onnx.ValueInfoProto", what: str, cast: Sequence[str]) -> str:
    """The element type of a tensor, if it is float or can be cast."""
    kind = _type(value)
    if kind not in ("float", *cast):
        better = "float32, half precision or uint8" if what == "input" else "float32 or half precision"
        message = f"its {what} {value.name} is {kind}, not {better}"
        raise ModelError(f"{message}: export it with float32 there (quantized ones with QDQ)", reason=f"bad_{what}")
    return kind


def _type(value: "onnx.ValueInfoProto") -> str:
    import onnx

    if value.type.WhichOneof("value") != "tensor_type":
        return str(value.type.WhichOneof("value") or "untyped").replace("_type", "")
    return str(onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower())


def _kind(value: "onnx.ValueInfoProto") -> str:
    return f"{_type(value)} {in_words(_sides(value))}"


def _sides(value: "onnx.ValueInfoProto") -> list[int]:
    """The shape of a tensor; 0 for a free side, which files also write as -1 or as a name."""
    return [max(int(side.dim_value), 0) for side in value.type.tensor_type.shape.dim]


def _put_before(model: "onnx.ModelProto", op: str, kind: int, sides: Sequence[int], **attributes: Any) -> None:
    """Insert an operator before the model; the model's input then has this type and shape."""
    import onnx

    image = model.graph.input[0]
    outer = onnx.helper.make_tensor_value_info(f"{image.name}_{op.lower()}", kind, sides)
    node = onnx.helper.make_node(op, [outer.name], [image.name], f"{image.name}_{op.lower()}_node", **attributes)
    _keep(model.graph.input, [outer])
    model.graph.node.insert(0, node)


def _put_behind(model: "onnx.ModelProto", op: str, kind: int, values: int, **attributes: Any) -> None:
    """Append an operator to the model; the model's output then has this type and the shape (1, values)."""
    import onnx

    answer = model.graph.output[0]
    flat = onnx.helper.make_tensor_value_info(f"{answer.name}_{op.lower()}", kind, [1, values])
    node = onnx.helper.make_node(op, [answer.name], [flat.name], f"{answer.name}_{op.lower()}_node", **attributes)
    model.graph.node.append(node)
    _keep(model.graph.output, [flat])


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__

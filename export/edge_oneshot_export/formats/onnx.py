"""Convert Keras to ONNX: float32, float16, and int8 as quantize-dequantize pairs (QDQ)."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_export.errors import ExportError
from edge_oneshot_export.formats.conversion import INPUT_NAME, converting, fixed
from edge_oneshot_export.variants import Precision, VariantKind

if TYPE_CHECKING:
    import keras
    import onnx

OUTPUT_NAME = "embedding"
OPSET = 17  # read by every onnxruntime since 1.12
# in the names of operators: QLinearConv, DynamicQuantizeLinear, MatMulInteger, QGemm, MatMulNBits
_QUANTIZED: Final = ("QLinear", "QuantizeLinear", "Integer", "QGemm", "QAttention", "NBits", "BlockQuantized")


def to_onnx(model: "keras.Model", kind: VariantKind, representative: NDArray[np.float32]) -> bytes:
    """Convert a model to ONNX with static batch 1 and the NHWC input kept.

    Args:
        model: Maps an image to a vector, see `edge_oneshot_export.formats.conversion.check_model`.
        kind: The variant; all are float32 at the input and the output.
        representative: float32 (n, h, w, c), scaled; a few hundred images set the int8 ranges.

    Returns:
        The file's content; the same for the same model and images.

    Raises:
        ExportError: The conversion failed.
    """
    with converting(kind.name):
        import tensorflow as tf
        import tf2onnx

        signature = [tf.TensorSpec((1, *representative.shape[1:]), tf.float32, name=INPUT_NAME)]
        wrapped = fixed(model, representative.shape[1:])
        converted = _canonical(tf2onnx.convert.from_keras(wrapped, input_signature=signature, opset=OPSET)[0])
        if kind.precision == "float16":
            from onnxruntime.transformers.float16 import convert_float_to_float16

            converted = _canonical(convert_float_to_float16(converted, keep_io_types=True))
        if kind.precision == "int8":
            converted = _canonical(_quantized(converted, representative, kind))
    return bytes(converted.SerializeToString(deterministic=True))


def op_names(content: bytes) -> tuple[str, ...]:
    """The operators of an ONNX file in order, with their domain as a prefix unless it is ONNX's own."""
    import onnx

    nodes = onnx.load_from_string(content).graph.node
    return tuple(f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in nodes)


def precision(content: bytes) -> Precision:
    """The precision of an ONNX file: ``int8`` if anything is computed or stored in 8 bits or fewer, else ``float16`` if
    any weights are, else ``float32``.
    """
    import onnx

    graph = onnx.load_from_string(content).graph
    if any(any(mark in node.op_type for mark in _QUANTIZED) for node in graph.node):
        return "int8"
    tensors = [attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t")]
    halves = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in (*graph.initializer, *tensors))
    return "float16" if halves else "float32"


def _quantized(model: "onnx.ModelProto", representative: NDArray[np.float32], kind: VariantKind) -> "onnx.ModelProto":
    """Quantize to static int8 with ONNX Runtime, which reads and writes files.

    Weights of 7 bits are for processors without VNNI, where products of 8 bits saturate. Activations are signed, as
    ONNX Runtime advises for Arm; on x86-64 it makes them unsigned when it loads the file.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
        def __init__(self) -> None:
            self.images: Iterator[NDArray[np.float32]] = iter(representative)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.images, None)
            return None if image is None else {INPUT_NAME: image[np.newaxis]}

    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, quantized = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "quantized"))
        onnx.save(model, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            Reader(),
            quant_format=QuantFormat.QDQ,
            reduce_range=kind.reduced_range,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(quantized)


def _canonical(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The same network with names and an order that do not depend on the process that made it.

    The converters number names with counters that live as long as the process, and iterate over sets of strings.
    """
    import onnx

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    names = {"": "", graph.input[0].name: INPUT_NAME, graph.output[0].name: OUTPUT_NAME}
    count: Counter[str] = Counter()
    nodes, initializers = [], []
    for node in _in_order(graph):
        name = f"{node.op_type}_{count[node.op_type]}"
        count[node.op_type] += 1
        for position, value in enumerate(node.input):
            if value in constants and value not in names:
                names[value] = f"{name}_input{position}"
                tensor = onnx.TensorProto()
                tensor.CopyFrom(constants[value])
                tensor.name, tensor.doc_string = names[value], ""
                initializers.append(tensor)
        for position, value in enumerate(node.output):
            names.setdefault(value, f"{name}_output{position}")
        inputs, outputs = [names[value] for value in node.input], [names[value] for value in node.output]
        renamed = onnx.helper.make_node(node.op_type, inputs, outputs, name, domain=node.domain)
        renamed.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
        nodes.append(renamed)
    ends = [_described(graph.input[0], INPUT_NAME), _described(graph.output[0], OUTPUT_NAME)]
    used = {node.domain for node in nodes}
    result = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "encoder", ends[:1], ends[1:], initializers),
        ir_version=model.ir_version,
        opset_imports=[entry for entry in model.opset_import if entry.domain in used],
        producer_name="edge-oneshot",
    )
    onnx.checker.check_model(result, full_check=True)
    return result


def _in_order(graph: "onnx.GraphProto") -> "list[onnx.NodeProto]":
    """The nodes that the output needs, depth first, each after the nodes that it needs."""
    nodes = list(graph.node)
    producer = {value: index for index, node in enumerate(nodes) for value in node.output if value}
    order: dict[int, None] = {}
    stack = [producer[graph.output[0].name]]
    while stack:
        waiting = [producer[value] for value in nodes[stack[-1]].input if value in producer]
        waiting = [index for index in waiting if index not in order]
        if waiting:
            stack.append(waiting[0])
        else:
            order[stack.pop()] = None
    for index in order:
        if branches(nodes[index]):
            message = f"ONNX: the model holds a {nodes[index].op_type}; models with branches or loops are not exported"
            raise ExportError(message, reason="control_flow")
    return [nodes[index] for index in order]


def branches(node: "onnx.NodeProto") -> bool:
    """Whether a node contains graphs, as If, Loop and Scan do."""
    return any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)


def _described(value: "onnx.ValueInfoProto", name: str) -> "onnx.ValueInfoProto":
    import onnx

    renamed = onnx.ValueInfoProto()
    renamed.CopyFrom(value)
    renamed.name = name
    return renamed

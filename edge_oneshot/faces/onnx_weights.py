"""The weights of an ONNX file of OpenCV's model zoo, in float or in blocks of int8."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_oneshot.errors import DataError

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """An operator with weights.

    Attributes:
        weights: float64 arrays in the order of its inputs, as ONNX lays them out.
        epsilon: Of a batch normalisation.
    """

    weights: tuple[Array, ...]
    epsilon: float

    def normalisation(self) -> tuple[Array, Array]:
        """A batch normalisation as a factor and a summand of each channel."""
        gamma, beta, mean, variance = self.weights
        factor = gamma / np.sqrt(variance + self.epsilon)
        return factor, beta - mean * factor


def plain(content: bytes) -> "onnx.ModelProto":
    """The net of a file with its weights as float initializers, for any program that runs ONNX.

    Weights that DequantizeLinear and Reshape make from blocks of int8 become float32, and no weight stays among the
    graph's inputs.

    Args:
        content: The file, whose digest is known.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(content)
    graph, kept = model.graph, []
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        values = [known[name] for name in node.input if name in known]
        if node.op_type in ("DequantizeLinear", "Reshape") and len(values) == len(node.input):
            known[node.output[0]] = _computed(node, values)
        else:
            kept.append(node)
    inputs = [tensor for tensor in graph.input if tensor.name not in known and tensor.name in kept[0].input]
    used = [name for name in known if any(name in node.input for node in kept)]
    for part in (graph.node, graph.input, graph.initializer, graph.value_info):
        del part[:]
    graph.node.extend(kept)
    graph.input.extend(inputs)
    graph.initializer.extend(numpy_helper.from_array(known[name], name) for name in used)
    return model


def read_layers(content: bytes, ops: Sequence[str], shapes: Sequence[tuple[int, ...]], what: str) -> list[Layer]:
    """Read the operators that hold weights, in the order of computation.

    Args:
        content: The file, whose digest is known.
        ops: Names of the operators to read.
        shapes: The shape that the first weights of each operator have to have.
        what: The net, for the message.

    Raises:
        DataError: Reason ``wrong_file``: it has other operators or shapes.
    """
    from onnx import numpy_helper

    graph = plain(content).graph
    known = {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in graph.initializer}
    layers = [
        Layer(tuple(known[name] for name in node.input if name in known), _attribute(node, "epsilon", 1e-5))
        for node in graph.node
        if node.op_type in ops
    ]
    if [layer.weights[0].shape for layer in layers] != list(shapes):
        raise DataError(f"the weights of {what} are not those of its net; use an intact copy", reason="wrong_file")
    return layers


def _computed(node: "onnx.NodeProto", values: list[NDArray[Any]]) -> NDArray[Any]:
    if node.op_type == "Reshape":
        return values[0].reshape(values[1])
    axis, block = _attribute(node, "axis", 1), _attribute(node, "block_size", 0)
    places = np.arange(values[0].shape[axis]) // block
    scale, zero = (value.take(places, axis) for value in values[1:])
    result: NDArray[Any] = (values[0].astype(np.float32) - zero) * scale
    return result


def _attribute(node: "onnx.NodeProto", name: str, default: Any) -> Any:
    import onnx

    return next((onnx.helper.get_attribute_value(own) for own in node.attribute if own.name == name), default)

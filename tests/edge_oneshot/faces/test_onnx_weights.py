"""Weights in blocks of int8 are what ONNX Runtime makes of them."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_oneshot.errors import DataError
from edge_oneshot.faces.onnx_weights import plain, read_layers
from tests.raising import raises

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def stored():
    """A convolution of 3x3 whose weights are blocks of 9 of int8, listed among the inputs."""
    held = {
        "codes": RNG.integers(-127, 128, (4, 27), np.int8),
        "scales": RNG.uniform(0.01, 0.1, (4, 3)).astype(np.float32),
        "zeros": RNG.integers(-5, 5, (4, 3), np.int8),
        "shape": np.array([4, 3, 3, 3]),
        "bias": RNG.normal(size=4).astype(np.float32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "scales", "zeros"], ["flat"], axis=1, block_size=9),
        helper.make_node("Reshape", ["flat", "shape"], ["kernel"]),
        helper.make_node("Conv", ["image", "kernel", "bias"], ["maps"], kernel_shape=[3, 3]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 8, 8))
    listed = helper.make_tensor_value_info("bias", TensorProto.FLOAT, (4,))
    maps = helper.make_tensor_value_info("maps", TensorProto.FLOAT, (1, 4, 6, 6))
    initializers = [numpy_helper.from_array(value, name) for name, value in held.items()]
    graph = helper.make_graph(nodes, "stored", [image, listed], [maps], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def test_the_plain_net_computes_the_same_with_float_weights_alone(stored):
    image = RNG.normal(size=(1, 3, 8, 8)).astype(np.float32)
    made = plain(stored)
    assert [node.op_type for node in made.graph.node] == ["Conv"]
    assert [tensor.name for tensor in made.graph.input] == ["image"]
    exact, found = (
        onnxruntime.InferenceSession(content).run(None, {"image": image})[0]
        for content in (stored, made.SerializeToString())
    )
    assert found == pytest.approx(exact, abs=1e-5)


def test_layers_are_read_in_order_with_their_shapes_checked(stored):
    (layer,) = read_layers(stored, ("Conv",), [(4, 3, 3, 3)], "the net")
    assert [part.shape for part in layer.weights] == [(4, 3, 3, 3), (4,)]
    with raises(DataError, match="the weights of the net are not those", reason="wrong_file"):
        read_layers(stored, ("Conv",), [(4, 3, 3, 3)] * 2, "the net")

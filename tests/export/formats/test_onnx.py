import hashlib
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest

from edge_oneshot_device.bundle.manifest import TensorSpec
from edge_oneshot_device.encoding.runtimes import open_model
from edge_oneshot_export.errors import ExportError
from edge_oneshot_export.formats.onnx import op_names, to_onnx
from edge_oneshot_export.variants import VARIANTS
from tests.raising import raises

OTHER_PROCESS = """
import hashlib, sys
import keras, numpy as np
from edge_oneshot_export.formats.onnx import to_onnx
from edge_oneshot_export.formats.tflite import to_tflite
from edge_oneshot_export.variants import VARIANTS

model, representative = keras.models.load_model(sys.argv[1]), np.load(sys.argv[2])
for convert, variant in ((to_tflite, "int8"), (to_onnx, "onnx-float32"), (to_onnx, "onnx-int8")):
    print(hashlib.sha256(convert(model, VARIANTS[variant], representative)).hexdigest())
"""


@pytest.fixture(scope="module")
def float32(model, representative):
    return to_onnx(model, VARIANTS["onnx-float32"], representative)


@pytest.fixture(scope="module")
def int8(model, representative):
    return to_onnx(model, VARIANTS["onnx-int8"], representative)


def test_float32_file_keeps_the_nhwc_input_and_a_static_batch_of_one(float32):
    opened = open_model("onnx", float32)
    assert opened.input == TensorSpec(dtype="float32", shape=(1, 32, 32, 1))
    assert opened.output == TensorSpec(dtype="float32", shape=(1, 32))
    assert op_names(float32) == (
        "Reshape", "Conv", "Relu", "Conv", "Conv", "Relu", "Conv", "Relu", "Transpose", "Reshape", "Gemm",
    )  # fmt: skip


def test_float32_file_answers_as_keras_does(float32, model, representative):
    opened = open_model("onnx", float32)
    expected = np.asarray(model(representative[:8]))
    answered = np.concatenate([opened.run(image[np.newaxis]) for image in representative[:8]])
    np.testing.assert_allclose(answered, expected, atol=1e-5 * np.abs(expected).max())


def test_int8_file_holds_every_weight_matrix_as_int8_and_a_pair_around_every_op(int8):
    graph = onnx.load_from_string(int8).graph
    kernels = [tensor for tensor in graph.initializer if len(tensor.dims) > 1]
    assert [tensor.data_type for tensor in kernels] == [onnx.TensorProto.INT8] * 5
    produced_by = {value: node.op_type for node in graph.node for value in node.output}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            assert [produced_by[value] for value in node.input[:2]] == ["DequantizeLinear"] * 2
    assert produced_by["embedding"] == "DequantizeLinear"


def largest_weight(content):
    graph = onnx.load_from_string(content).graph
    kernels = [onnx.numpy_helper.to_array(one) for one in graph.initializer if len(one.dims) > 1]
    return max(int(np.abs(kernel.astype(int)).max()) for kernel in kernels)


def test_int8_weights_take_the_whole_range_and_int7_weights_a_half_whose_products_fit_into_16_bits(
    int8, model, representative
):
    assert largest_weight(int8) == 127
    int7 = to_onnx(model, VARIANTS["onnx-int7"], representative)
    assert largest_weight(int7) == 64
    # AVX2 without VNNI adds two products of an activation of 8 bits and a weight in 16 bits
    assert 2 * 255 * largest_weight(int7) <= np.iinfo(np.int16).max < 2 * 255 * largest_weight(int8)
    assert op_names(int7) == op_names(int8)


@pytest.mark.parametrize("variant", ["onnx-int8", "onnx-int7"])
def test_activations_of_8_bits_are_signed(variant, model, representative):
    graph = onnx.load_from_string(to_onnx(model, VARIANTS[variant], representative)).graph
    constants = {one.name: one.data_type for one in graph.initializer}
    zeros = [constants[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert zeros
    assert set(zeros) == {onnx.TensorProto.INT8}


@pytest.mark.parametrize("variant", ["onnx-float32", "onnx-int8"])
def test_files_hold_nothing_of_the_run_that_made_them(variant, float32, int8):
    file = onnx.load_from_string(float32 if variant == "onnx-float32" else int8)
    assert [value.name for value in (*file.graph.input, *file.graph.output)] == ["image", "embedding"]
    assert [(entry.domain, entry.version) for entry in file.opset_import] == [("", 17)]
    assert (file.producer_name, file.producer_version, file.doc_string) == ("edge-oneshot", "", "")
    assert not file.metadata_props
    for node in file.graph.node:
        assert node.name.rpartition("_")[0] == node.op_type


@pytest.mark.parametrize("variant", ["onnx-float32", "onnx-int8"])
def test_converting_twice_gives_the_same_bytes(variant, float32, int8, model, representative):
    again = to_onnx(model, VARIANTS[variant], representative)
    assert again == (float32 if variant == "onnx-float32" else int8)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras, when it saves a model
def test_another_process_with_other_hashes_gives_the_same_bytes_as_this_one(model, representative, tmp_path):
    from edge_oneshot_export.formats.tflite import to_tflite

    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", representative[:20])
    command = [sys.executable, "-c", OTHER_PROCESS, tmp_path / "model.keras", tmp_path / "images.npy"]
    done = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True)
    here = [
        to_tflite(model, VARIANTS["int8"], representative[:20]),
        to_onnx(model, VARIANTS["onnx-float32"], representative[:20]),
        to_onnx(model, VARIANTS["onnx-int8"], representative[:20]),
    ]
    assert done.stdout.split() == [hashlib.sha256(content).hexdigest() for content in here]


def test_a_loop_is_refused(representative):
    import keras
    import tensorflow as tf

    class Loop(keras.layers.Layer):
        def call(self, x):
            return tf.while_loop(lambda v: tf.reduce_sum(v) > 1.0, lambda v: (v * 0.5,), (x,))[0]

    image = keras.Input((32, 32, 1))
    model = keras.Model(image, Loop()(keras.layers.Dense(4)(keras.layers.Flatten()(image))))
    with raises(ExportError, match="the model holds a Loop", reason="control_flow"):
        to_onnx(model, VARIANTS["onnx-float32"], representative)


def test_a_conversion_writes_nothing_to_the_terminal(model, representative, capfd):
    to_onnx(model, VARIANTS["onnx-int8"], representative[:10])
    assert capfd.readouterr() == ("", "")


def test_op_names_of_another_domain_are_prefixed():
    nodes = [
        onnx.helper.make_node("Relu", ["x"], ["y"]),
        onnx.helper.make_node("Gelu", ["y"], ["z"], domain="com.example"),
    ]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xz"]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:]))
    assert op_names(model.SerializeToString()) == ("Relu", "com.example.Gelu")

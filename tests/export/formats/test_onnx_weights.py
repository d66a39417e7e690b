"""Weights that lie beside an .onnx file are put inside of it, and nothing from elsewhere."""

import os
import socket

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_oneshot_device.encoding.onnx_check import check_onnx
from edge_oneshot_device.encoding.runtimes import open_model
from edge_oneshot_export.encoder_files import read_encoder
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.formats.onnx_weights import read_weights

WEIGHTS = np.random.default_rng(0).normal(size=(192, 5)).astype(np.float32)


def model_with(**said: str) -> onnx.ModelProto:
    """An encoder of 8 x 8 colour images whose matrix is in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=WEIGHTS.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in said.items():
        tensor.external_data.add(key=key, value=value)
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 8, 8, 3]), ("y", [1, 5]))
    ]
    graph = helper.make_graph(nodes, "encoder", ends[:1], ends[1:], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def folder(tmp_path):
    """The model's own folder, with a file of weights; what is beside the folder belongs to somebody else."""
    folder = tmp_path / "model"
    (folder / "deeper").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(bytes(64) + WEIGHTS.tobytes())
    (folder / "deeper" / "weights.bin").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "secret").write_bytes(WEIGHTS.tobytes())
    return folder


@pytest.mark.parametrize(
    "said",
    [
        {"location": "weights.bin", "offset": "64", "length": str(WEIGHTS.nbytes)},
        {"location": "weights.bin", "offset": "64"},
        {"location": "deeper/weights.bin"},
        {"location": "./deeper/weights.bin", "checksum": "0" * 40},
    ],
)
def test_an_encoder_with_weights_beside_it_is_read_whole(said, folder, monkeypatch, tmp_path):
    path = folder / "encoder.onnx"
    path.write_bytes(model_with(**said).SerializeToString())
    encoder = read_encoder(path)
    check_onnx(encoder.content)
    monkeypatch.chdir(tmp_path)  # where no weights are
    image = np.random.default_rng(1).normal(size=(1, 8, 8, 3)).astype(np.float32)
    answered = open_model("onnx", encoder.content).run(image)
    assert answered[0] == pytest.approx(image.reshape(-1) @ WEIGHTS, rel=1e-4, abs=1e-5)


def test_the_weights_of_a_constant_node_are_read_as_well(folder):
    model = model_with(location="deeper/weights.bin")
    constant = helper.make_node("Constant", [], ["w"], value=model.graph.initializer[0])
    del model.graph.initializer[:]
    model.graph.node.insert(0, constant)
    read_weights(model, folder, 1 << 20)
    assert np.array_equal(numpy_helper.to_array(model.graph.node[0].attribute[0].t), WEIGHTS)
    check_onnx(model.SerializeToString())


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"location": "../secret"}, "not below its own folder"),
        ({"location": "deeper/../../secret"}, "not below its own folder"),
        ({"location": "/etc/passwd"}, "not below its own folder"),
        ({"location": ""}, "not below its own folder"),
        ({"location": "."}, "not below its own folder"),
        ({"location": "weights.bin\0x"}, "not below its own folder"),
        ({}, "not below its own folder"),
        ({"location": "*/_ORT_MEM_ADDR_/*", "offset": "4096"}, "cannot be read"),
        ({"location": "none.bin"}, "cannot be read .No such file"),
        ({"location": "link.bin"}, "cannot be read .* and no link"),
        ({"location": "linked/secret"}, "cannot be read .* and no link"),
        ({"location": "x" * 5000}, "cannot be read"),
        ({"location": "deeper"}, "is no regular file"),
        ({"location": "pipe"}, "is no regular file"),
        ({"location": "socket"}, "cannot be read"),
        ({"location": "weights.bin", "offset": "-1"}, "which is no count"),
        ({"location": "weights.bin", "offset": "1e3"}, "which is no count"),
        ({"location": "weights.bin", "length": "9" * 5000}, "which is no count"),
        ({"location": "weights.bin", "length": "٣"}, "which is no count"),
        ({"location": "weights.bin", "offset": "65", "length": str(WEIGHTS.nbytes)}, "ends behind the end of"),
        ({"location": "weights.bin", "offset": "1000000"}, "ends behind the end of"),
        ({"location": "huge.bin"}, "too large for a bundle"),
    ],
)
def test_weights_from_elsewhere_or_without_end_are_refused(said, message, folder):
    (folder / "link.bin").symlink_to(folder.parent / "secret")
    (folder / "linked").symlink_to(folder.parent)
    os.mkfifo(folder / "pipe")
    with (folder / "huge.bin").open("wb") as file:
        file.truncate(1 << 40)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.path.relpath(folder / "socket"))  # a full path can be too long
    path = folder / "encoder.onnx"
    path.write_bytes(model_with(**said).SerializeToString())
    with listening, pytest.raises(ModelError, match=message) as caught:
        read_encoder(path)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_many_tensors_that_name_one_file_count_each(folder):
    model = model_with(location="deeper/weights.bin")
    model.graph.initializer.extend([model.graph.initializer[0]] * 9)
    with pytest.raises(ModelError, match="too large for a bundle"):
        read_weights(model, folder, 9 * WEIGHTS.nbytes)
    read_weights(model_with(location="deeper/weights.bin"), folder, WEIGHTS.nbytes)


def test_weights_of_a_sparse_tensor_elsewhere_are_refused(folder):
    model = model_with(location="deeper/weights.bin")
    model.graph.sparse_initializer.add().values.CopyFrom(model.graph.initializer[0])
    path = folder / "encoder.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="holds weights outside of the file"):
        read_encoder(path)

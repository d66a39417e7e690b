"""Model files as other tools write them become encoders, or are refused for what is the matter with them."""

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto

from edge_oneshot_device.encoding.runtimes import open_model
from edge_oneshot_export.encoder_files import read_encoder
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.formats.scaling import tflite_scaling
from tests.raising import raises
from tests.real_data import CASES, needs
from tests.samples.model_files import (
    SIDE,
    VALUES,
    beside,
    onnx_net,
    quantized,
    tflite_net,
    with_metadata,
    with_signature,
)


def written(folder, content, suffix):
    path = folder / f"a.{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def answers(encoder, image):
    return open_model(encoder.kind.format, encoder.content).run(image.astype(encoder.input.dtype))


def own_answer(path, image, output=0):
    """What the file itself answers to an image (1, h, w, c), in the runtime and not through this package."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path)
        given = session.get_inputs()[0]
        kind = {"tensor(float16)": np.float16, "tensor(float)": np.float32}[given.type]
        return session.run(None, {given.name: image.transpose(0, 3, 1, 2).astype(kind)})[output]
    plain = Interpreter(str(path))
    given = plain.get_input_details()[0]
    turned = image.transpose(0, 3, 1, 2).copy() if given["shape"][1] == 3 else image
    plain.resize_tensor_input(given["index"], turned.shape)
    plain.allocate_tensors()
    plain.set_tensor(given["index"], turned.astype(given["dtype"]))
    plain.invoke()
    return plain.get_tensor(plain.get_output_details()[output]["index"])


def noise(sides, low=-1, high=1):
    return np.random.default_rng(9).uniform(low, high, sides).astype(np.float32)


@needs(CASES)
@pytest.mark.parametrize(
    ("name", "how", "variant"),
    [
        ("onnx/plain.onnx", {}, "onnx-float32"),
        ("onnx/keep_initializers.onnx", {}, "onnx-float32"),
        ("onnx/external.onnx", {}, "onnx-float32"),
        ("onnx/dynquant.onnx", {}, "onnx-int8"),
        ("onnx/minus1_batch.onnx", {}, "onnx-float32"),
        ("onnx/minus1_hw.onnx", {"size": (24, 24)}, "onnx-float32"),
        ("onnx/two_outputs.onnx", {"outputs": ["y"]}, "onnx-float32"),
        ("onnx/fp16_io.onnx", {}, "onnx-float16"),
        ("tflite/dynhw.tflite", {"size": (40, 24)}, "float32"),
        ("tflite/nchw.tflite", {}, "float32"),
        ("tflite/uint8_raw_input.tflite", {}, "float32"),
    ],
)
def test_each_of_the_cases_becomes_an_encoder_that_answers_as_the_file_does(name, how, variant):
    encoder = read_encoder(CASES / name, **how)
    raw = encoder.input.dtype == "uint8"
    image = noise(encoder.input.shape, *((0, 255.99) if raw else (-1, 1)))
    image = np.floor(image) if raw else image
    assert encoder.kind.name == variant
    assert answers(encoder, image) == pytest.approx(own_answer(CASES / name, image), abs=2e-3)


@needs(CASES)
@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("onnx/minus1_hw.onnx", "free_size", "its input is (1, 3, ?, ?): its height and width are free; say them with"),
        ("tflite/dynhw.tflite", "free_size", "its input is (1, ?, ?, 3): its height and width are free; say them with"),
        ("onnx/two_outputs.onnx", "several_outputs", "2 outputs, y float (1, 16), n float (1, 1): say with --output"),
    ],
)
def test_a_case_that_leaves_something_open_is_refused_with_the_option_that_says_it(name, reason, words):
    with raises(ModelError, reason=reason) as caught:
        read_encoder(CASES / name)
    assert words in str(caught.value)


FREE = {"size": (SIDE, SIDE)}
ONNX = {
    "weights among the inputs": {"listed": True},
    "and of the format's version 3": {"listed": True, "ir": 3, "opset": 9, "seed": 1},
    "and a free batch": {"listed": True, "sides": ("N", 3, SIDE, SIDE), "answer": ("N", VALUES)},
    "a batch of -1": {"sides": (-1, 3, SIDE, SIDE), "answer": (-1, VALUES)},
    "a batch with a name": {"sides": ("batch", 3, SIDE, SIDE), "answer": ("batch", VALUES), "seed": 1},
    "a batch of None": {"sides": (None, 3, SIDE, SIDE), "answer": (None, VALUES), "seed": 2},
    "sides of -1": {"sides": (-1, 3, -1, -1), "answer": (-1, VALUES)},
    "sides with names": {"sides": (1, 3, "height", "width")},
    "a width of -1": {"sides": (1, 3, SIDE, -1), "seed": 4},
    "half precision": {"kind": TensorProto.FLOAT16},
    "half precision and a free batch": {"kind": TensorProto.FLOAT16, "sides": ("n", 3, SIDE, SIDE)},
    "half precision and a pooled answer": {"kind": TensorProto.FLOAT16, "head": "pooled", "answer": (1, 24, 1, 1)},
}


@pytest.mark.parametrize("kind", ONNX)
def test_an_onnx_file_answers_through_the_bundle_what_it_answers_alone(kind, tmp_path):
    path = written(tmp_path, onnx_net(**ONNX[kind]), "onnx")
    encoder = read_encoder(path, **(FREE if "side" in kind or "width" in kind else {}))
    image = noise(encoder.input.shape)
    assert encoder.input.shape == (1, SIDE, SIDE, 3)
    assert encoder.kind.name == ("onnx-float16" if "half" in kind else "onnx-float32")
    expected = own_answer(path, image).reshape(1, -1).astype(np.float32)
    assert answers(encoder, image) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(("seed", "opset"), [(0, 13), (1, 14), (2, 17)])
@pytest.mark.parametrize("way", ["dynamic", "static"])
def test_an_onnx_file_of_8_bits_is_called_so_however_it_came_to_them(way, seed, opset, tmp_path):
    path = written(tmp_path, quantized(tmp_path, onnx_net(seed=seed, opset=opset), way), "onnx")
    assert read_encoder(path).kind.name == "onnx-int8"


@pytest.mark.parametrize(
    ("name", "where"), [("m.onnx", "m.data"), ("m.onnx", "weights.bin"), ("x.onnx", "x.onnx_data")]
)
def test_weights_beside_an_onnx_file_come_along(name, where, tmp_path):
    path = beside(tmp_path, onnx_net(sides=("N", 3, SIDE, SIDE), answer=("N", VALUES)), name, where)
    encoder = read_encoder(path)
    image = noise(encoder.input.shape)
    assert answers(encoder, image) == pytest.approx(own_answer(path, image), abs=1e-4)


@pytest.mark.parametrize("extra", [("mask",), ("logits",), ("mask", "logits")])
def test_of_several_outputs_of_an_onnx_file_the_named_one_is_the_embedding(extra, tmp_path):
    path = written(tmp_path, onnx_net(extra=extra), "onnx")
    with pytest.raises(ModelError) as caught:
        read_encoder(path)
    assert all(f"{name} float (" in str(caught.value) for name in ("output", *extra))
    encoder = read_encoder(path, outputs=["none", "output"])
    image = noise(encoder.input.shape)
    expected = own_answer(path, image, int("mask" in extra))
    assert answers(encoder, image) == pytest.approx(expected, abs=1e-4)
    held = {node.op_type for node in onnx.load_from_string(encoder.content).graph.node}
    assert "Sigmoid" not in held  # nor what else nothing but the others need
    with raises(ModelError, match=r"it has no output 'vector'; it has .*output float", reason="unknown_output"):
        read_encoder(path, outputs=["vector"])


@pytest.mark.parametrize(("extra", "signed"), [(("mask",), True), (("logits",), False), (("mask", "logits"), True)])
def test_of_several_outputs_of_a_tflite_file_the_named_one_is_the_embedding(extra, signed, tmp_path):
    content = tflite_net(outputs=("embedding", *extra))
    content = with_signature(content, ("embedding", *sorted(extra))) if signed else content
    path = written(tmp_path, content, "tflite")
    name = "Identity or embedding" if signed else "Identity"
    with raises(
        ModelError, match=f"it has {1 + len(extra)} outputs, {name} float32 .*: say with", reason="several_outputs"
    ):
        read_encoder(path)
    encoder = read_encoder(path, outputs=["embedding" if signed else "Identity"])
    image = noise(encoder.input.shape)
    every = [own_answer(path, image, number) for number in range(1 + len(extra))]
    expected = next(found for found in every if found.shape == (1, VALUES))
    assert answers(encoder, image) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("how", "size"),
    [
        ({"sides": (1, None, None, 3)}, (40, 24)),
        ({"sides": (None, None, None, 3), "head": "unit"}, (SIDE, SIDE)),
        ({"sides": (1, None, None, 1), "quantize": "dynamic"}, (64, 48)),
    ],
)
def test_a_tflite_file_of_a_free_size_gets_that_of_the_option(how, size, tmp_path):
    path = written(tmp_path, tflite_net(**how), "tflite")
    encoder = read_encoder(path, size=size)
    image = noise(encoder.input.shape)
    assert encoder.input.shape == (1, *size, how["sides"][3])
    assert answers(encoder, image) == pytest.approx(own_answer(path, image), abs=1e-4)
    with pytest.raises(ModelError, match="its height and width are free; say them with --size"):
        read_encoder(path)


@pytest.mark.parametrize(
    "how",
    [
        {"sides": (1, 3, SIDE, SIDE)},
        {"sides": (1, 3, 40, 24), "quantize": "float16"},
        {"sides": (1, 3, SIDE, SIDE), "quantize": "int8", "io": "int8"},
    ],
)
def test_a_tflite_file_with_its_channels_first_is_given_the_same_image(how, tmp_path):
    path = written(tmp_path, tflite_net(first=True, **how), "tflite")
    encoder = read_encoder(path)
    spread = (-128, 127.9) if how.get("io") else (-1, 1)
    image = noise(encoder.input.shape, *spread)
    assert encoder.input.shape == (1, *how["sides"][2:], 3)
    assert answers(encoder, image) == pytest.approx(own_answer(path, image), abs=1e-4)


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (127.5, 127.5), (0.0, 255.0)])
def test_a_tflite_file_that_takes_pixels_as_they_are_is_given_them_so(mean, scale, tmp_path):
    import tensorflow as tf

    def inside(image):
        return (tf.cast(image, tf.float32) - mean) / scale

    path = written(tmp_path, tflite_net(dtype="uint8", inside=inside), "tflite")
    encoder = read_encoder(path)
    image = np.floor(noise(encoder.input.shape, 0, 255.99))
    assert (encoder.kind.name, encoder.scaling.mean, encoder.scaling.scale) == ("float32", (0.0,), (1.0,))
    assert answers(encoder, image) == pytest.approx(own_answer(path, image), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("span", "io", "mean", "scale"),
    [
        ((-1.0, 1.0), "uint8", 127.5, 127.5),
        ((0.0, 1.0), "int8", 0.0, 255.0),
        ((0.0, 255.0), "uint8", 0.0, 1.0),
        ((-1.0, 1.0), "float32", 127.5, 127.5),  # quantized right behind its input
    ],
)
def test_the_quantization_of_the_input_says_how_pixels_are_scaled(span, io, mean, scale, tmp_path):
    path = written(tmp_path, tflite_net(quantize="int8", io=io, span=span), "tflite")
    said = read_encoder(path).scaling
    assert read_encoder(path).kind.name == "int8"
    assert said.mean[0] == pytest.approx(mean, abs=1)
    assert said.scale[0] == pytest.approx(scale, rel=0.01)
    assert not said.contradicts((mean,), (scale,))
    assert not said.contradicts((255 - mean,), (-scale,))  # the other way round is of the same span
    for other in (((0.0,), (1.0,)), ((0.0,), (255.0,)), ((127.5,), (127.5,)), ((127.5,), (255.0,))):
        assert said.contradicts(*other) == (other != ((mean,), (scale,)))


@pytest.mark.parametrize(
    ("mean", "scale"), [((127.5,), (127.5,)), ((0.0,), (255.0,)), ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))]
)
def test_metadata_of_a_tflite_file_says_how_pixels_are_scaled(mean, scale, tmp_path):
    path = written(tmp_path, with_metadata(tflite_net(), mean, scale), "tflite")
    said = read_encoder(path).scaling
    assert (said.mean, said.scale) == (pytest.approx(mean), pytest.approx(scale))


@pytest.mark.parametrize(
    ("mean", "scale"), [((), ()), ((0.0,), (0.0,)), ((float("nan"),), (1.0,)), ((0.0, 1.0), (1.0,))]
)
def test_metadata_without_sense_says_nothing(mean, scale, tmp_path):
    path = written(tmp_path, with_metadata(tflite_net(), mean, scale), "tflite")
    assert read_encoder(path).scaling is None


def test_metadata_that_is_damaged_says_nothing_or_numbers():
    whole = with_metadata(tflite_net(), (0.0,), (255.0,))
    start = whole.index(b"M001") - 4
    for place in range(start, start + 140):
        for value in (0, 0x7F, 0xFF):
            content = bytearray(whole)
            content[place] = value
            said = tflite_scaling(bytes(content))
            assert said is None or all(map(np.isfinite, (*said.mean, *said.scale)))

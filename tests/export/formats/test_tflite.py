import os

import keras
import numpy as np
import pytest

from edge_oneshot_device.bundle.manifest import TensorSpec
from edge_oneshot_device.encoding.quantization import quantize
from edge_oneshot_device.encoding.runtimes import open_model
from edge_oneshot_export.errors import ExportError
from edge_oneshot_export.formats.tflite import op_names, to_tflite
from edge_oneshot_export.formats.tflite_file import read_tflite
from edge_oneshot_export.judging.drift import unit
from edge_oneshot_export.variants import VARIANTS
from tests.raising import raises
from tests.real_data import CORAL, needs

OPS = ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "CONV_2D", "RESHAPE", "FULLY_CONNECTED")


@pytest.fixture(scope="module")
def int8(model, representative):
    return to_tflite(model, VARIANTS["int8"], representative)


def test_float32_file_has_a_static_batch_of_one_and_the_layers_as_ops(model, representative):
    content = to_tflite(model, VARIANTS["float32"], representative)
    opened = open_model("tflite", content)
    assert opened.input == TensorSpec(dtype="float32", shape=(1, 32, 32, 1))
    assert opened.output == TensorSpec(dtype="float32", shape=(1, 32))
    assert op_names(content) == OPS


def test_int8_file_takes_and_gives_int8_and_has_no_op_more_than_the_float_one(int8):
    opened = open_model("tflite", int8)
    assert (opened.input.dtype, opened.output.dtype) == ("int8", "int8")
    assert (opened.input.shape, opened.output.shape) == ((1, 32, 32, 1), (1, 32))
    assert op_names(int8) == OPS


def test_int8_input_scale_covers_the_range_of_the_representative_images(int8, representative):
    tensor = open_model("tflite", int8).input
    low, high = ((level - tensor.zero_point) * tensor.scale for level in (-128, 127))
    assert low <= representative.min() + tensor.scale / 2
    assert high >= representative.max() - tensor.scale / 2


@pytest.fixture(scope="module")
def views(model, representative):
    """int8, of the model's embeddings of an image and of its transposed, side by side."""
    image = keras.Input(model.input_shape[1:])
    turned = keras.layers.Permute((2, 1, 3))(image)
    both = keras.Model(image, keras.layers.Concatenate()([model(image), model(turned)]))
    return to_tflite(both, VARIANTS["int8"], representative)


@pytest.mark.parametrize("made", ["int8", "views"])
def test_int8_embeddings_of_the_representative_images_leave_a_fifth_of_the_range_free(made, representative, request):
    opened = open_model("tflite", request.getfixturevalue(made))
    codes = quantize(representative, opened.input)
    answered = np.concatenate([opened.run(code[np.newaxis]) for code in codes]).astype(int) - opened.output.zero_point
    low, high = -128 - opened.output.zero_point, 127 - opened.output.zero_point
    assert 0.7 < max(answered.max() / high, answered.min() / low) < 0.85


def test_views_share_their_weights_and_answer_as_the_model_does(model, int8, views, representative):
    assert len(views) < 1.5 * len(int8)
    opened = open_model("tflite", views)
    codes = opened.run(quantize(representative[:1], opened.input)).astype(int) - opened.output.zero_point
    answered = codes * opened.output.scale
    image = representative[:1]
    expected = np.concatenate([np.asarray(model(view)) for view in (image, image.swapaxes(1, 2))], axis=1)
    assert unit(answered) @ unit(expected).T > 0.99


def test_float16_keeps_half_the_bytes_and_dynamic_a_quarter_with_float_ends(model, representative):
    files = {name: to_tflite(model, VARIANTS[name], representative) for name in ("float32", "float16", "dynamic")}
    for content in files.values():
        opened = open_model("tflite", content)
        assert (opened.input.dtype, opened.output.dtype) == ("float32", "float32")
    kinds = {name: {t.dtype for t in read_tflite(c).subgraphs[0].tensors if t.constant} for name, c in files.items()}
    assert "float16" in kinds["float16"]
    assert "int8" in kinds["dynamic"]
    assert len(files["float16"]) < 0.6 * len(files["float32"])
    assert len(files["dynamic"]) < 0.45 * len(files["float32"])


def test_coral_has_one_scale_for_all_weights_of_a_dense_layer_where_int8_has_one_a_unit(model, int8, representative):
    scales = {}
    for name, content in (("int8", int8), ("coral", to_tflite(model, VARIANTS["coral"], representative))):
        graph = read_tflite(content).subgraphs[0]
        dense = next(op for op in graph.operators if op.name == "FULLY_CONNECTED")
        scales[name] = len(graph.tensors[dense.inputs[1]].scales)
    assert scales == {"int8": 32, "coral": 1}


@pytest.mark.parametrize("variant", ["float32", "float16", "dynamic", "int8", "coral"])
def test_converting_twice_gives_the_same_bytes(variant, model, representative):
    assert to_tflite(model, VARIANTS[variant], representative) == to_tflite(model, VARIANTS[variant], representative)


def test_a_normalisation_inside_an_int8_model_is_refused_and_the_layer_named(make_encoder, representative):
    with raises(
        ExportError, match=r"SQUARE stayed in floating point; leave such layers", reason="float_left"
    ) as caught:
        to_tflite(make_encoder(normalised=True), VARIANTS["int8"], representative)
    assert caught.value.exit_code == 1


def test_a_normalisation_inside_a_float_model_is_converted(make_encoder, representative):
    assert op_names(to_tflite(make_encoder(normalised=True), VARIANTS["float32"], representative))[:6] == OPS


def test_what_cannot_be_converted_is_one_line_and_the_log_a_note(representative, capfd):
    import keras
    import tensorflow as tf

    class Inverse(keras.layers.Layer):
        def call(self, x):
            return tf.linalg.inv(tf.einsum("bi,bj->bij", x, x))[:, 0]

    image = keras.Input((32, 32, 1))
    model = keras.Model(image, Inverse()(keras.layers.Dense(4)(keras.layers.Flatten()(image))))
    with pytest.raises(ExportError) as caught:
        to_tflite(model, VARIANTS["float32"], representative)
    assert str(caught.value).startswith("float32: the conversion failed: ")
    assert "'tf.MatrixInverse' op is neither a custom op nor a flex op" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.reason == "conversion_failed"
    assert "MatrixInverse" in caught.value.__notes__[0]
    assert capfd.readouterr() == ("", "")


def test_a_conversion_writes_nothing_to_the_terminal_and_leaves_stderr_as_it_was(model, representative, capfd):
    to_tflite(model, VARIANTS["int8"], representative[:10])
    assert capfd.readouterr() == ("", "")
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


@needs(CORAL)
def test_op_names_of_real_files_give_builtin_names_and_custom_codes():
    plain = (CORAL / "mobilenet_v1_0.25_128_quant.tflite").read_bytes()
    compiled = (CORAL / "mobilenet_v1_0.25_128_quant_edgetpu.tflite").read_bytes()
    assert op_names(plain) == (
        *["CONV_2D", *["DEPTHWISE_CONV_2D", "CONV_2D"] * 13],
        "AVERAGE_POOL_2D",
        "CONV_2D",
        "RESHAPE",
        "SOFTMAX",
    )
    assert op_names(compiled) == ("edgetpu-custom-op",)

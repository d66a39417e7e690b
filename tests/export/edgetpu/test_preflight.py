from collections import Counter
from copy import copy

import msgspec
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edge_oneshot_device.encoding.preprocessing import scale
from edge_oneshot_export.edgetpu.preflight import preflight
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.formats.conversion import converting
from edge_oneshot_export.formats.tflite import converter_of, to_tflite
from edge_oneshot_export.formats.tflite_file import read_tflite
from edge_oneshot_export.variants import VARIANTS
from tests.real_data import CORAL, needs
from tests.samples.tflite_edit import damaged, edited

PAIRS = (
    "mobilenet_v1_0.25_128_quant",
    "mobilenet_v1_1.0_224_quant_embedding_extractor",
    "split_concat",
    "deeplabv3_mnv2_dm05_pascal_quant",
)
needs_coral = needs(CORAL)
VERSION = "Operation version not supported"
UNSPECIFIED = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
MORE_SUBGRAPHS = "More than one subgraph is not supported"
DATA_TYPE = "Operation is working on an unsupported data type"


@pytest.fixture(scope="module")
def representative(images, section):
    return scale(images, section)[:60]


def residual(groups=1, dilation=(1, 1), end=None):
    """An encoder of the plain kind, with a skip; `end` is laid on its embedding."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(4)
    image = keras.Input((32, 32, 1))
    x = layers.BatchNormalization()(layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(image))
    skip = layers.ReLU()(x)
    x = layers.ReLU()(layers.Conv2D(16, 3, padding="same", groups=groups, dilation_rate=dilation)(skip))
    x = layers.Conv2D(16, 3, padding="same")(x)
    x = layers.MaxPooling2D()(layers.ReLU()(layers.Add()([skip, x])))
    x = layers.ReLU()(layers.SeparableConv2D(24, 3, strides=2, padding="same")(x))
    x = layers.Dense(32)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, x if end is None else end(x))


@pytest.fixture(scope="module")
def coral(representative):
    return to_tflite(residual(), VARIANTS["coral"], representative)


@pytest.fixture(scope="module")
def grouped(representative):
    return to_tflite(residual(groups=4), VARIANTS["coral"], representative)


def converted(model, representative, **settings):
    """As the coral variant, with other settings of the converter."""
    with converting("coral"):
        converter = converter_of(model, VARIANTS["coral"], representative)
        for name, value in settings.items():
            setattr(converter, name, value)
        return converter.convert()


def left(report):
    return Counter(verdict.op for verdict in report.ops if verdict.target == "cpu")


def verdicts(report, op):
    return [verdict for verdict in report.ops if verdict.op == op]


@needs_coral
@pytest.mark.parametrize("name", PAIRS)
def test_what_is_predicted_to_stay_on_the_cpu_is_what_the_real_compiler_left_there(name):
    compiled = read_tflite((CORAL / f"{name}_edgetpu.tflite").read_bytes())
    names = Counter(operator.name for operator in compiled.operators)
    assert names.pop("edgetpu-custom-op") == 1
    report = preflight(CORAL / f"{name}.tflite")
    assert left(report) == names
    assert report.mapped == (not names)
    assert (report.subgraphs, report.faults) == (1, ())


@needs_coral
def test_the_last_mapped_operators_are_those_that_the_compiled_file_hands_over():
    name = "deeplabv3_mnv2_dm05_pascal_quant"
    (graph,) = read_tflite((CORAL / f"{name}_edgetpu.tflite").read_bytes()).subgraphs
    handed = {graph.tensors[index].name for index in graph.operators[0].outputs}
    report = preflight(CORAL / f"{name}.tflite")
    assert handed <= {
        output.name for verdict in report.ops if verdict.target == "edgetpu" for output in verdict.outputs
    }
    resize = next(verdict for verdict in report.ops if verdict.target == "cpu")
    assert (resize.index, resize.op, resize.status) == (64, "RESIZE_BILINEAR", UNSPECIFIED)
    assert resize.reason.startswith(f"{UNSPECIFIED}: 1x1 to 33x33")
    assert {verdict.status for verdict in verdicts(report, "CONV_2D") if verdict.target == "cpu"} == {MORE_SUBGRAPHS}
    assert verdicts(report, "ARG_MAX")[0].status == DATA_TYPE


@needs_coral
@pytest.mark.parametrize(("name", "mapped"), [*zip(PAIRS, (True, True, True, False), strict=True)])
def test_a_file_that_is_compiled_already_is_said_to_be(name, mapped):
    report = preflight(CORAL / f"{name}_edgetpu.tflite")
    assert (report.compiled, report.mapped, report.subgraphs, report.edgetpu_ops) == (True, mapped, 1, 1)
    assert report.notes[0].startswith("this file is compiled already")


@needs_coral
def test_parameters_are_weighed_against_the_eight_megabytes_on_the_chip():
    report = preflight(CORAL / "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite")
    assert (report.parameter_bytes, report.fits_on_chip) == (3_228_864, True)


def test_parameters_above_eight_megabytes_do_not_fit(coral):
    def grow(model):
        filters = model.subgraphs[0].tensors[model.subgraphs[0].operators[0].inputs[1]]
        model.buffers[filters.buffer].data = np.zeros(8_000_000, np.uint8)

    report = preflight(edited(coral, grow))
    assert report.parameter_bytes > 8_000_000
    assert report.fits_on_chip is False
    assert "do not fit on the chip" in report.notes[-1]


def test_the_coral_variant_of_a_residual_encoder_is_wholly_mapped(coral):
    report = preflight(coral)
    assert (report.mapped, report.subgraphs, report.edgetpu_ops, report.cpu_ops) == (True, 1, len(report.ops), 0)
    assert {verdict.reason for verdict in report.ops} == {"Mapped to Edge TPU"}
    assert [(v.op, v.version) for v in report.ops[-2:]] == [("MEAN", 2), ("FULLY_CONNECTED", 4)]
    assert [v.index for v in report.ops] == list(range(len(report.ops)))
    assert report.inputs[0].shape == (1, 32, 32, 1)
    assert report.notes == ()


@pytest.mark.parametrize("net", ["tiny", "base"])
def test_the_coral_variant_of_the_shipped_nets_is_wholly_mapped(net, representative):
    from edge_oneshot.training.nets import build_encoder

    assert preflight(to_tflite(build_encoder(32, 32, net=net), VARIANTS["coral"], representative)).mapped is True


def test_the_report_has_the_keys_that_are_documented(coral):
    told = msgspec.json.decode(msgspec.json.encode(preflight(coral)))
    assert told.keys() >= {"ops", "subgraphs", "mapped", "parameter_bytes", "fits_on_chip"}
    assert told["ops"][0].keys() >= {"index", "op", "version", "target", "reason"}
    assert (told["ops"][0]["op"], told["ops"][0]["target"]) == ("CONV_2D", "edgetpu")


def test_a_grouped_convolution_is_named(grouped):
    report = preflight(grouped)
    assert (report.mapped, report.edgetpu_ops, report.subgraphs) == (False, 0, 0)
    (fault,) = report.faults
    assert fault.startswith("CONV_2D: grouped convolution, 4 of 16 channels a filter, version 6")
    assert [v.index for v in report.ops if "grouped convolution" in v.reason] == [1]
    assert {v.status for v in verdicts(report, "CONV_2D")} == {VERSION}
    assert {v.status for v in verdicts(report, "ADD")} == {"Compilation failed!"}


def test_a_grouped_convolution_of_an_older_version_is_named_as_well(grouped):
    def older(model):
        for code in model.operatorCodes:
            code.version = min(code.version, 3)

    report = preflight(edited(grouped, older))
    assert report.faults == ()
    assert report.ops[0].status == MORE_SUBGRAPHS
    assert report.ops[1].reason == f"{UNSPECIFIED}: grouped convolution, 4 of 16 channels a filter"
    assert {v.target for v in report.ops[2:]} == {"edgetpu"}


def test_a_quantize_per_channel_is_named(representative):
    import tensorflow as tf

    content = converted(residual(), representative, inference_input_type=tf.uint8)

    def per_channel(model):
        graph = model.subgraphs[0]
        quantize = next(op for op in graph.operators if model.operatorCodes[op.opcodeIndex].builtinCode == 114)
        model.operatorCodes[quantize.opcodeIndex].version = 3
        quantization = graph.tensors[quantize.outputs[0]].quantization
        quantization.scale, quantization.zeroPoint, quantization.quantizedDimension = [0.1, 0.2], [0, 0], 3

    assert preflight(content).mapped is True
    report = preflight(edited(content, per_channel))
    assert report.mapped is False
    assert report.faults[0].startswith("QUANTIZE: quantized per channel (2 scales), version 3: ")
    (quantize,) = verdicts(report, "QUANTIZE")
    assert (quantize.status, quantize.version) == (VERSION, 3)
    assert "Didn't find op for builtin opcode 'QUANTIZE' version '3'" in quantize.reason


def test_a_float_operator_inside_int8_is_named_and_what_depends_on_it(representative):
    from keras import layers

    report = preflight(converted(residual(end=layers.UnitNormalization()), representative))
    assert (report.mapped, report.subgraphs, report.faults) == (False, 1, ())
    square = verdicts(report, "SQUARE")[0]
    assert square.status == DATA_TYPE
    assert "is float32; only int8 and uint8 are mapped" in square.reason
    assert [v.target for v in report.ops[: square.index - 1]] == ["edgetpu"] * (square.index - 1)
    assert {v.target for v in report.ops[square.index - 1 :]} == {"cpu"}
    assert verdicts(report, "SUM")[0].status == MORE_SUBGRAPHS


def test_a_free_batch_is_named(coral):
    def free(model):
        for tensor in model.subgraphs[0].tensors:
            if model.buffers[tensor.buffer].data is None:
                tensor.shapeSignature = [-1, *tensor.shape[1:]]

    report = preflight(edited(coral, free))
    assert (report.mapped, report.edgetpu_ops) == (False, 0)
    assert report.faults[0].startswith("free batch: ")
    assert "has the shape (-1, 32, 32, 1); export with a fixed batch of 1" in report.faults[0]
    assert {v.reason.split(": ")[1] for v in report.ops} == {"free batch"}


def test_a_free_height_is_named_and_not_the_batch_blamed(coral):
    def free(model):
        for tensor in model.subgraphs[0].tensors:
            if model.buffers[tensor.buffer].data is None and len(tensor.shape) == 4:
                tensor.shapeSignature = [1, -1, *tensor.shape[2:]]

    fault = preflight(edited(coral, free)).faults[0]
    assert fault.startswith("free size: ")
    assert "has the shape (1, -1, 32, 1); export with a fixed size: " in fault


def test_a_batch_of_two_has_too_many_dimensions(coral):
    def double(model):
        graph = model.subgraphs[0]
        for index in (*graph.inputs, *graph.operators[0].outputs):
            graph.tensors[index].shape = [2, *graph.tensors[index].shape[1:]]
            graph.tensors[index].shapeSignature = None

    first = preflight(edited(coral, double)).ops[0]
    assert first.status == "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"
    assert first.reason.endswith("has the shape (2, 32, 32, 1); batch 1 is needed")


def test_dense_weights_per_channel_are_named(representative):
    report = preflight(to_tflite(residual(), VARIANTS["int8"], representative))
    (dense,) = [verdict for verdict in report.ops if verdict.target == "cpu"]
    assert (dense.op, dense.status) == ("FULLY_CONNECTED", UNSPECIFIED)
    assert "weights quantized per channel (32 scales)" in dense.reason


def test_a_dilation_that_differs_between_the_axes_is_named(coral):
    def dilate(model):
        model.subgraphs[0].operators[1].builtinOptions.dilationHFactor = 2

    second = preflight(edited(coral, dilate)).ops[1]
    assert second.reason == f"{UNSPECIFIED}: dilation 2x1 differs between the axes"


def test_a_fused_activation_of_a_pool_is_named(coral):
    def fuse(model):
        for operator in model.subgraphs[0].operators:
            if type(operator.builtinOptions).__name__ == "Pool2DOptionsT":
                operator.builtinOptions.fusedActivationFunction = 1

    (pool,) = verdicts(preflight(edited(coral, fuse)), "MAX_POOL_2D")
    assert pool.reason == f"{UNSPECIFIED}: a fused activation; make it an operator of its own"


def test_weights_that_are_computed_are_named(coral):
    def empty(model):
        filters = model.subgraphs[0].tensors[model.subgraphs[0].operators[0].inputs[1]]
        model.buffers[filters.buffer].data = None

    first = preflight(edited(coral, empty)).ops[0]
    assert first.status == "Filter, bias, or other param is not constant at compile-time"


def test_an_operator_that_is_not_on_the_list_is_named(coral):
    def rename(model):
        codes = [code for code in model.operatorCodes if code.builtinCode == 0]  # ADD
        codes[0].builtinCode = codes[0].deprecatedBuiltinCode = 117  # HARD_SWISH

    (other,) = verdicts(preflight(edited(coral, rename)), "HARD_SWISH")
    assert other.reason == "Operation not supported: not among the operators that the Edge TPU runs"


def test_an_operator_that_is_younger_than_the_compiler_ends_the_compilation(coral):
    def rename(model):
        codes = [code for code in model.operatorCodes if code.builtinCode == 0]
        codes[0].builtinCode, codes[0].deprecatedBuiltinCode = 150, 127  # GELU

    report = preflight(edited(coral, rename))
    assert report.faults[0].startswith("GELU: version 2: the compiler is older and refuses the file")
    assert report.edgetpu_ops == 0


def test_float_inputs_and_outputs_cost_a_conversion_and_leave_the_rest_mapped(representative):
    import tensorflow as tf

    floats = {"inference_input_type": tf.float32, "inference_output_type": tf.float32}
    report = preflight(converted(residual(), representative, **floats))
    assert left(report) == {"QUANTIZE": 1, "DEQUANTIZE": 1}
    assert report.subgraphs == 1
    assert [verdicts(report, op)[0].status for op in ("QUANTIZE", "DEQUANTIZE")] == [UNSPECIFIED, DATA_TYPE]
    assert [note.split(",")[0] for note in report.notes] == ["the input is float32", "the output is float32"]


def test_a_net_that_takes_raw_pixels_is_mapped_behind_its_cast():
    import keras
    import tensorflow as tf
    from keras import layers

    pixels = keras.Input((8, 8, 3), batch_size=1, dtype="uint8")
    x = layers.Conv2D(8, 3, activation="relu")(layers.Rescaling(1 / 255)(pixels))
    model = keras.Model(pixels, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    with converting("coral"):
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_output_type = tf.int8
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        images = np.random.default_rng(1).integers(0, 255, (4, 1, 8, 8, 3), dtype=np.uint8)
        converter.representative_dataset = lambda: ([image] for image in images)
        report = preflight(converter.convert())
    assert [(v.op, v.status) for v in report.ops] == [
        ("CAST", DATA_TYPE),
        ("QUANTIZE", UNSPECIFIED),
        *((op, "Mapped to Edge TPU") for op in ("CONV_2D", "MEAN", "FULLY_CONNECTED")),
    ]


@needs_coral
@pytest.mark.parametrize("name", PAIRS)
def test_a_cast_before_a_real_net_changes_nothing_behind_it(name):
    content = (CORAL / f"{name}.tflite").read_bytes()

    def cast_first(model):
        graph = model.subgraphs[0]
        code, cast, pixels = schema.OperatorCodeT(), schema.OperatorT(), copy(graph.tensors[graph.inputs[0]])
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CAST
        code.version, cast.opcodeIndex = 1, len(model.operatorCodes)
        pixels.type, pixels.quantization = schema.TensorType.INT32, None
        cast.inputs, cast.outputs = [len(graph.tensors)], [graph.inputs[0]]
        graph.inputs = [len(graph.tensors), *graph.inputs[1:]]
        graph.tensors.append(pixels)
        model.operatorCodes.append(code)
        graph.operators.insert(0, cast)

    before, after = preflight(content), preflight(edited(content, cast_first))
    assert after.ops[0].op == "CAST"
    assert [(v.op, v.reason) for v in after.ops[1:]] == [(v.op, v.reason) for v in before.ops]
    assert (after.subgraphs, after.edgetpu_ops, after.cpu_ops) == (1, before.edgetpu_ops, before.cpu_ops + 1)


@pytest.mark.parametrize("variant", ["float32", "float16", "dynamic"])
def test_of_a_float_model_nothing_is_mapped(variant, representative):
    report = preflight(to_tflite(residual(), VARIANTS[variant], representative))
    assert (report.edgetpu_ops, report.subgraphs) == (0, 0)
    assert report.faults[0].endswith(": Model not quantized")
    assert {verdict.status for verdict in report.ops} == {DATA_TYPE}


def test_what_is_no_tflite_file_is_refused_by_its_path(tmp_path):
    path = tmp_path / "door.tflite"
    path.write_bytes(b"not at all")
    with pytest.raises(ModelError, match=r"door\.tflite: not a \.tflite file"):
        preflight(path)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_gets_a_report_or_one_error(coral, grouped, seed):
    reasons = [reason_of(content) for content in damaged([coral, grouped], 250, seed)]
    assert {*reasons} == {None, "not_tflite"}


def reason_of(content: bytes) -> str | None:
    try:
        msgspec.json.encode(preflight(content))
    except ModelError as error:
        return error.reason
    return None

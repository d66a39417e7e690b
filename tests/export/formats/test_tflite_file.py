import time

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edge_oneshot_device.encoding.preprocessing import scale
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.formats.tflite import to_tflite
from edge_oneshot_export.formats.tflite_file import read_tflite
from edge_oneshot_export.variants import VARIANTS
from tests.raising import raises
from tests.real_data import CORAL, needs
from tests.samples.tflite_edit import damaged, edited

needs_coral = needs(CORAL)


@pytest.fixture(scope="module")
def int8(model, images, section):
    return to_tflite(model, VARIANTS["int8"], scale(images, section))


def test_operators_are_read_in_order_with_version_tensors_and_options(int8):
    (graph,) = read_tflite(int8).subgraphs
    assert [operator.name for operator in graph.operators] == [
        *("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "CONV_2D", "RESHAPE", "FULLY_CONNECTED")
    ]
    first = graph.operators[0]
    assert (first.version, first.custom) == (3, False)
    assert (first.options["strideW"], first.options["strideH"]) == (2, 2)
    assert first.options["fusedActivationFunction"] == schema.ActivationFunctionType.RELU
    assert first.inputs[0] == graph.inputs[0]
    assert graph.operators[-1].outputs == graph.outputs


def test_tensors_are_read_with_shape_type_and_quantization(int8):
    (graph,) = read_tflite(int8).subgraphs
    image = graph.tensors[graph.inputs[0]]
    assert (image.shape, image.shape_signature, image.dtype) == ((1, 32, 32, 1), (1, 32, 32, 1), "int8")
    assert (len(image.scales), len(image.zero_points), image.constant, image.bytes) == (1, 1, False, 0)
    filters, bias = (graph.tensors[index] for index in graph.operators[0].inputs[1:])
    assert (filters.shape, filters.dtype, len(filters.scales), filters.quantized_dimension) == (
        *((16, 3, 3, 1), "int8", 16, 0),
    )
    assert (filters.constant, filters.bytes) == (True, 16 * 3 * 3)
    assert (bias.shape, bias.dtype, bias.bytes) == ((16,), "int32", 64)
    assert filters.data is not None
    assert np.frombuffer(filters.data, np.int8).min() >= -127


def test_a_free_side_stands_in_the_shape_signature(int8):
    def free(model):
        tensor = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]]
        tensor.shapeSignature = [-1, 32, 32, 1]

    (graph,) = read_tflite(edited(int8, free)).subgraphs
    tensor = graph.tensors[graph.inputs[0]]
    assert (tensor.shape, tensor.shape_signature, tensor.dynamic) == ((1, 32, 32, 1), (-1, 32, 32, 1), True)


def test_an_absent_input_is_minus_one(int8):
    def without_bias(model):
        last = model.subgraphs[0].operators[-1]
        last.inputs = [*last.inputs[:2], -1]

    assert read_tflite(edited(int8, without_bias)).operators[-1].inputs[2] == -1


@needs_coral
def test_files_from_before_the_codes_above_127_are_read():
    file = read_tflite((CORAL / "mobilenet_v1_0.25_128_quant.tflite").read_bytes())
    assert (file.version, file.compiled, len(file.operators)) == (3, False, 31)
    assert (file.operators[-1].name, file.operators[-1].version) == ("SOFTMAX", 1)


@needs_coral
def test_a_compiled_file_holds_a_custom_operator_with_its_program():
    file = read_tflite((CORAL / "mobilenet_v1_0.25_128_quant_edgetpu.tflite").read_bytes())
    (operator,) = file.operators
    assert (operator.name, operator.custom, file.compiled) == ("edgetpu-custom-op", True, True)
    assert len(operator.custom_options) == 778_324


@pytest.mark.parametrize("content", [b"", b"TFL3", b"PK\x03\x04" + bytes(100), b"\x00" * 1000, b"# README\n\n"])
def test_what_is_no_such_file_is_refused_by_its_name(content):
    with raises(ModelError, match=r"^door\.tflite: not a \.tflite file: ", reason="not_tflite") as caught:
        read_tflite(content, "door.tflite")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(int8, seed):
    reasons = [reason_of(content) for content in damaged([int8], 250, seed)]
    assert {*reasons} == {None, "not_tflite"}
    assert reasons.count("not_tflite") > 100


def reason_of(content: bytes) -> str | None:
    try:
        read_tflite(content)
    except ModelError as error:
        return error.reason
    return None


def small_file_of_many(elements: int, operators: int) -> bytes:
    """Operators that all share one table, whose list of inputs is long."""
    builder = flatbuffers.Builder(0)
    schema.OperatorCodeStart(builder)
    code = schema.OperatorCodeEnd(builder)
    inputs = builder.CreateNumpyVector(np.full(elements, -1, np.int32))
    schema.OperatorStart(builder)
    schema.OperatorAddInputs(builder, inputs)
    operator = schema.OperatorEnd(builder)
    schema.SubGraphStartOperatorsVector(builder, operators)
    for _ in range(operators):
        builder.PrependUOffsetTRelative(operator)
    shared = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddOperators(builder, shared)
    graph = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, 1)
    builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    schema.ModelStartOperatorCodesVector(builder, 1)
    builder.PrependUOffsetTRelative(code)
    codes = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddOperatorCodes(builder, codes)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def test_a_small_file_that_unfolds_into_very_much_is_refused_at_once():
    read_tflite(small_file_of_many(100, 100))
    start = time.process_time()
    with pytest.raises(ModelError, match="content is damaged"):
        read_tflite(small_file_of_many(100_000, 100_000))
    assert time.process_time() - start < 10

"""What a model file may hold: all of the encoder, and nothing that makes its work endless."""

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest

from edge_oneshot_device import Encoder
from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.encoding.onnx_check import check_onnx
from edge_oneshot_device.encoding.runtimes import open_model
from edge_oneshot_device.encoding.tflite_check import check_tflite
from edge_oneshot_device.errors import DeviceError, IntegrityError
from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.installation.options import InstallOptions
from tests import MODELS
from tests.raising import raises
from tests.samples.tiny import sign_bundle

ONNX = (MODELS / "tiny.onnx").read_bytes()
TFLITE = (MODELS / "tiny-int8.tflite").read_bytes()


def refused(check, content: bytes, message: str) -> None:
    with raises(IntegrityError, match=message, reason="model_refused") as caught:
        check(content)
    assert "\n" not in str(caught.value)


# .onnx: what is added to the end of a message is merged into it


def varint(value: int) -> bytes:
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def holding(number: int, content: bytes | int) -> bytes:
    """A field of a message: an integer, or bytes."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


GRAPH, NODE, INITIALIZER, SPARSE, ATTRIBUTE = 7, 1, 5, 15, 5
ELSEWHERE = holding(14, 1)  # TensorProto.data_location: EXTERNAL
NAMED = holding(13, holding(1, b"location") + holding(2, b"weights.bin"))  # TensorProto.external_data


def in_node(attribute: bytes, op_type: bytes = b"If") -> bytes:
    return holding(GRAPH, holding(NODE, holding(4, op_type) + holding(ATTRIBUTE, attribute)))


@pytest.mark.parametrize(
    ("added", "message"),
    [
        (holding(GRAPH, holding(INITIALIZER, ELSEWHERE)), "weights outside of the file"),
        (holding(GRAPH, holding(INITIALIZER, NAMED)), "weights outside of the file"),
        (holding(GRAPH, holding(INITIALIZER, holding(14, 2**32 + 1))), "weights outside of the file"),
        (holding(GRAPH, holding(SPARSE, holding(1, ELSEWHERE))), "weights outside of the file"),
        (holding(GRAPH, holding(SPARSE, holding(2, NAMED))), "weights outside of the file"),
        (in_node(holding(5, ELSEWHERE), b"Constant"), "weights outside of the file"),
        (in_node(holding(10, NAMED), b"Constant"), "weights outside of the file"),
        (in_node(holding(22, holding(1, ELSEWHERE)), b"Constant"), "weights outside of the file"),
        (in_node(holding(6, b"")), "a branch or a loop"),
        (in_node(holding(11, b""), b"Scan"), "a branch or a loop"),
        (holding(20, b""), "training instructions"),
        (holding(25, b""), "functions of its own"),
        (in_node(b"", b"EPContext"), "an EPContext, which names another file"),
    ],
)
def test_an_onnx_file_that_reaches_outside_or_loops_is_refused(added, message):
    check_onnx(ONNX)
    refused(check_onnx, ONNX + added, message)
    with pytest.raises(IntegrityError, match=message):
        open_model("onnx", added + ONNX)


@pytest.mark.parametrize(
    "added",
    [
        varint(7 << 3 | 3),  # a group
        varint(7 << 3 | 6),  # a kind that is out of use
        varint(0) + b"\0",  # field 0
        varint((13 << 3 | 2) + 2**32) + b"\0",  # 32 bits of it are another field
        holding(GRAPH, b"x")[:-1],  # cut short
        varint(GRAPH << 3) + b"\1",  # a graph that is a number
        b"\x08" + b"\xff" * 11,  # an endless number
        holding(GRAPH, b"")[:1] + varint(2**40),  # longer than the file
    ],
)
def test_an_onnx_file_that_onnxruntime_might_read_otherwise_is_refused(added):
    refused(check_onnx, ONNX + added, "is damaged")


def test_onnxruntimes_own_format_is_refused():
    refused(check_onnx, b"\x10\0\0\0ORTM" + bytes(100), "ONNX Runtime's own format")


def test_the_work_of_looking_is_bounded():
    refused(check_onnx, holding(1, 8) * 1_000_001, "more than 1,000,000 parts")
    refused(check_onnx, holding(GRAPH, holding(INITIALIZER, holding(1, 8) * 1_000_000)), "more than 1,000,000 parts")


def test_unknown_fields_of_every_kind_are_skipped():
    unknown = holding(99, 5) + holding(99, b"abc") + varint(99 << 3 | 1) + bytes(8) + varint(99 << 3 | 5) + bytes(4)
    check_onnx(ONNX + unknown + holding(GRAPH, unknown + holding(NODE, unknown)))


def test_every_flipped_bit_and_every_cut_of_an_onnx_file_ends_in_an_answer():
    for content in itertools.chain(edits(ONNX, step=3), (ONNX[:end] for end in range(len(ONNX)))):
        try:
            check_onnx(content)
        except DeviceError as error:
            assert error.reason == "model_refused"  # noqa: PT017 (a loop, and mostly none is raised)


def edits(content: bytes, step: int):
    for position in range(0, len(content), step):
        yield content[:position] + bytes([content[position] ^ 1 << position % 8]) + content[position + 1 :]


def with_weights_beside(content: bytes, file: str) -> bytes:
    """The same model with its largest weights in a file of the folder that the process works in."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(content)
    tensor = max(model.graph.initializer, key=lambda one: np.prod(one.dims))
    data = onnx.numpy_helper.to_array(tensor).tobytes()
    Path(file).write_bytes(data)
    for name in ("raw_data", "float_data"):
        tensor.ClearField(name)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", file), ("offset", "0"), ("length", str(len(data)))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return model.SerializeToString()


def test_a_signed_bundle_whose_weights_are_beside_it_lets_nobody_in(
    make_bundle, exchange_model, key, public_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # whoever chooses the folder chooses the weights
    signed = sign_bundle(exchange_model(make_bundle(), "onnx-float32", with_weights_beside(ONNX, "weights.bin")), key)
    bundle = Bundle.open(signed, trust=key.public_key().public_bytes_raw().hex())
    with raises(IntegrityError, match="weights outside of the file", reason="model_refused"):
        Encoder.open(bundle, "onnx-float32")
    with pytest.raises(IntegrityError, match="weights outside of the file"):  # one that was installed before
        Encoder.open(Bundle.open(signed, pinned=bundle.sha256), "onnx-float32")
    with pytest.raises(IntegrityError, match="weights outside of the file"):
        install(signed, tmp_path / "state", InstallOptions(variant="onnx-float32", trust=public_file(key)))
    assert not (tmp_path / "state" / "settings.json").exists()


# .tflite


@pytest.fixture
def edited():
    """Changes a .tflite file through the schema's own objects."""
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

    def edit(change) -> bytes:
        model = schema.ModelT.InitFromPackedBuf(TFLITE, 0)
        change(model, schema)
        builder = flatbuffers.Builder(len(TFLITE))
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    return edit


@pytest.mark.parametrize("name", ["WHILE", "IF", "CALL", "CALL_ONCE", "STABLEHLO_WHILE", "STABLEHLO_COMPOSITE"])
def test_a_tflite_file_that_branches_or_loops_is_refused_by_the_operators_name(edited, name):
    def change(model, schema):
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        model.operatorCodes.append(code)

    refused(check_tflite, edited(change), f"holds a {name}: an encoder has no branches or loops; export it without")
    with pytest.raises(IntegrityError, match=f"holds a {name}"):
        open_model("tflite", edited(change))


def test_a_recurrent_layer_that_is_one_operator_passes(edited):
    def change(model, schema):
        model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM

    check_tflite(edited(change))
    check_onnx(ONNX + in_node(holding(3, 5), b"LSTM"))


def test_an_operator_that_stands_in_one_of_both_fields_alone_is_found(edited):
    for place in ("builtinCode", "deprecatedBuiltinCode"):

        def change(model, _schema, place=place):
            model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = 0
            setattr(model.operatorCodes[0], place, 119)

        refused(check_tflite, edited(change), "holds a WHILE")


def test_a_second_graph_or_none_is_refused(edited):
    for count in (0, 2):
        content = edited(lambda model, _, count=count: setattr(model, "subgraphs", model.subgraphs * count))
        refused(check_tflite, content, "holds more than one graph, or none")


def test_values_in_another_file_are_refused(edited):
    def change(model, schema):
        group = schema.ExternalBufferGroupT()
        group.name = "weights.bin"
        model.externalBufferGroups = [group]

    refused(check_tflite, edited(change), "weights outside of the file")


def test_an_operator_of_somebodys_own_is_refused_and_that_of_the_edge_tpu_only_where_it_is_compiled_for(edited):
    def change(name):
        def custom(model, _schema):
            code = model.operatorCodes[0]
            code.builtinCode = code.deprecatedBuiltinCode = 32
            code.customCode = name

        return edited(custom)

    refused(check_tflite, change("Launch\nit"), "holds the custom operator")
    refused(check_tflite, change("edgetpu-custom-op"), "holds the custom operator 'edgetpu-custom-op'")
    check_tflite(change("edgetpu-custom-op"), compiled=True)
    refused(lambda content: check_tflite(content, compiled=True), change("FlexAdd"), "custom operator 'FlexAdd'")


def test_every_flipped_bit_and_every_cut_of_a_tflite_file_ends_in_an_answer():
    check_tflite(TFLITE)
    for content in itertools.chain(edits(TFLITE, step=1), (TFLITE[:end] for end in range(len(TFLITE)))):
        try:
            check_tflite(content)
        except DeviceError as error:
            assert error.reason == "model_refused"  # noqa: PT017 (as above)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"TFL3",
        struct.pack("<I4s", 0xFFFFFFFF, b"TFL3"),
        struct.pack("<I4si", 8, b"TFL3", 2**31 - 1),  # its list of fields is before the file
        struct.pack("<I4si", 8, b"TFL3", -(2**31)),
        TFLITE.replace(b"TFL3", b"TFL2"),
    ],
)
def test_what_is_no_tflite_file_is_refused(content):
    refused(check_tflite, content, "is damaged, or no .tflite file")


def test_a_list_of_a_million_operators_is_not_walked(edited):
    content = edited(lambda model, _: setattr(model, "operatorCodes", model.operatorCodes[:1] * 10_001))
    refused(check_tflite, content, "more than 10,000 kinds of operators")

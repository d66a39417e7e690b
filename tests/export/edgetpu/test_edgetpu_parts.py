"""Which part of a graph is mapped, on made-up graphs: letters are tensors, a capital after them the operator's kind."""

import pytest

from edge_oneshot.presentation.preflight_result import preflight_text
from edge_oneshot_export.edgetpu.parts import mapped_part
from edge_oneshot_export.edgetpu.preflight import preflight
from edge_oneshot_export.formats.tflite_file import Operator
from tests.samples.tflite_made import tensor, tflite

CPU = "Operation not supported"
DATA_TYPE = "Operation is working on an unsupported data type"
UNSPECIFIED = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
MORE_SUBGRAPHS = "More than one subgraph is not supported"
MAPPED = "Mapped to Edge TPU"


def part(*operators):
    """Places of the mapped part; an operator is written "ab>c", with a "!" where it cannot be mapped."""
    made, able = [], []
    for text in operators:
        inputs, outputs = (tuple(map(ord, names)) for names in text.rstrip("!").split(">"))
        made.append(Operator("X", False, 1, inputs, outputs, {}, memoryview(b"")))
        able.append(not text.endswith("!"))
    return mapped_part(made, able)


@pytest.mark.parametrize(
    ("operators", "mapped"),
    [
        (("x>a", "a>b"), {0, 1}),
        (("x>a!", "a>b", "b>c"), {1, 2}),  # a CAST at the beginning
        (("x>a!", "a>b!", "b>c", "c>d"), {2, 3}),  # two in a row
        (("x>a", "a>b", "b>c!"), {0, 1}),  # at the end
        (("x>a!", "a>b", "b>c", "c>d!"), {1, 2}),  # at both ends
        (("x>a", "a>b!", "b>c", "c>d", "d>e"), {2, 3, 4}),  # the largest
        (("x>a", "a>b", "b>c!", "c>d"), {0, 1}),
        (("x>a!", "a>b", "b>c!", "c>d", "d>e", "e>f!", "f>g"), {3, 4}),
        (("x>a", "a>b!", "b>c"), {0}),  # of two as large the first
        (("x>a", "a>b!", "a>c", "c>d", "bd>e"), {0, 2, 3}),  # beside one that stays, not behind it
        (("x>a!", "y>b", "ab>c"), {1, 2}),  # the other input is waited for
        (("y>b", "x>a!", "ab>c"), {0}),  # unless a part has begun before, as TensorFlow Lite cuts it
        (("x>a!", "a>b!"), set()),
        ((), set()),
    ],
)
def test_one_part_is_mapped_which_may_begin_later_than_the_first_operator(operators, mapped):
    assert part(*operators) == mapped


def test_what_reads_its_own_output_is_never_ready():
    assert part("a>a") == set()
    assert part("b>a", "a>b") == set()
    assert part("x>a", "bb>b", "a>c") == {0, 2}


def test_a_tensor_that_two_operators_compute_counts_once():
    assert part("x>a", "y>a", "aa>b", "ac>d", "x>c!") == {0, 1, 2}


def statuses(report):
    return [(verdict.op, verdict.status) for verdict in report.ops]


def convolution(before, after):
    return ("CONV_2D", f"{before} filter bias", after)


def parameters():
    return {"filter": tensor(2, 3, 3, 2, values=1), "bias": tensor(2, dtype="int32", values=0)}


def image(**settings):
    return tensor(1, 8, 8, 2, **settings)


def test_a_cast_and_a_quantize_at_the_beginning_leave_what_follows_on_the_edge_tpu():
    tensors = {
        "pixels": image(dtype="uint8", scale=None),
        "floats": image(dtype="float32", scale=None),
        **{name: image() for name in "abc"},
        **parameters(),
    }
    operators = [("CAST", "pixels", "floats"), ("QUANTIZE", "floats", "a"), convolution("a", "b"), ("RELU", "b", "c")]
    report = preflight(tflite(tensors, operators, "pixels", "c"))
    assert statuses(report) == [("CAST", DATA_TYPE), ("QUANTIZE", UNSPECIFIED), ("CONV_2D", MAPPED), ("RELU", MAPPED)]
    assert (report.subgraphs, report.edgetpu_ops, report.cpu_ops, report.mapped) == (1, 2, 2, False)
    assert report.notes == ()


def test_an_operator_off_the_list_at_the_beginning_leaves_what_follows_on_the_edge_tpu():
    tensors = {**{name: image() for name in "xabc"}, **parameters()}
    operators = [("LEAKY_RELU", "x", "a"), convolution("a", "b"), convolution("b", "c")]
    report = preflight(tflite(tensors, operators, "x", "c"))
    assert statuses(report) == [("LEAKY_RELU", CPU), ("CONV_2D", MAPPED), ("CONV_2D", MAPPED)]


def test_of_a_net_between_resizes_the_convolution_is_mapped_as_users_saw():
    # google-coral/edgetpu #597
    tensors = {
        "x": tensor(1, 512, 512, 3),
        "size": tensor(2, dtype="int32", scale=None, values=(1024, 1024)),
        "filter": tensor(6, 3, 3, 3, values=1),
        "bias": tensor(6, dtype="int32", values=0),
        "up": tensor(1, 1024, 1024, 3),
        "y": tensor(1, 512, 512, 6),
        **{name: tensor(1, 1024, 1024, 6) for name in ("larger", "z")},
    }
    operators = [
        ("RESIZE_NEAREST_NEIGHBOR", "x size", "up"),
        convolution("up", "y"),
        ("RESIZE_BILINEAR", "y size", "larger"),
        ("LEAKY_RELU", "larger", "z"),
    ]
    report = preflight(tflite(tensors, operators, "x", "z"))
    assert [op for op, status in statuses(report) if status == MAPPED] == ["CONV_2D"]
    assert report.notes == ()


def test_near_the_input_stays_what_compiler_16_left_there():
    # google-coral/edgetpu #461: of a net that begins with an instance normalisation of 256x128 pixels, both MEAN
    # stay for their size, and what lies between them with "More than one subgraph"; the rest is mapped
    pixels, one = (1, 256, 128, 3), (1, 1, 1, 3)
    tensors = {
        **{name: tensor(*pixels) for name in ("x", "centred", "squares", "normal", "z")},
        **{name: tensor(*one) for name in ("mean", "variance", "safe", "factor")},
        "axes": tensor(2, dtype="int32", scale=None, values=(1, 2)),
        "epsilon": tensor(*one, values=1),
        "filter": tensor(3, 3, 3, 3, values=1),
        "bias": tensor(3, dtype="int32", values=0),
    }
    operators = [
        ("MEAN", "x axes", "mean"),
        ("SUB", "x mean", "centred"),
        ("SQUARED_DIFFERENCE", "x mean", "squares"),
        ("MEAN", "squares axes", "variance"),
        ("ADD", "variance epsilon", "safe"),
        ("RSQRT", "safe", "factor"),
        ("MUL", "centred factor", "normal"),
        convolution("normal", "z"),
    ]
    report = preflight(tflite(tensors, operators, "x", "z"))
    assert statuses(report) == [
        ("MEAN", UNSPECIFIED),
        ("SUB", MORE_SUBGRAPHS),
        ("SQUARED_DIFFERENCE", MORE_SUBGRAPHS),
        ("MEAN", UNSPECIFIED),
        *((kind, MAPPED) for kind in ("ADD", "RSQRT", "MUL", "CONV_2D")),
    ]
    assert report.ops[1].reason.endswith(
        "an operator that stays on the CPU lies between it and the part that is mapped"
    )
    (note,) = report.notes
    assert note.startswith("operators before the mapped part that could be mapped as well: 2; ")


def test_the_text_tells_what_stays_before_and_behind_the_mapped_part():
    tensors = {**{name: image() for name in "xabcde"}, **parameters()}
    operators = [("RELU", "x", "a"), ("LEAKY_RELU", "a", "b"), convolution("b", "c"), convolution("c", "d")]
    text = preflight_text(preflight(tflite(tensors, [*operators, ("LEAKY_RELU", "d", "e")], "x", "e")))
    assert [line.split()[:5] for line in text.splitlines()[1:4]] == [
        ["RELU", "1", "1", "CPU", "More"],
        ["LEAKY_RELU", "1", "2", "CPU", "Operation"],
        ["CONV_2D", "1", "2", "Edge", "TPU"],
    ]
    assert "operators before the mapped part that could be mapped as well: 1; " in text
    assert text.endswith("partly mapped: 2 operators on the Edge TPU, 3 on the CPU")


def test_a_tile_is_mapped_with_its_multiples():
    tensors = {
        **{name: image() for name in "xa"},
        "b": tensor(1, 16, 16, 2),
        "multiples": tensor(4, dtype="int32", scale=None, values=(1, 2, 2, 1)),
        **parameters(),
    }
    report = preflight(tflite(tensors, [convolution("x", "a"), ("TILE", "a multiples", "b")], "x", "b"))
    assert statuses(report) == [("CONV_2D", MAPPED), ("TILE", MAPPED)]


def lstm(**changed):
    """A file of one LSTM of 5 units over 6 features and 8 steps, as the converter writes it: 24 inputs."""
    gates = ("input", "forget", "cell", "output")
    tensors = {
        "x": tensor(1, 8, 6),
        **{f"x_{gate}": tensor(5, 6, values=1) for gate in gates},
        **{f"h_{gate}": tensor(5, 5, values=1) for gate in gates},
        **{f"bias_{gate}": tensor(5, dtype="int32", values=0) for gate in gates},
        "hidden": tensor(1, 5),
        "state": tensor(1, 5, dtype="int16", scale=2.0**-11),
        "y": tensor(1, 8, 5),
    } | changed
    inputs = ["x", *(f"{of}_{gate}" for of in "xh" for gate in gates), "- - -", *(f"bias_{gate}" for gate in gates)]
    taken = " ".join([*inputs, "- -", "hidden state", "- - - -"])
    return tflite(tensors, [("UNIDIRECTIONAL_SEQUENCE_LSTM", taken, "y")], "x", "y")


def test_an_lstm_is_mapped_with_its_constants_and_its_state_of_16_bits():
    report = preflight(lstm())
    assert statuses(report) == [("UNIDIRECTIONAL_SEQUENCE_LSTM", MAPPED)]


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"x": tensor(1, 8, 6, dtype="int16")}, DATA_TYPE),
        ({"y": tensor(1, 8, 5, dtype="float32", scale=None)}, DATA_TYPE),
        ({"h_cell": tensor(5, 5, dtype="float32", scale=None, values=1)}, DATA_TYPE),
        ({"hidden": tensor(1, 5, dtype="int16")}, DATA_TYPE),
        ({"bias_cell": tensor(5, dtype="int32")}, "Filter, bias, or other param is not constant at compile-time"),
    ],
)
def test_an_lstm_of_other_types_or_computed_weights_stays_on_the_cpu(changed, status):
    (verdict,) = preflight(lstm(**changed)).ops
    assert (verdict.target, verdict.status) == ("cpu", status)


def test_pixels_alone_do_not_make_a_quantized_model():
    tensors = {"pixels": image(dtype="uint8", scale=None), "floats": image(dtype="float32", scale=None)}
    report = preflight(tflite(tensors, [("CAST", "pixels", "floats")], "pixels", "floats"))
    assert report.faults[0].endswith("Model not quantized")

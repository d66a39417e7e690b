import numpy as np
import pytest

from edge_oneshot_export.edgetpu.rules import DATA_TYPE, NOT_CONSTANT, UNSPECIFIED, Fault, Use, fault
from edge_oneshot_export.formats.tflite_file import Operator, Tensor


def tensor(*shape, dtype="int8", scales=(0.1,), values=None):
    data = None if values is None else np.asarray(values, dtype).data
    return Tensor("t", shape, shape, dtype, scales, (0,) * len(scales), 0, 0, data)


def axes(*values):
    return tensor(len(values), dtype="int32", scales=(), values=values)


def verdict(name, inputs, outputs, version=1, **options):
    operator = Operator(name, False, version, (), (), options, memoryview(b""))
    found = fault(Use(operator, tuple(inputs), tuple(outputs)))
    assert found is None or found.status == UNSPECIFIED
    return None if found is None else found.reason


@pytest.mark.parametrize(
    ("before", "after", "corners", "mapped"),
    [
        (64, 128, False, True),  # google-coral/edgetpu #31
        (128, 256, False, False),  # #31, #187
        (16, 64, False, True),  # #377
        (33, 33, True, True),
        (1, 33, True, False),  # DeepLab's image pooling
        (33, 513, True, False),
        (16, 31, True, True),
        (10, 25, False, False),
    ],
)
@pytest.mark.parametrize("name", ["RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"])
def test_a_resize_is_mapped_where_reports_say_so(name, before, after, corners, mapped):
    inputs = (tensor(1, before, before, 8), axes(after, after))
    found = verdict(name, inputs, [tensor(1, after, after, 8)], alignCorners=corners)
    assert (found is None) == mapped


def test_a_mean_keeps_the_batch_and_takes_channels_by_four():
    def mean(shape, *over):
        return verdict("MEAN", (tensor(*shape), axes(*over)), [tensor(1, shape[-1])])

    assert mean((1, 8, 8, 30), 1, 2) is None
    assert mean((1, 8, 8, 32), 3) is None
    assert mean((1, 8, 8, 30), -1) == "a mean over 30 channels, which is no multiple of 4"
    assert mean((1, 8, 8, 32), 0) == "it reduces the batch"
    assert mean((1, 256, 128, 3), 1, 2) == "a mean over 32,768 pixels; 8,192 are known to be mapped"


def test_a_softmax_has_one_dimension_of_at_most_16000():
    def softmax(*shape):
        return verdict("SOFTMAX", [tensor(*shape)], [tensor(*shape)])

    assert softmax(1, 16_000) is None
    assert softmax(1, 16_001) == "16,001 elements, of at most 16,000"
    assert softmax(1, 10, 10) == "the output (1, 10, 10) has more than one dimension"


def test_a_dense_layer_answers_one_row():
    weights = tensor(4, 8, values=np.zeros(32))
    assert verdict("FULLY_CONNECTED", (tensor(1, 8), weights, None), [tensor(1, 4)]) is None
    found = verdict("FULLY_CONNECTED", (tensor(1, 3, 8), weights, None), [tensor(1, 3, 4)])
    assert found == "the output (1, 3, 4) has more than one dimension"
    shuffled = verdict("FULLY_CONNECTED", (tensor(1, 8), weights, None), [tensor(1, 4)], weightsFormat=1)
    assert shuffled == "weights in a shuffled format"


def test_a_concatenation_pads_with_zeros_or_takes_no_constant():
    image, output = tensor(1, 4, 4, 2), [tensor(1, 4, 4, 4)]
    zeros, ones = (tensor(1, 4, 4, 2, values=np.full(32, value)) for value in (0, 1))
    assert verdict("CONCATENATION", (image, image), output) is None
    assert verdict("CONCATENATION", (image, zeros), output) is None
    refused = "a constant input is allowed only as one of two, and all zeros"
    assert verdict("CONCATENATION", (image, ones), output) == refused
    assert verdict("CONCATENATION", (image, image, zeros), output) == refused


def test_the_batch_is_neither_padded_nor_packed_nor_split():
    image = tensor(1, 4, 4, 2)
    assert verdict("PAD", (image, axes(0, 0, 1, 1, 1, 1, 0, 0)), [tensor(1, 6, 6, 2)]) is None
    assert verdict("PAD", (image, axes(1, 0, 0, 0, 0, 0, 0, 0)), [tensor(1, 4, 4, 2)]) == "it pads the batch"
    assert verdict("PACK", [tensor(4, 4)], [tensor(4, 4, 1)], axis=2) is None
    assert verdict("PACK", [tensor(4, 4)], [tensor(1, 4, 4)], axis=0) == "along the batch"
    assert verdict("SPLIT", (axes(3), image), [tensor(1, 4, 4, 1)] * 2) is None
    assert verdict("SPLIT", (axes(0), image), [tensor(1, 4, 4, 1)] * 2) == "along the batch"


def test_a_slice_has_strides_of_one_and_no_new_axis():
    def sliced(stride, **options):
        inputs = (tensor(1, 4, 4, 2), axes(0, 0, 0, 0), axes(1, 4, 4, 2), axes(1, stride, 1, 1))
        return verdict("STRIDED_SLICE", inputs, [tensor(1, 4, 4, 2)], **options)

    assert sliced(1, beginMask=3) is None
    assert sliced(2) == "strides other than 1"
    assert sliced(1, newAxisMask=1) == "newAxisMask is set"


def test_a_prelu_has_one_value_a_channel():
    image = tensor(1, 4, 4, 2)
    assert verdict("PRELU", (image, tensor(1, 1, 2, values=np.ones(2))), [image]) is None
    found = verdict("PRELU", (image, tensor(4, 4, 2, values=np.ones(32))), [image])
    assert found == "alpha has the shape (4, 4, 2); one value a channel is needed"


@pytest.mark.parametrize("scale", [0.0, float("inf"), float("nan"), -1.0])
def test_a_scale_that_is_no_positive_number_is_an_unsupported_type(scale):
    use = Use(
        Operator("RELU", False, 1, (), (), {}, memoryview(b"")), (tensor(1, 8),), (tensor(1, 8, scales=(scale,)),)
    )
    assert fault(use) == Fault(
        "Operation is working on an unsupported data type", "'t' has a scale that is no positive number"
    )


def judged(name, *inputs, output=None):
    operator = Operator(name, False, 1, (), (), {}, memoryview(b""))
    found = fault(Use(operator, inputs, (output or tensor(1, 4, 4, 2),)))
    return None if found is None else found.status


IMAGE = tensor(1, 4, 4, 2)
BIAS = tensor(2, dtype="int32", values=(0, 0))


def filters(*shape):
    return tensor(*shape, values=np.ones(shape))


@pytest.mark.parametrize(
    ("name", "inputs", "exempt"),
    [
        ("CONV_2D", (IMAGE, filters(2, 1, 1, 2), BIAS), (2,)),
        ("DEPTHWISE_CONV_2D", (IMAGE, filters(1, 1, 1, 2), BIAS), (2,)),
        ("TRANSPOSE_CONV", (axes(1, 4, 4, 2), filters(2, 1, 1, 2), IMAGE, BIAS), (0, 3)),
        ("MEAN", (IMAGE, axes(1, 2)), (1,)),
        ("SUM", (IMAGE, axes(1, 2)), (1,)),
        ("REDUCE_MAX", (IMAGE, axes(1, 2)), (1,)),
        ("REDUCE_MIN", (IMAGE, axes(1, 2)), (1,)),
        ("PAD", (IMAGE, axes(*[0] * 8)), (1,)),
        ("RESHAPE", (IMAGE, axes(1, 4, 4, 2)), (1,)),
        ("TILE", (IMAGE, axes(1, 1, 1, 1)), (1,)),
        ("TRANSPOSE", (IMAGE, axes(0, 2, 1, 3)), (1,)),
        ("EXPAND_DIMS", (IMAGE, axes(1)), (1,)),
        ("RESIZE_BILINEAR", (IMAGE, axes(4, 4)), (1,)),
        ("SPLIT", (axes(3), IMAGE), (0,)),
        ("SLICE", (IMAGE, axes(0, 0, 0, 0), axes(1, 4, 4, 2)), (1, 2)),
        ("STRIDED_SLICE", (IMAGE, axes(0, 0, 0, 0), axes(1, 4, 4, 2), axes(1, 1, 1, 1)), (1, 2, 3)),
    ],
)
def test_the_parameters_of_an_operator_may_be_int32_but_not_computed(name, inputs, exempt):
    assert judged(name, *inputs) is None
    for position, given in enumerate(inputs):
        computed = tensor(*given.shape, dtype=given.dtype, scales=given.scales)
        number = tensor(*given.shape, dtype="int32", scales=())
        changed = [[*inputs[:position], other, *inputs[position + 1 :]] for other in (computed, number)]
        if given is IMAGE:
            assert [judged(name, *change) for change in changed] == [None, DATA_TYPE]
        else:
            status = NOT_CONSTANT if position in exempt else DATA_TYPE  # of an int32 filter the type is told
            assert [judged(name, *change) for change in changed] == [NOT_CONSTANT, status]


@pytest.mark.parametrize("name", ["ADD", "MUL", "SUB", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"])
def test_a_constant_that_is_calculated_with_is_int8_like_the_rest(name):
    assert judged(name, IMAGE, filters(1, 1, 1, 2)) is None
    assert judged(name, IMAGE, tensor(1, 1, 1, 2, dtype="int32", values=(1, 1))) == DATA_TYPE
    assert judged(name, IMAGE, tensor(1, 1, 1, 2, dtype="float32", scales=(), values=(1, 1))) == DATA_TYPE


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("CONV_2D", (IMAGE, tensor(2, 1, 1, 2, dtype="float32", scales=(), values=np.ones(4)), BIAS)),
        ("PRELU", (IMAGE, tensor(1, 1, 2, dtype="float32", scales=(), values=np.ones(2)))),
        ("RESHAPE", (tensor(1, 4, 4, 2, dtype="int32", scales=()), axes(1, 4, 4, 2))),
        ("TILE", (tensor(1, 4, 4, 2, dtype="int32", scales=()), axes(1, 1, 1, 1))),
        ("QUANTIZE", (tensor(1, 4, 4, 2, scales=()),)),
    ],
)
def test_values_and_weights_are_quantized_whatever_the_operator(name, inputs):
    assert judged(name, *inputs) == (UNSPECIFIED if name == "QUANTIZE" else DATA_TYPE)


def test_a_tile_does_not_multiply_the_batch():
    multiples = axes(2, 1, 1, 1)
    operator = Operator("TILE", False, 1, (), (), {}, memoryview(b""))
    found = fault(Use(operator, (IMAGE, multiples), (tensor(2, 4, 4, 2),)))
    assert found == Fault(
        "Tensor has unsupported rank (up to 3 innermost dimensions mapped)",
        "'t' has the shape (2, 4, 4, 2); batch 1 is needed",
    )


def test_a_tile_of_the_version_that_tensorflow_2_8_brought_ends_the_compilation():
    operator = Operator("TILE", False, 3, (), (), {}, memoryview(b""))
    found = fault(Use(operator, (IMAGE, axes(1, 1, 1, 1)), (IMAGE,)))
    assert found.status == "Operation version not supported"
    assert "the compiler reads up to 2 and refuses the file" in found.reason

"""The one pair of quantize and dequantize."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge_oneshot_device.bundle.manifest import TensorSpec
from edge_oneshot_device.encoding.quantization import dequantize, quantize


def tensor(dtype: str, scale: float, zero_point: int) -> TensorSpec:
    return TensorSpec(dtype=dtype, shape=(1, 4), scale=scale, zero_point=zero_point)


FLOAT = tensor("float32", 0.0, 0)
QUANTIZED = st.one_of(
    st.builds(tensor, st.just("int8"), st.floats(1e-6, 1e3), st.integers(-128, 127)),
    st.builds(tensor, st.just("uint8"), st.floats(1e-6, 1e3), st.integers(0, 255)),
)


def test_halves_are_rounded_to_even():
    values = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], dtype=np.float32)
    assert quantize(values, tensor("int8", 1.0, 0)).tolist() == [-2, -2, 0, 0, 2, 2]


def test_values_out_of_range_are_clipped_not_wrapped():
    values = np.array([-1e30, -129.0, 128.0, 1e30, np.inf], dtype=np.float32)
    assert quantize(values, tensor("int8", 1.0, 0)).tolist() == [-128, -128, 127, 127, 127]
    assert quantize(values, tensor("uint8", 1.0, 7)).tolist() == [0, 0, 135, 255, 255]


def test_the_dtype_and_shape_are_the_tensors_and_the_values():
    quantized = quantize(np.zeros((2, 3), dtype=np.float32), tensor("int8", 0.5, -3))
    assert quantized.dtype == np.int8
    assert quantized.tolist() == [[-3, -3, -3], [-3, -3, -3]]


def test_the_zero_point_is_subtracted_in_a_wider_type():
    raw = np.array([-128, 127], dtype=np.int8)
    assert dequantize(raw, tensor("int8", 0.5, 127)).tolist() == [-127.5, 0.0]
    assert dequantize(np.array([0, 255], dtype=np.uint8), tensor("uint8", 2.0, 255)).tolist() == [-510.0, 0.0]


def test_a_float_tensor_takes_values_as_they_are():
    values = np.array([0.1, -7.5], dtype=np.float32)
    assert quantize(values, FLOAT) is values
    restored = dequantize(values, FLOAT)
    assert restored.tolist() == values.tolist()
    assert not np.shares_memory(restored, values)


@given(QUANTIZED)
def test_every_integer_survives_the_round_trip(spec):
    limits = np.iinfo(spec.dtype)
    integers = np.arange(limits.min, limits.max + 1, dtype=spec.dtype)
    real = dequantize(integers, spec)
    assert real.dtype == np.float32
    assert np.array_equal(quantize(real, spec), integers)


@given(QUANTIZED, arrays.arrays(np.float32, 5, elements=st.floats(-1e4, 1e4, width=32)))
def test_a_value_in_range_comes_back_within_half_a_step(spec, values):
    limits = np.iinfo(spec.dtype)
    low, high = ((limit - spec.zero_point) * spec.scale for limit in (limits.min, limits.max))
    values = np.clip(values, low, high).astype(np.float32)
    error = np.abs(dequantize(quantize(values, spec), spec).astype(np.float64) - values)
    assert error.max() <= spec.scale * (0.5 + 1e-4)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_quantizing_rises_with_the_value(dtype):
    values = np.linspace(-300, 300, 5001, dtype=np.float32)
    steps = np.diff(quantize(values, tensor(dtype, 0.7, 20)).astype(int))
    assert set(steps.tolist()) == {0, 1}

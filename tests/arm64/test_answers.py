"""What x86-64 answered, and what an emulated Raspberry Pi answers: to the bit.

Runs by `make test-arm64`, within a userland.
"""

import os
import platform
from pathlib import Path

import msgspec
import numpy as np
import pytest

if platform.machine() != "aarch64" or "EDGE_ONESHOT_ANSWERS" not in os.environ:
    pytest.skip("runs in an arm64 userland: make test-arm64", allow_module_level=True)

from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.preprocessing import load_image

ANSWERS = Path(os.environ["EDGE_ONESHOT_ANSWERS"])
BUNDLES = Path(os.environ["EDGE_ONESHOT_BUNDLES"])
NETS = ("tiny", "base")
IMAGES = {"tiny": 200, "base": 50}


def load(net):
    """A bundle, and what was answered to how many images."""
    with np.load(BUNDLES / f"{net}.npz") as answers:
        return Bundle.open(BUNDLES / f"{net}.oneshot"), {name: made[: IMAGES[net]] for name, made in answers.items()}


def expect_the_same(answered, expected):
    assert answered.dtype == expected.dtype
    np.testing.assert_array_equal(answered, expected)


def answered(bundle, variant, images):
    encoder = Encoder.open(bundle, variant)  # the golden vectors are checked here
    assert encoder.runtime == "litert"
    assert encoder.delegated, "XNNPACK is not active"
    return np.stack([encoder.raw(image) for image in images])


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("variant", ["int8", "coral"])
def test_int8_answers_are_those_of_x86_to_the_bit(variant, net):
    bundle, answers = load(net)
    expect_the_same(answered(bundle, variant, answers["images"]), answers[f"{variant}-xnnpack"])


def test_a_single_value_that_is_one_step_off_is_seen():
    bundle, answers = load("tiny")
    other = answers["int8-xnnpack"].copy()
    other[3, 77] += 1 if other[3, 77] < 127 else -1
    with pytest.raises(AssertionError, match="Mismatched elements: 1 / "):
        expect_the_same(answered(bundle, "int8", answers["images"]), other)


@pytest.mark.parametrize("variant", ["float32", "float16"])
def test_float_answers_agree_to_five_digits(variant):
    bundle, answers = load("tiny")
    expected = answers[f"{variant}-xnnpack"]
    apart = np.abs(answered(bundle, variant, answers["images"]) - expected).max()
    assert apart <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", sorted(path.name for path in (ANSWERS / "files").iterdir()))
def test_a_file_is_decoded_resized_and_embedded_as_on_x86_to_the_bit(name):
    content = (ANSWERS / "files" / name).read_bytes()
    sections = msgspec.json.decode((ANSWERS / "sections.json").read_bytes(), type=dict[str, InputSection])
    with np.load(ANSWERS / "pixels.npz") as expected:
        for section, described in sections.items():
            expect_the_same(load_image(content, described), expected[f"{name}/{section}"])
        for net in NETS:
            bundle = Bundle.open(BUNDLES / f"{net}.oneshot")
            encoder = Encoder.open(bundle, "int8")
            expect_the_same(encoder.raw(load_image(content, bundle.manifest.input)), expected[f"{name}/{net}"])

"""What LiteRT answered where the bundle was made, and what tflite-runtime answers here.

Runs by `make test-tflite-runtime`, in an environment of its own.
"""

import os
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tflite_runtime", reason="runs in its own environment: make test-tflite-runtime")

from edge_oneshot_device import Bundle
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.runtimes import open_model
from edge_oneshot_device.errors import IntegrityError

FOLDER = Path(os.environ.get("EDGE_ONESHOT_BUNDLES", "build/bundles"))
NETS = ("tiny", "base")
INTEGER = ("int8", "coral")
# XNNPACK rounds a convolution by float32, the plain kernels by fixed point: one value in 2,000 comes out a step apart,
# and the layers after it spread that.
MOST_STEPS = 2


@pytest.fixture(scope="module", params=NETS)
def made(request):
    """A bundle and its answers."""
    bundle = Bundle.open(FOLDER / f"{request.param}.oneshot")
    with np.load(FOLDER / f"{request.param}.npz") as answers:
        return bundle, dict(answers)


def answered(bundle, answers, variant):
    encoder = Encoder.open(bundle, variant, runtime="tflite-runtime")  # the golden vectors are checked here
    assert encoder.runtime == "tflite-runtime"
    return np.stack([encoder.raw(image) for image in answers["images"]])


def test_the_environment_is_the_device_package_alone_with_numpy_1():
    assert np.__version__.startswith("1.")
    installed = {one.name.lower().replace("_", "-") for one in metadata.distributions()}
    assert not installed & {"tensorflow", "keras", "onnx", "edge-oneshot"}


@pytest.mark.parametrize("variant", INTEGER)
def test_int8_answers_are_those_of_litert_without_xnnpack_to_the_bit(variant, made):
    bundle, answers = made
    np.testing.assert_array_equal(answered(bundle, answers, variant), answers[f"{variant}-plain"])


@pytest.mark.parametrize("variant", INTEGER)
def test_int8_answers_are_within_a_few_steps_of_litert_as_a_device_runs_it(variant, made, record_property):
    bundle, answers = made
    apart = np.abs(answered(bundle, answers, variant).astype(int) - answers[f"{variant}-xnnpack"].astype(int))
    shares = {steps: float((apart == steps).mean()) for steps in range(1, apart.max() + 1)}
    record_property("shares of values by steps apart", str(shares))
    assert len(apart) >= 300
    assert apart.max() <= MOST_STEPS
    assert np.mean(apart > 2) < 1e-4


@pytest.mark.parametrize("variant", ["float32", "float16"])
@pytest.mark.parametrize("kernels", ["xnnpack", "plain"])
def test_float_answers_agree_to_five_digits(variant, kernels, made):
    bundle, answers = made
    expected = answers[f"{variant}-{kernels}"]
    apart = np.abs(answered(bundle, answers, variant) - expected).max()
    assert apart <= 1e-5 * np.abs(expected).max()


def test_what_the_bundle_says_runs_here_runs_and_the_rest_is_refused(made):
    bundle, _ = made
    for variant in bundle.manifest.variants:
        if "tflite-runtime" in variant.runtimes:
            Encoder.open(bundle, variant.name, runtime="tflite-runtime")
        else:
            with pytest.raises(IntegrityError, match="tflite-runtime refuses the model file"):
                open_model(variant.format, bundle.read(variant.file), runtime="tflite-runtime")

"""SFace and YuNet in Keras beside their ONNX files in ONNX Runtime, and the thresholds that come with them."""

import io

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from edge_oneshot.errors import DataError
from edge_oneshot.faces import parity
from edge_oneshot.faces.face_export import provisional_thresholds
from edge_oneshot.faces.onnx_weights import plain
from edge_oneshot.faces.packages import ASTRONAUT, SFACE, YUNET, read_net, read_package_file
from edge_oneshot.faces.sface import build_sface
from edge_oneshot.faces.yunet import SIDE, build_yunet, convert_yunet
from edge_oneshot_device.faces.interpreter import FaceNet
from tests.raising import raises


@pytest.fixture(scope="module")
def content(faces_extra):  # noqa: ARG001 (skips)
    return read_net(SFACE)


@pytest.fixture(scope="module")
def model(content):
    return build_sface(content)


@pytest.fixture(scope="module")
def photo(content):  # noqa: ARG001 (skips)
    with Image.open(io.BytesIO(read_package_file(ASTRONAUT))) as image:
        return np.asarray(image.convert("RGB"), np.float32)[np.newaxis]


@pytest.fixture(scope="module")
def chips(photo):
    """A face, noise and a gradient."""
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3))
    slope = np.indices((112, 112, 3)).sum(axis=0)
    return np.stack([photo[0, 50:162, 165:277], noise, slope]).astype(np.uint8)


def test_the_encoder_answers_what_its_onnx_file_answers(model, content, chips):
    assert parity.check_parity(model, content, chips) < 2e-5


def test_another_answer_is_refused(model, content, chips, monkeypatch):
    monkeypatch.setattr(parity, "LARGEST", 1e-9)
    with raises(DataError, match="off its ONNX file, at most 1e-09", reason="not_sface"):
        parity.check_parity(model, content, chips)


def answered(session, pixels):
    """The outputs of YuNet's ONNX file, joined as in ours."""
    names = [output.name for output in session.get_outputs()]
    parts = dict(zip(names, session.run(None, {"input": pixels[..., ::-1].transpose(0, 3, 1, 2)}), strict=True))
    rows = [[parts[f"{kind}_{stride}"] for kind in ("cls", "obj", "bbox", "kps")] for stride in (8, 16, 32)]
    return np.concatenate([np.concatenate(row, axis=2) for row in rows], axis=1)


def test_the_finder_answers_what_its_onnx_file_answers_in_keras_and_as_tflite_at_any_size(photo):
    stored = read_net(YUNET)
    pixels = np.pad(photo, ((0, 0), (0, 128), (0, 128), (0, 0)))
    expected = answered(onnxruntime.InferenceSession(plain(stored).SerializeToString()), pixels)
    keras_net = build_yunet(stored)
    assert np.asarray(keras_net(pixels)) == pytest.approx(expected, abs=1e-4)
    shapes = (1, SIDE, SIDE, 3), (1, 2100, 16)
    net = FaceNet(convert_yunet(stored), "finder", shapes, white=255.0, runtime="litert", threads=1)
    for width in (640, 320, 96):
        (found,) = net.run(pixels[0, :, :width].astype(np.uint8))
        assert found == pytest.approx(np.asarray(keras_net(pixels[:, :, :width]))[0], abs=1e-4)


def test_the_finder_is_converted_to_the_same_file_each_time(content):  # noqa: ARG001 (skips)
    stored = read_net(YUNET)
    assert convert_yunet(stored) == convert_yunet(stored)


def test_the_weights_of_another_net_are_refused(content):
    with raises(DataError, match="the weights of YuNet are not those of its net", reason="wrong_file"):
        build_yunet(content)
    with raises(DataError, match="the weights of SFace are not those of its net", reason="wrong_file"):
        build_sface(read_net(YUNET))


def test_each_variant_has_the_thresholds_of_its_precision():
    found = provisional_thresholds(["coral", "float16", "dynamic"], None)
    assert {name: {one.variant for one in own} for name, own in found.items()} == {
        "coral": {"coral"},
        "float16": {"float16"},
        "dynamic": {"dynamic"},
    }
    assert all(one.provisional for own in found.values() for one in own)


def test_a_target_that_the_thresholds_know_becomes_the_default():
    (first, *_) = provisional_thresholds(["int8"], 0.01)["int8"]
    assert first.target_far == 0.01


def test_another_target_is_refused():
    with raises(DataError, match=r"no false accept rate of 0.003, they have .*, 0.0001", reason="unsupported_target"):
        provisional_thresholds(["int8"], 0.003)

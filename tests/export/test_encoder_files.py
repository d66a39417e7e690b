"""Encoders that somebody else made become bundles like any other."""

import contextlib
import os

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.errors import InputError, IntegrityError
from edge_oneshot_export.encoder_files import export_encoders, read_encoder
from edge_oneshot_export.errors import ExportError, ModelError
from edge_oneshot_export.formats import onnx_adapting, tflite_adapting
from edge_oneshot_export.formats.scaling import tflite_scaling
from edge_oneshot_export.packing.packer import BundleSpec
from edge_oneshot_export.variants import VARIANTS
from tests.raising import raises
from tests.samples.tflite_edit import damaged, edited


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
    kinds = {name: read_encoder(path).kind.name for name, path in files.items()}
    # weights of 7 bits are a choice of the exporter: a file of somebody else's that has them counts as any other
    assert kinds == {**{name: name for name in files}, "coral": "int8", "onnx-int7": "onnx-int8"}


def test_files_of_one_encoder_become_a_bundle_with_drift_against_its_float_file(
    files, exported, people, section, destination
):
    encoders = [read_encoder(files[name]) for name in ("float32", "int8", "onnx-int8")]
    report = export_encoders(encoders, destination, BundleSpec(section, name="mine"), calibration=people)
    bundle = Bundle.open(destination)
    assert report.manifest == bundle.manifest
    assert [variant.name for variant in bundle.manifest.variants] == ["float32", "int8", "onnx-int8"]
    own = {variant.name: variant for variant in exported.manifest.variants}
    for variant in bundle.manifest.variants:
        # the same file and preprocessing: the same fingerprint
        assert variant.fingerprint == own[variant.name].fingerprint
        assert variant.drift.cosine_mean == pytest.approx(own[variant.name].drift.cosine_mean, abs=1e-5)
    assert {c.variant for c in bundle.manifest.calibration} == {"int8", "float32", "onnx-int8"}
    assert bundle.manifest.calibration[0].data == "24 identities of data not stated"


def test_an_onnx_int8_file_with_weights_of_7_bits_as_earlier_bundles_have_it_still_opens(
    files, exported, people, section, destination
):
    export_encoders([read_encoder(files["onnx-int7"])], destination, BundleSpec(section), calibration=people)
    bundle = Bundle.open(destination)
    assert bundle.manifest.default_variant == "onnx-int8"
    own = {variant.name: variant.fingerprint for variant in exported.manifest.variants}
    assert Encoder.open(bundle).fingerprint == own["onnx-int7"] != own["onnx-int8"]


def test_without_a_float_file_the_drift_is_unknown_and_the_thresholds_are_measured_all_the_same(
    files, people, section, destination
):
    report = export_encoders([read_encoder(files["int8"])], destination, BundleSpec(section), calibration=people)
    assert report.manifest.variants[0].drift is None
    assert {c.templates for c in report.manifest.calibration} == {1, 3, 5}
    assert Encoder.open(Bundle.open(destination), "int8").embed(people.images[0]).shape == (32,)


def test_a_file_that_lies_far_from_the_float_one_is_refused(files, people, section, destination, make_encoder):
    from edge_oneshot_export.formats.tflite import to_tflite

    other = destination.parent / "other.tflite"
    other.write_bytes(
        to_tflite(make_encoder(outlier=True), VARIANTS["float32"], np.zeros((1, *section.shape), np.float32))
    )
    encoders = [read_encoder(other), read_encoder(files["int8"])]
    with raises(ExportError, match=r"int8: the mean cosine to the float model is", reason="drifted"):
        export_encoders(encoders, destination, BundleSpec(section), calibration=people)
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
    assert (encoder.kind.name, encoder.input.shape, encoder.output.shape) == ("onnx-float32", (1, 16, 16, 3), (1, 5))
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
            r"its input is \(\?, 3, \?, 16\): its height and width are free; say them with --size",
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


def looping(kind):
    """A model that multiplies an image by a half for ever, or a graph that decides."""
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 8, 3])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 192])
    flag = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    if kind == "Loop":
        ends = [
            [helper.make_tensor_value_info("i", TensorProto.INT64, []), flag],
            [helper.make_tensor_value_info("on", TensorProto.BOOL, [])],
        ]
        body = helper.make_graph([helper.make_node("Identity", ["go"], ["on"])], "body", *ends)
        nodes = [helper.make_node("Loop", ["", "yes"], [], body=body)]
    else:
        sides = [
            helper.make_graph([helper.make_node("Identity", ["yes"], [f"{name}_out"])], name, [],
                              [helper.make_tensor_value_info(f"{name}_out", TensorProto.BOOL, [])])
            for name in ("first", "second")
        ]  # fmt: skip
        nodes = [helper.make_node("If", ["yes"], ["chosen"], then_branch=sides[0], else_branch=sides[1])]
    nodes.append(helper.make_node("Flatten", ["x"], ["y"]))
    yes = onnx.numpy_helper.from_array(np.array(True), "yes")
    graph = helper.make_graph(nodes, "encoder", [image], [answer], [yes])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_damaged_files_are_adapted_or_refused_in_one_line(files, tmp_path):
    whole = [channels_first()[0].SerializeToString(), files["onnx-int8"].read_bytes()]
    for content in damaged(whole, 400, seed=3):
        with contextlib.suppress(ModelError, IntegrityError):
            onnx_adapting.adapted(content, tmp_path, 1 << 24)
    named = edited(files["float32"].read_bytes(), name_outputs)
    for content in damaged([named, files["int8"].read_bytes()], 400, seed=3):
        with contextlib.suppress(ModelError, IntegrityError):
            tflite_scaling(tflite_adapting.adapted(content, (32, 32), ["first"]))


def name_outputs(model):
    """A second output, a free side, and what is to be unpacked with them."""
    graph = model.subgraphs[0]
    graph.outputs = np.array([*graph.outputs, graph.operators[0].outputs[0]], np.int32)
    graph.tensors[graph.outputs[0]].name = b"first"
    graph.tensors[graph.inputs[0]].shapeSignature = np.array([1, -1, -1, 1], np.int32)


@pytest.mark.parametrize("kind", ["Loop", "If"])
def test_an_onnx_file_that_loops_or_branches_is_refused_by_the_operators_name(kind, tmp_path):
    path = written(tmp_path / "a.onnx", looping(kind))
    with pytest.raises(ModelError, match=f"holds a {kind}: an encoder has no branches or loops") as caught:
        read_encoder(path)
    assert caught.value.exit_code == 2


def test_a_tflite_file_with_an_endless_loop_is_refused_by_the_operators_name(tmp_path):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 3))])
    def endless(image):
        turned = tf.while_loop(lambda image: tf.reduce_sum(image) < 1e30, lambda image: (image * 0.5,), (image,))[0]
        return tf.reshape(turned, (1, 192))

    converter = tf.lite.TFLiteConverter.from_concrete_functions([endless.get_concrete_function()], endless)
    path = written(tmp_path / "a.tflite", converter.convert())
    with pytest.raises(ModelError, match=r"a\.tflite: the model file holds a WHILE: .*; export it without") as caught:
        read_encoder(path)
    assert caught.value.exit_code == 2


def test_a_tflite_file_of_a_kilobyte_that_needs_terabytes_is_refused(tmp_path):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 3))])
    def vast(image):
        wide = tf.image.resize(image, (400_000, 400_000))
        return tf.reshape(tf.reduce_max(wide, axis=(1, 2)), (1, 3))

    converter = tf.lite.TFLiteConverter.from_concrete_functions([vast.get_concrete_function()], vast)
    path = written(tmp_path / "a.tflite", converter.convert())
    with pytest.raises(ModelError, match=r"a\.tflite: ") as caught:
        read_encoder(path)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_a_model_file_that_is_none_is_refused_and_not_waited_for(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    os.mkfifo(path)
    with pytest.raises(InputError, match="is no regular file"):
        read_encoder(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="is no regular file"):
        read_encoder(path)
    path.unlink()
    path.symlink_to(tmp_path / "none")
    with pytest.raises(InputError, match="does not exist"):
        read_encoder(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="is a folder"):
        read_encoder(path)
    with (tmp_path / f"huge.{suffix}").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="is larger than 200 MiB"):
        read_encoder(tmp_path / f"huge.{suffix}")


def test_a_link_to_a_model_file_is_followed_and_its_weights_are_looked_for_beside_the_link(tmp_path):
    (tmp_path / "store").mkdir()
    kept = written(tmp_path / "store" / "0123", channels_first(batch=1)[0])
    link = tmp_path / "a.onnx"
    link.symlink_to(kept)
    assert read_encoder(link).kind.name == "onnx-float32"


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
            export_encoders(encoders, destination, BundleSpec(input_), calibration=images)
        assert message in str(caught.value)
    assert not destination.exists()

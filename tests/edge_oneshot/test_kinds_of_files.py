"""The table of docs/reference/export.md: what `export --model` does with each kind of file that others write."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from edge_oneshot import cli
from edge_oneshot.bundle_options import EncoderFileOptions
from edge_oneshot.file_export import export_files
from edge_oneshot_device import Bundle
from edge_oneshot_device.errors import OneShotError
from edge_oneshot_export.errors import ExportError, ModelError
from tests import ROOT
from tests.raising import raises
from tests.samples.model_files import (
    SIDE,
    VALUES,
    beside,
    custom,
    onnx_net,
    quantized,
    tflite_net,
    with_metadata,
    with_signature,
)

DOCS = ROOT / "docs" / "reference" / "export.md"
FREE = {"size": (SIDE, SIDE)}
NAMED = {"output": ["embedding", "output"]}
HALF = TensorProto.FLOAT16


def saved(suffix: str = "onnx", name: str = "a") -> Callable:
    """A maker whose content, of a function of a folder, becomes a file."""

    def wrap(make):
        def written(folder):
            content = make(folder)
            path = folder / f"{name}.{suffix}"
            path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
            return path

        return written

    return wrap


def net(**how):
    return saved()(lambda _folder: onnx_net(**how))


def lite(**how):
    return saved("tflite")(lambda _folder: tflite_net(**how))


def keras_net(way: str):
    def make(folder):
        import keras
        import tensorflow as tf

        keras.utils.set_random_seed(1)
        layers = [
            keras.Input((SIDE, SIDE, 3), name="input_1"),
            keras.layers.Conv2D(24, 5, 4),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(VALUES),
        ]
        model = keras.Sequential(layers)
        if way == "plain":
            return tf.lite.TFLiteConverter.from_keras_model(model).convert()

        model.export(folder / "saved", verbose=False)
        return tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved")).convert()

    return saved("tflite")(make)


def tf2onnx_net(_folder):
    """Channels last outside, a transposition behind the input, ``unk__6`` for the batch."""
    model = onnx_net(names=("turned", "Identity:0"), answer=("unk__6", VALUES))
    image = helper.make_tensor_value_info("input_1:0", TensorProto.FLOAT, ["unk__6", SIDE, SIDE, 3])
    model.graph.node.insert(0, helper.make_node("Transpose", ["input_1:0"], ["turned"], perm=[0, 3, 1, 2]))
    del model.graph.input[:]
    model.graph.input.append(image)
    return model


def batch_of_eight(_folder):
    return onnx_net(sides=(8, 3, SIDE, SIDE), answer=(8, VALUES))


def uint8_onnx(_folder):
    model = onnx_net()
    image = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 3, SIDE, SIDE])
    model.graph.node.insert(0, helper.make_node("Cast", ["pixels"], ["input"], to=TensorProto.FLOAT))
    del model.graph.input[:]
    model.graph.input.append(image)
    return model


def biased(_folder):
    """Its answers lie together at some distance, where the image is faint."""
    model = onnx_net()
    bias = onnx.numpy_helper.from_array(np.full((1, VALUES), 9.0, np.float32), "bias")
    model.graph.initializer.append(bias)
    model.graph.node.append(helper.make_node("Add", ["output", "bias"], ["shifted"]))
    model.graph.output[0].name = "shifted"
    return model


def score(_folder):
    model = onnx_net()
    model.graph.node.append(helper.make_node("ReduceMean", ["output"], ["live"], axes=[1]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("live", TensorProto.FLOAT, [1, 1]))
    return model


def detector(_folder):
    model = onnx_net(names=("image", "fetch_0"))
    for name in ("im_shape", "scale_factor"):
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]))
    return model


def rows(kind: str):
    """What skl2onnx writes: rows of numbers; a classifier has labels and a sequence of maps as well."""

    def make(_folder):
        rng = np.random.default_rng(0)
        weights = onnx.numpy_helper.from_array(rng.normal(size=(SIDE * SIDE, VALUES)).astype(np.float32), "components")
        image = helper.make_tensor_value_info("float_input", TensorProto.FLOAT, [None, SIDE * SIDE])
        nodes = [helper.make_node("MatMul", ["float_input", "components"], ["variable"])]
        outputs = [helper.make_tensor_value_info("variable", TensorProto.FLOAT, [None, VALUES])]
        imports = [helper.make_opsetid("", 17)]
        if kind == "classifier":
            labels = list(range(VALUES))
            nodes += [
                helper.make_node("ArgMax", ["variable"], ["label"], axis=1, keepdims=0),
                helper.make_node(
                    "ZipMap", ["variable"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=labels
                ),
            ]
            maps = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
            zipped = helper.make_value_info("probabilities", helper.make_sequence_type_proto(maps))
            outputs = [helper.make_tensor_value_info("label", TensorProto.INT64, [None]), zipped]
            imports.append(helper.make_opsetid("ai.onnx.ml", 3))
        graph = helper.make_graph(nodes, "pipeline", [image], outputs, [weights])
        return helper.make_model(graph, opset_imports=imports, ir_version=8)

    return saved()(make)


def foreign(_folder):
    model = onnx_net()
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "TRTBatchedNMS", "mmdeploy"
    model.opset_import.append(helper.make_opsetid("mmdeploy", 1))
    return model


def branching(_folder):
    model = onnx_net()
    sides = [
        helper.make_graph(
            [helper.make_node("Identity", ["output"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, VALUES])],
        )
        for name in ("yes", "no")
    ]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "training"))
    model.graph.node.append(
        helper.make_node("If", ["training"], ["chosen"], then_branch=sides[0], else_branch=sides[1])
    )
    model.graph.output[0].name = "chosen"
    return model


def raw_pixels(image):
    import tensorflow as tf

    return tf.cast(image, tf.float32) / 127.5 - 1.0


def saved_model(folder):
    (folder / "encoder").mkdir()
    (folder / "encoder" / "saved_model.pb").write_bytes(b"")
    return folder / "encoder"


def tokens(_folder):
    import tensorflow as tf

    table = tf.constant(np.random.default_rng(0).normal(size=(50, VALUES)), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec((1, 128), tf.int32)])
    def embed(words):
        return tf.reduce_mean(tf.gather(table, words), 1)

    return tf.lite.TFLiteConverter.from_concrete_functions([embed.get_concrete_function()], embed).convert()


def half_lite(_folder):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, SIDE, SIDE, 3), tf.float16)])
    def net_(image):
        return tf.reduce_mean(tf.cast(image, tf.float32), (1, 2))

    return tf.lite.TFLiteConverter.from_concrete_functions([net_.get_concrete_function()], net_).convert()


def two_vectors(_folder):
    return with_signature(tflite_net(outputs=("embedding", "logits"), head="unit"), ("embedding", "logits"))


KINDS = {
    "Keras, TFLiteConverter.from_keras_model": (keras_net("plain"), {}),
    "Keras, a SavedModel with its signature": (keras_net("saved"), {}),
    "Keras, dynamic range": (lite(quantize="dynamic"), {}),
    "Keras, float16 weights": (lite(quantize="float16"), {}),
    "Keras, int8 inside, float in and out": (lite(quantize="int8"), {}),
    "Keras, int8 in and out": (lite(quantize="int8", io="int8", span=(0.0, 1.0)), {}),
    "Keras, int16 between int8 weights, float in and out": (lite(quantize="16x8"), {}),
    "Keras, Rescaling inside, uint8 in": (lite(dtype="uint8", inside=raw_pixels), {}),
    "Keras, free height and width": (lite(sides=(None, None, None, 3)), {}),
    "Keras, free height and width, with `--size 32`": (lite(sides=(None, None, None, 3)), FREE),
    "Keras, L2 normalisation inside": (lite(head="unit"), {}),
    "Keras, an embedding and logits": (saved("tflite")(two_vectors), {}),
    "Keras, an embedding and logits, with `--output embedding`": (saved("tflite")(two_vectors), NAMED),
    "Keras, grey": (lite(sides=(None, SIDE, SIDE, 1), seed=5), {}),
    "Keras, no pooling at the end": (lite(head="map"), {}),
    "Keras, a batch of 4": (lite(sides=(4, SIDE, SIDE, 3)), {}),
    "Keras, float16 in": (saved("tflite")(half_lite), {}),
    "Keras through tf2onnx, channels last": (saved()(tf2onnx_net), {}),
    "PyTorch, a named batch, channels first": (net(sides=("batch", 3, SIDE, SIDE), answer=("batch", VALUES)), {}),
    "PyTorch before 1.4, weights among the inputs": (net(listed=True, ir=3, opset=9), {}),
    "PyTorch, weights in a file beside it": (lambda folder: beside(folder, onnx_net()), {}),
    "PyTorch, half precision": (net(kind=HALF), {}),
    "PyTorch, uint8 in": (saved()(uint8_onnx), {}),
    "PyTorch, an answer of (n, c, 1, 1)": (net(head="pooled", answer=("n", 24, 1, 1)), {}),
    "PyTorch, no pooling at the end": (net(head="map", answer=("n", 24, 7, 7)), {}),
    "PyTorch, a batch of 8": (saved()(batch_of_eight), {}),
    "PyTorch, an embedding and a mask": (net(extra=("mask",)), {}),
    "PyTorch, an embedding and a mask, with `--output output`": (net(extra=("mask",)), NAMED),
    "PyTorch, four channels": (net(sides=(1, 4, SIDE, SIDE)), {}),
    "PyTorch, an If inside": (saved()(branching), {}),
    "PyTorch through litert-torch, channels first": (lite(first=True, sides=(1, 3, SIDE, SIDE)), {}),
    "PyTorch for TensorRT, an operator of its plugins": (saved()(foreign), {}),
    "PyTorch's own .pt": (saved("pt")(lambda _folder: b"PK\3\4"), {}),
    "PaddlePaddle, sides of -1": (net(sides=(-1, 3, -1, -1), answer=(-1, VALUES), opset=11), {}),
    "PaddlePaddle, sides of -1, with `--size 32`": (
        net(sides=(-1, 3, -1, -1), answer=(-1, VALUES), opset=11, listed=True),
        FREE,
    ),
    "PaddleDetection, im_shape and scale_factor beside the image": (saved()(detector), {}),
    "ONNX Runtime, dynamic quantization": (saved()(lambda folder: quantized(folder, onnx_net(), "dynamic")), {}),
    "ONNX Runtime, static quantization (QDQ)": (saved()(lambda folder: quantized(folder, onnx_net(), "static")), {}),
    "scikit-learn, a PCA of rows": (rows("pca"), {}),
    "scikit-learn, a classifier": (rows("classifier"), {}),
    "MediaPipe, NormalizationOptions of 0 and 255": (
        saved("tflite")(lambda _folder: with_metadata(tflite_net(), (0.0,), (255.0,))),
        {},
    ),
    "MediaPipe, a text embedder": (saved("tflite")(tokens), {}),
    "MediaPipe, a .task": (saved("task")(lambda _folder: b"PK\3\4"), {}),
    "Coral, an extractor: uint8, an answer of (1, 1, 1, n)": (
        lite(quantize="int8", io="uint8", span=(-1.0, 1.0), head="spread"),
        {},
    ),
    "Coral, an extractor, with `--mean 0 --scale 255`": (
        lite(quantize="int8", io="uint8", span=(-1.0, 1.0), head="spread"),
        {"mean": (0.0,), "scale": (255.0,)},
    ),
    "Coral, compiled for the Edge TPU": (
        saved("tflite", "a_edgetpu")(lambda _folder: custom(tflite_net(), b"edgetpu-custom-op")),
        {},
    ),
    "TensorFlow Select, an operator that LiteRT has not": (
        saved("tflite")(lambda _folder: custom(tflite_net(), b"FlexErf")),
        {},
    ),
    "TensorFlow, the folder of a SavedModel": (saved_model, {}),
    "any, a later opset than this machine's onnx": (net(opset=99), {}),
    "any, one value as an answer": (saved()(score), {}),
    "any, a pointer of Git LFS": (saved()(lambda _folder: b"version https://git-lfs.github.com/spec/v1\n"), {}),
}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Folders of smooth random patterns, one a person; of each four images, shifted and noisy."""
    folder, rng = tmp_path_factory.mktemp("people"), np.random.default_rng(2)
    for person in range(24):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((SIDE + 4, SIDE + 4), Image.Resampling.BICUBIC))
        (folder / f"person {person}").mkdir()
        for number in range(4):
            row, column = rng.integers(0, 5, 2)
            cut = smooth[row : row + SIDE, column : column + SIDE]
            image = np.clip(np.rint(cut + rng.normal(0, 4, cut.shape)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / f"person {person}" / f"{number}.png")
    return folder


def table() -> dict[str, str]:
    """The rows of docs/reference/export.md: what is given, and what becomes of it."""
    section = DOCS.read_text().split("### Kinds of files")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    cells = (re.split(r" \| ", line.strip("| ")) for line in lines)
    return dict(cells)


def test_the_table_has_a_row_for_each_kind_and_at_least_25():
    assert list(table()) == list(KINDS)
    assert len(KINDS) >= 25


def outcome(path, people, out, how) -> str:
    """What becomes of a file, as the table says it."""
    try:
        export_files([path], out, str(people), own=EncoderFileOptions(**how))
    except OneShotError as error:
        return f"refused, `{error.reason}`: {str(error).removeprefix(f'{path}: ')}"
    manifest = Bundle.open(out).manifest
    mean, scale = (f"{values[0]:.4g}" for values in (manifest.input.mean, manifest.input.scale))
    return f"a bundle: `{manifest.variants[0].name}`, mean {mean}, scale {scale}"


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_file_becomes_a_bundle_or_is_refused_for_what_is_the_matter(kind, people, tmp_path):
    make, how = KINDS[kind]
    out = tmp_path / "door.oneshot"
    assert outcome(make(tmp_path), people, out, how) == table()[kind]
    assert out.exists() == table()[kind].startswith("a bundle")


def test_an_encoder_that_tells_nobody_apart_is_not_written_but_anyway(people, tmp_path):
    # the people's images in folders that have nothing to do with whom they show
    images = sorted(people.rglob("*.png"))
    for number, image in enumerate(np.random.default_rng(0).permutation(images)):
        folder = tmp_path / "mixed" / str(number % 24)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(Path(image).read_bytes())
    for how in ({}, {"mean": (0.0,), "scale": (100.0,)}, {"metric": "euclidean"}):
        path, out = net()(tmp_path), tmp_path / "door.oneshot"
        with pytest.raises(
            ExportError,
            match=r"onnx-float32 does not tell these people apart: at a false accept rate of .* it rejects ",
        ) as caught:
            export_files([path], out, str(tmp_path / "mixed"), own=EncoderFileOptions(**how))
        assert (caught.value.reason, caught.value.exit_code) == ("useless", 1)
        assert not out.exists()
        export_files([path], out, str(tmp_path / "mixed"), own=EncoderFileOptions(anyway=True, **how))
        out.unlink()


def test_a_scaling_that_contradicts_the_file_is_refused_with_both_and_taken_anyway(people, tmp_path):
    out = tmp_path / "door.oneshot"
    kinds = {
        "the quantization of its input, scale 0.00784": lite(quantize="int8", io="uint8"),
        "its uint8 input without quantization": lite(dtype="uint8", inside=raw_pixels),
        "its metadata": KINDS["MediaPipe, NormalizationOptions of 0 and 255"][0],
    }
    for source, make in kinds.items():
        path = make(tmp_path)
        with pytest.raises(ModelError, match=r"mean 90 and scale 30 give the model -3 to 5.5, but by ") as caught:
            export_files([path], out, str(people), own=EncoderFileOptions(mean=(90.0,), scale=(30.0,)))
        assert source in str(caught.value)
        assert (caught.value.reason, caught.value.exit_code) == ("contradicted", 2)
        assert not out.exists()
    export_files([path], out, str(people), own=EncoderFileOptions(mean=(90.0,), scale=(30.0,), anyway=True))
    assert Bundle.open(out).manifest.input.mean == (90.0,) * 3


@pytest.mark.parametrize("scale", [1e4, 3e4, 1e5])
def test_an_encoder_that_answers_the_same_to_every_image_is_not_said_to_be_badly_trained(scale, people, tmp_path):
    own = EncoderFileOptions(mean=(0.0,), scale=(scale,))
    with raises(
        ModelError, match="answers nearly the same for every image, at mean 0 and scale ", reason="collapsed"
    ) as caught:
        export_files([saved()(biased)(tmp_path)], tmp_path / "x.oneshot", str(people), own=own)
    assert "train it anew" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ("--size 40x24 --output none output", (40, 24)),
        ("--output output --size 32", (32, 32)),
        ("--size 24 --output output --mean 0 --scale 255 --anyway", (24, 24)),
    ],
)
def test_the_options_of_the_program_say_what_the_file_leaves_open(options, shape, people, tmp_path):
    path = net(sides=(1, 3, "h", "w"), extra=("mask",))(tmp_path)
    out = tmp_path / "door.oneshot"
    words = f"--model {path} --data {people} --out {out} {options}".split()
    assert cli.main(["export", *words, "--json"]) == 0
    section = Bundle.open(out).manifest.input
    assert (section.height, section.width) == shape


@pytest.mark.parametrize("size", ["4", "2000", "40x", "x40", "40x24x3", "forty"])
def test_a_size_that_is_none_is_refused(size, tmp_path, capsys):
    words = f"--model a.onnx --data people --out {tmp_path / 'x.oneshot'} --size {size}".split()
    assert cli.main(["export", *words]) == 2
    assert "--size" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--size 32", "--output output", "--anyway"])
def test_what_is_for_files_goes_with_files(option, tmp_path, capsys):
    words = f"--pretrained tiny --out {tmp_path / 'x.oneshot'} {option}".split()
    assert cli.main(["export", *words]) == 2
    assert f"{option.split()[0]} goes with --model" in capsys.readouterr().err

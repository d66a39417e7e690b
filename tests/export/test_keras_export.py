import msgspec
import numpy as np
import pytest

import edge_oneshot_export
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.bundle.manifest import Licence, Provenance
from edge_oneshot_device.encoding.preprocessing import scale
from edge_oneshot_export import measurement
from edge_oneshot_export.errors import ExportError, ModelError
from edge_oneshot_export.formats.conversion import spread
from edge_oneshot_export.judging.protocols import LabelledImages
from edge_oneshot_export.keras_export import export
from edge_oneshot_export.options import ExportOptions
from edge_oneshot_export.packing.packer import BundleSpec
from edge_oneshot_export.variants import VARIANTS
from tests.raising import raises

INT8 = ExportOptions(variants=("int8",))
FLOAT32 = ExportOptions(variants=("float32",))

PROVENANCE = Provenance(
    data="made-up people", seed=3, images_seen=0, trained_on=(), held_out=(), versions={}, commit=None,
    licences=(Licence(what="weights", licence="Apache-2.0", source="random"),),
)  # fmt: skip


def test_every_public_name_can_be_imported_and_the_list_is_sorted():
    assert edge_oneshot_export.__all__ == sorted(edge_oneshot_export.__all__)
    for name in edge_oneshot_export.__all__:
        assert callable(getattr(edge_oneshot_export, name))
    assert edge_oneshot_export.export is export
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        _ = edge_oneshot_export.missing


@pytest.mark.parametrize(
    ("variant", "least"),
    [
        ("float32", 0.999999),
        ("float16", 0.9999),
        ("dynamic", 0.99),
        ("int8", 0.99),
        ("coral", 0.99),
        ("onnx-float32", 0.999999),
        ("onnx-float16", 0.9999),
        ("onnx-int8", 0.99),
        ("onnx-int7", 0.99),
    ],
)
def test_every_variant_opens_on_the_device_and_answers_as_the_keras_model_does(variant, least, exported, model, people):
    encoder = Encoder.open(Bundle.open(exported.path), variant)
    expected = np.asarray(model(scale(people.images[:40], encoder.input)))
    units = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    cosines = np.sum(encoder.embed_many(people.images[:40]) * units, axis=1)
    assert cosines.min() >= least


def test_the_report_names_the_bundle_and_repeats_its_manifest(exported):
    bundle = Bundle.open(exported.path)
    assert exported.manifest == bundle.manifest
    assert exported.left_out == ()
    assert exported.seconds > 0
    assert bundle.manifest.name == "front-door"
    assert (bundle.manifest.embedding.size, bundle.manifest.embedding.metric) == (32, "cosine")


def test_variants_stand_in_the_order_asked_for_with_their_files_and_figures(exported, people):
    manifest = exported.manifest
    assert tuple(variant.name for variant in manifest.variants) == tuple(VARIANTS)
    bundle = Bundle.open(exported.path)
    for variant in manifest.variants:
        assert variant.file == f"models/{variant.name}.{variant.format}"
        assert variant.bytes == len(bundle.read(variant.file))
        assert variant.drift.images == len(people.images)
        assert variant.ops
    by_name = {variant.name: variant for variant in manifest.variants}
    assert by_name["int8"].runtimes == ("litert", "tflite-runtime")
    assert by_name["onnx-int8"].runtimes == ("onnxruntime",)
    assert by_name["int8"].bytes < by_name["float32"].bytes / 2
    assert by_name["float32"].drift.cosine_min > 0.999999
    assert 0.99 < by_name["int8"].drift.cosine_mean < 0.99999
    assert by_name["float16"].bytes < by_name["float32"].bytes * 0.6
    assert by_name["dynamic"].bytes < by_name["float32"].bytes / 2
    assert by_name["onnx-float16"].bytes < by_name["onnx-float32"].bytes * 0.7
    assert len({variant.fingerprint for variant in manifest.variants}) == len(VARIANTS)
    # of the int8 file alone what each layer loses is known; one that only moves values about loses nothing
    assert [name for name, variant in by_name.items() if variant.drift.layers] == ["int8"]
    losses = {layer.op: layer.sqnr_db for layer in by_name["int8"].drift.layers}
    assert losses["RESHAPE"] == 100.0
    assert 15.0 < losses["FULLY_CONNECTED"] < 60.0


def test_every_variant_is_calibrated_for_one_three_and_five_templates(exported):
    keys = {(entry.variant, entry.rule, entry.templates) for entry in exported.manifest.calibration}
    assert keys == {(variant, rule, n) for variant in VARIANTS for rule in ("best", "mean") for n in (1, 3, 5)}
    assert exported.manifest.rule in ("best", "mean")
    assert {entry.data for entry in exported.manifest.calibration} == {"24 held-out identities of data not stated"}
    assert {entry.people for entry in exported.manifest.calibration} == {24}


def test_exporting_twice_gives_the_same_bundle_and_steps_are_told(
    model, images, people, section, tmp_path, monkeypatch
):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    steps = []
    for name in ("a", "b"):
        spec = BundleSpec(section, name="Door 1", provenance=PROVENANCE)
        options = ExportOptions(variants=("onnx-int8",))
        export(
            model, tmp_path / f"{name}.oneshot", spec, images=images, calibration=people, options=options,
            progress=steps.append,
        )  # fmt: skip
    assert (tmp_path / "a.oneshot").read_bytes() == (tmp_path / "b.oneshot").read_bytes()
    stages = [f"onnx-int8: {stage}" for stage in ("converting", "measuring drift", "calibrating")]
    assert steps == ["checking the model", *stages, "packing"] * 2
    manifest = Bundle.open(tmp_path / "a.oneshot").manifest
    assert (manifest.name, manifest.created) == ("door-1", "2023-11-14T22:13:20Z")
    assert (manifest.provenance.data, manifest.provenance.licences) == ("made-up people", PROVENANCE.licences)
    assert manifest.provenance.versions["keras"]


def test_an_export_keeps_the_terminal_clean(model, images, people, section, destination, capfd):
    export(model, destination, BundleSpec(section), images=images, calibration=people, options=INT8)
    assert capfd.readouterr() == ("", "")


def test_a_colour_model_with_a_euclidean_metric_is_exported_over_an_older_file(
    make_people, colour_section, destination
):
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    image = keras.Input((32, 32, 3))
    hidden = layers.Conv2D(8, 5, strides=4, activation="relu")(image)
    model = keras.Model(image, layers.Dense(16)(layers.Flatten()(hidden)))
    destination.write_bytes(b"the old bundle")
    people = make_people(8, 4, seed=9, channels=3)
    spec = BundleSpec(colour_section, metric="euclidean")
    report = export(model, destination, spec, images=people.images, calibration=people)
    assert [variant.name for variant in report.manifest.variants] == ["int8", "float32"]
    bundle = Bundle.open(destination)
    encoder = Encoder.open(bundle, "float32")
    expected = np.asarray(model(scale(people.images[:5], colour_section)))
    np.testing.assert_allclose(encoder.embed_many(people.images[:5]), expected, atol=1e-4 * np.abs(expected).max())
    assert {entry.templates for entry in bundle.manifest.calibration} == {1, 3}


def test_a_variant_beyond_its_bound_is_left_out_and_named(make_encoder, images, people, section, destination):
    report = export(make_encoder(outlier=True), destination, BundleSpec(section), images=images, calibration=people)
    assert [entry.variant for entry in report.left_out] == ["int8"]
    assert report.left_out[0].reason.startswith("int8: the mean cosine to the float model is ")
    # the first layer's channels are drowned by one that is a thousand times larger
    assert "; the layer that loses most is CONV_2D conv2d" in report.left_out[0].reason
    assert [variant.name for variant in report.manifest.variants] == ["float32"]
    assert Encoder.open(Bundle.open(destination), "float32").variant == "float32"


def test_a_variant_asked_for_by_name_beyond_its_bound_is_exit_1_and_nothing_is_written(
    make_encoder, images, people, section, destination
):
    with pytest.raises(
        ExportError, match=r"^int8: the mean cosine .* below 0\.98; the layer .*; nothing was written$"
    ) as caught:
        export(
            make_encoder(outlier=True),
            destination,
            BundleSpec(section),
            images=images,
            calibration=people,
            options=INT8,
        )
    assert (caught.value.exit_code, caught.value.reason) == (1, "drifted")
    assert list(destination.parent.iterdir()) == []


def test_when_no_variant_passes_each_is_named_and_the_old_bundle_stays(
    make_encoder, images, people, section, destination, monkeypatch
):
    destination.write_bytes(b"the old bundle")
    monkeypatch.setattr(measurement, "gate", lambda _kind, _drift: "too far")
    message = r"no variant can be exported.*int8: SQUARE stayed in floating.*; float32: too far"
    with pytest.raises(ExportError, match=message) as caught:
        export(make_encoder(normalised=True), destination, BundleSpec(section), images=images, calibration=people)
    assert (caught.value.exit_code, caught.value.reason) == (1, "no_variant")
    assert destination.read_bytes() == b"the old bundle"


def test_a_collapsed_encoder_is_refused_before_anything_is_converted(images, people, section, destination):
    import keras
    from keras import layers

    image = keras.Input((32, 32, 1))
    dense = layers.Dense(16, bias_initializer="ones", kernel_initializer=keras.initializers.RandomNormal(stddev=1e-5))
    model = keras.Model(image, dense(layers.Flatten()(image)))
    steps = []
    with pytest.raises(ModelError, match="collapsed") as caught:
        export(model, destination, BundleSpec(section), images=images, calibration=people, progress=steps.append)
    assert (caught.value.exit_code, caught.value.reason) == (2, "collapsed")
    assert steps == ["checking the model"]
    assert not destination.exists()


def test_an_encoder_that_answers_nan_is_refused(images, people, section, destination):
    import keras
    from keras import layers

    image = keras.Input((32, 32, 1))
    dense = layers.Dense(16, bias_initializer=keras.initializers.Constant(float("nan")))
    with raises(ModelError, match="NaN", reason="not_finite"):
        export(
            keras.Model(image, dense(layers.Flatten()(image))),
            destination, BundleSpec(section), images=images, calibration=people,
        )  # fmt: skip


def flattened(shape, size=16, dtype="float32", batch=None, outputs=1):
    import keras
    from keras import layers

    image = keras.Input(shape, batch_size=batch, dtype=dtype)
    flat = layers.Flatten()(image)
    answers = [layers.Dense(size, dtype=dtype)(flat) for _ in range(outputs)]
    return keras.Model(image, answers if outputs > 1 else answers[0])


def two_images():
    import keras
    from keras import layers

    ends = [keras.Input((32, 32, 1)), keras.Input((32, 32, 1))]
    return keras.Model(ends, layers.Dense(16)(layers.Flatten()(layers.Add()(ends))))


def any_size():
    import keras
    from keras import layers

    image = keras.Input((None, None, 1))
    return keras.Model(image, layers.GlobalAveragePooling2D()(layers.Conv2D(16, 3)(image)))


def a_map():
    import keras
    from keras import layers

    image = keras.Input((32, 32, 1))
    return keras.Model(image, layers.Conv2D(4, 3)(image))


def subclassed(size):
    import keras

    class Encoder(keras.Model):
        def __init__(self):
            super().__init__()
            self.flatten, self.dense = keras.layers.Flatten(), keras.layers.Dense(size)

        def call(self, image):
            return self.dense(self.flatten(image))

    return Encoder()


@pytest.mark.parametrize(
    ("build", "message", "reason"),
    [
        (lambda: "model", "expected a keras.Model, got str", "not_a_model"),
        (two_images, "2 inputs, expected one image", "bad_input"),
        (lambda: flattened((32, 32)), "expected (batch, h, w, c)", "bad_input"),
        (any_size, "has a free size", "bad_input"),
        (lambda: flattened((32, 32, 2)), "2 channels, expected 1 (grey) or 3 (rgb)", "bad_input"),
        (lambda: flattened((32, 32, 3)), "takes (32, 32, 3), but the input section says (32, 32, 1)", "bad_input"),
        (lambda: flattened((28, 28, 1)), "takes (28, 28, 1), but the input section says (32, 32, 1)", "bad_input"),
        (lambda: flattened((32, 32, 1), batch=4), "batch size is 4, expected a free one or 1", "bad_input"),
        (lambda: flattened((32, 32, 1), outputs=2), "2 outputs, expected one", "bad_output"),
        (a_map, "expected (1, size): one vector", "bad_output"),
        (lambda: flattened((32, 32, 1), size=1), "has 1 values, expected 2 to 4096", "bad_output"),
        (lambda: flattened((32, 32, 1), size=4097), "has 4097 values", "bad_output"),
    ],
)
def test_a_model_that_is_no_encoder_of_such_images_is_refused_with_what_is_wrong(
    build, message, reason, images, people, section, destination
):
    with pytest.raises(ModelError) as caught:
        export(build(), destination, BundleSpec(section), images=images, calibration=people)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (caught.value.reason, caught.value.exit_code) == (reason, 2)
    assert not destination.exists()


@pytest.mark.parametrize("build", [lambda: flattened((32, 32, 1), batch=1), lambda: subclassed(16)])
def test_models_with_a_batch_of_one_and_subclassed_models_are_exported(build, images, people, section, destination):
    report = export(build(), destination, BundleSpec(section), images=images, calibration=people, options=FLOAT32)
    assert report.manifest.embedding.size == 16


@pytest.mark.parametrize(
    ("path", "message", "reason"),
    [
        ("door.zip", "does not end in .oneshot", "bad_name"),
        ("door", "does not end in .oneshot", "bad_name"),
        ("missing/door.oneshot", "missing does not exist: make it first", "no_folder"),
        ("folder.oneshot", "is a folder: name a file", "bad_name"),
        ("....oneshot", "holds no letter or digit", "bad_name"),
    ],
)
def test_a_path_that_cannot_hold_a_bundle_is_refused_at_once(path, message, reason, images, people, section, tmp_path):
    (tmp_path / "folder.oneshot").mkdir()
    with pytest.raises(ModelError) as caught:
        export(None, tmp_path / path, BundleSpec(section), images=images, calibration=people)
    assert message in str(caught.value)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (("int8", "float64"), "no variant 'float64'; the variants are int8, float32, float16, dynamic, coral, onnx-"),
        (("int8", "int8"), "the variant int8 is named twice"),
        ((), "no variant is named"),
    ],
)
def test_variants_that_do_not_exist_are_refused_and_the_known_ones_listed(
    variants, message, images, people, section, destination
):
    options = ExportOptions(variants=variants)
    with pytest.raises(ModelError) as caught:
        export(None, destination, BundleSpec(section), images=images, calibration=people, options=options)
    assert message in str(caught.value)
    assert caught.value.reason == "bad_variant"


def test_images_of_another_shape_or_type_or_none_at_all_are_refused(images, people, section, destination):
    one = LabelledImages(people.images[:1], people.labels[:1], people.names)
    wrong = [
        (images[:, :28], people, r"images are uint8 \(240, 28, 32, 1\), expected uint8"),
        (scale(images, section), people, "images are float32"),
        (images[:0], people, "images: 0 given"),
        (images, one, r"calibration\.images: 1 given, at least 2 needed"),
    ]
    for pixels, labelled, message in wrong:
        with raises(ModelError, match=message, reason="bad_images"):
            export(None, destination, BundleSpec(section), images=pixels, calibration=labelled)


def test_too_few_people_to_calibrate_write_nothing(model, images, people, section, destination):
    few = LabelledImages(people.images[:12], people.labels[:12], people.names[:2])
    with pytest.raises(ModelError) as caught:
        export(model, destination, BundleSpec(section), images=images, calibration=few, options=FLOAT32)
    assert caught.value.exit_code == 2
    assert not destination.exists()


def test_a_target_that_the_people_do_not_support_is_refused_before_anything_is_converted(
    model, images, people, section, destination
):
    steps = []
    with raises(ModelError, match="needs at least 246 identities", reason="unsupported_target"):
        export(
            model, destination, BundleSpec(section), images=images, calibration=people,
            options=ExportOptions(target_far=1e-4), progress=steps.append,
        )  # fmt: skip
    assert not [step for step in steps if "converting" in step]
    assert not destination.exists()


def test_images_beyond_the_limit_are_thinned_evenly():
    images = np.arange(1000, dtype=np.uint8).reshape(1000, 1, 1, 1)
    assert spread(images, 1000) is images
    thinned = spread(np.arange(1001).reshape(-1, 1, 1, 1), 11)
    assert thinned.ravel().tolist() == list(range(0, 1001, 100))


def test_the_report_and_what_was_left_out_cannot_be_changed(exported):
    with pytest.raises(AttributeError):
        exported.seconds = 0
    with pytest.raises(AttributeError):
        exported.manifest.name = "other"
    assert msgspec.structs.asdict(exported.manifest)["name"] == "front-door"

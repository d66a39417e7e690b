"""The encoder: one path from image to embedding, and the refusal of a model that answers otherwise."""

import hashlib
import json

import msgspec
import numpy as np
import pytest
from PIL import Image

from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.bundle.manifest import MANIFEST_NAME, EmbeddingSection, InputSection, TensorSpec
from edge_oneshot_device.encoding.fake import FakeModel
from edge_oneshot_device.encoding.preprocessing import load_image, scale
from edge_oneshot_device.encoding.quantization import dequantize, quantize
from edge_oneshot_device.encoding.runtimes import open_model
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from tests.raising import raises
from tests.samples.pictures import encoded, members, png
from tests.samples.tiny import zip_stored

VARIANTS = ("int8", "float32", "onnx-float32")


@pytest.fixture
def bundle(make_bundle) -> Bundle:
    return Bundle.open(make_bundle())


@pytest.fixture(params=VARIANTS)
def encoder(request, bundle) -> Encoder:
    if "onnx" in {one.format for one in bundle.manifest.variants if one.name == request.param}:
        pytest.importorskip("onnxruntime")
    return Encoder.open(bundle, request.param)


def random_pixels(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(11).integers(0, 256, (count, *shape), dtype=np.uint8)


def fake_encoder(
    section: InputSection,
    *,
    dtype: str = "int8",
    metric: str = "cosine",
    given: TensorSpec | None = None,
    output: TensorSpec | None = None,
) -> Encoder:
    size = 16
    quantized = {"scale": 0.011, "zero_point": 5} if dtype != "float32" else {}
    model = FakeModel(
        given or TensorSpec(dtype=dtype, shape=(1, *section.shape), **quantized),
        output or TensorSpec(dtype=dtype, shape=(1, size), **quantized),
    )
    return Encoder(model, section, EmbeddingSection(size=size, metric=metric), variant="fake", fingerprint="0" * 64)


def naive(encoder: Encoder, pixels: np.ndarray) -> np.ndarray:
    """The embedding as the manifest defines it, step by step."""
    run = encoder._run.__self__
    raw = run.run(quantize(scale(pixels, encoder.input), run.input)[np.newaxis])
    vector = dequantize(raw, run.output)[0]
    return vector / np.linalg.norm(vector) if encoder.embedding.metric == "cosine" else vector


def test_an_embedding_is_what_the_manifest_defines(encoder):
    for pixels in random_pixels(50, 8, 8, 1):
        embedding = encoder.embed(pixels)
        assert (embedding.dtype, embedding.shape) == (np.float32, (16,))
        assert np.allclose(embedding, naive(encoder, pixels), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32"])
@pytest.mark.parametrize(
    ("mean", "divisor"),
    [
        ((0.0,) * 3, (255.0,) * 3),
        ((255.0,) * 3, (-255.0,) * 3),
        ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4)),
        ((255.0,) * 3, (-99.0,) * 3),
    ],
)
def test_the_models_input_is_bit_for_bit_the_quantized_scaled_pixels(section, dtype, mean, divisor):
    colour = msgspec.structs.replace(section, colour="rgb", mean=mean, scale=divisor)
    encoder = fake_encoder(colour, dtype=dtype)
    model = encoder._run.__self__
    seen = []
    encoder._run = lambda values: (seen.append(values.copy()), model.run(values))[1]
    ramp = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1).repeat(3, axis=3)
    for pixels in [*ramp, *random_pixels(5, 8, 8, 3), random_pixels(1, 8, 3, 8)[0].swapaxes(1, 2)]:
        encoder.raw(pixels)
        expected = quantize(scale(pixels, colour), model.input)[np.newaxis]
        assert seen[-1].dtype == np.dtype(dtype)
        assert np.array_equal(seen[-1], expected)


@pytest.mark.parametrize(("dtype", "zero_point"), [("int8", -128), ("uint8", 0)])
@pytest.mark.parametrize(("mean", "divisor"), [(0.0, 255.0), (255.0, -255.0)])
@pytest.mark.parametrize("levels", [255, 254])
def test_an_input_that_is_the_pixel_but_for_some_bits_is_the_same_as_looked_up(
    section, dtype, zero_point, mean, divisor, levels
):
    colour = msgspec.structs.replace(section, colour="rgb", mean=(mean,) * 3, scale=(divisor,) * 3)
    tensor = TensorSpec(dtype=dtype, shape=(1, *colour.shape), scale=1 / levels, zero_point=zero_point)
    encoder = fake_encoder(colour, given=tensor)
    assert (encoder._flip is None) == (levels == 254)
    ramp = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1).repeat(3, axis=3)
    for pixels in [*ramp, random_pixels(1, 8, 3, 8)[0].swapaxes(1, 2)]:
        encoder.raw(pixels)
        assert np.array_equal(encoder._values[0], quantize(scale(pixels, colour), tensor))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32"])
def test_the_raw_output_stands_for_the_embedding_bit_for_bit(section, dtype):
    encoder = fake_encoder(section, dtype=dtype, metric="euclidean")
    for pixels in random_pixels(20, 8, 8, 1):
        raw = encoder.raw(pixels)
        assert (raw.dtype, raw.shape) == (np.dtype(dtype), (16,))
        assert np.array_equal(encoder.embed(pixels), dequantize(raw, encoder._run.__self__.output))


def test_a_cosine_embedding_has_length_one_and_a_euclidean_one_its_own(make_bundle):
    pixels = random_pixels(1, 8, 8, 1)[0]
    cosine = Encoder.open(Bundle.open(make_bundle()), "float32")
    euclidean = Encoder.open(Bundle.open(make_bundle(name="other", metric="euclidean")), "float32")
    assert np.linalg.norm(cosine.embed(pixels)) == pytest.approx(1.0, abs=1e-6)
    length = np.linalg.norm(euclidean.embed(pixels))
    assert length > 10.0
    assert np.allclose(euclidean.embed(pixels) / length, cosine.embed(pixels), atol=1e-6)


def test_an_output_of_zero_stays_zero(section):
    centred = msgspec.structs.replace(section, mean=(0.0,), scale=(255.0,))
    embedding = fake_encoder(centred, dtype="float32").embed(np.zeros((8, 8, 1), dtype=np.uint8))
    assert embedding.tolist() == [0.0] * 16


def test_an_output_that_is_no_number_is_never_an_embedding(section):
    for metric in ("cosine", "euclidean"):
        encoder = fake_encoder(section, dtype="float32", metric=metric)
        for value in (np.nan, np.inf):
            encoder._run = lambda _, value=value: np.full((1, 16), value, dtype=np.float32)
            with raises(MachineError, match="NaN or infinity", reason="runtime_failed"):
                encoder.embed(np.zeros((8, 8, 1), dtype=np.uint8))


def test_an_embedding_is_the_callers_own(encoder):
    first, second = random_pixels(2, 8, 8, 1)
    kept = encoder.embed(first)
    copy = kept.copy()
    encoder.embed(second)
    assert np.array_equal(kept, copy)
    kept[:] = 0
    assert np.array_equal(encoder.embed(first), copy)


def test_many_images_give_the_embeddings_of_each_and_report_progress(encoder):
    images = random_pixels(7, 8, 8, 1)
    done = []
    embeddings = encoder.embed_many(images, done.append)
    assert (embeddings.dtype, embeddings.shape) == (np.float32, (7, 16))
    assert np.array_equal(embeddings, np.stack([encoder.embed(pixels) for pixels in images]))
    assert done == [1, 2, 3, 4, 5, 6, 7]
    assert encoder.embed_many(images[:0]).shape == (0, 16)


def test_an_image_file_gives_the_embedding_of_its_pixels(encoder, people, tmp_path):
    path = tmp_path / "ada.png"
    path.write_bytes(people["ada"][0])
    expected = encoder.embed(load_image(path, encoder.input))
    for source in (path, str(path), people["ada"][0]):
        assert np.array_equal(encoder.embed_image(source), expected)


def test_the_people_of_the_fixtures_are_as_unlike_as_their_thresholds_assume(encoder, people):
    embeddings = np.stack([encoder.embed_image(image) for images in people.values() for image in images])
    owners = np.repeat(np.arange(len(people)), 7)
    scores, same = embeddings @ embeddings.T, owners[:, np.newaxis] == owners
    assert scores[same].min() > 0.97
    assert scores[~same].max() < 0.2


def test_an_image_without_content_is_refused_by_its_name(encoder, tmp_path):
    path = tmp_path / "blank.png"
    path.write_bytes(png(np.full((20, 20), 90, dtype=np.uint8)))
    with raises(InputError, match=r"blank\.png shows nothing", reason="no_content"):
        encoder.embed_image(path)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((8, 8), np.uint8), ((9, 8, 1), np.uint8), ((8, 8, 1), np.float32), ((0,), np.uint8)]
)
def test_pixels_of_another_shape_or_type_are_wrong_use(encoder, shape, dtype):
    with raises(InputError, match=r"expected uint8 \(8, 8, 1\)", reason="wrong_shape"):
        encoder.embed(np.zeros(shape, dtype))


@pytest.mark.parametrize("variants", [("int8", "float32"), ("float32", "int8")])
def test_an_encoder_is_the_bundle_s_first_variant_unless_another_is_named(make_bundle, variants):
    opened = Bundle.open(make_bundle(variants=variants))
    assert Encoder.open(opened).variant == variants[0]
    assert Encoder.open(opened, variants[1]).variant == variants[1]


def test_an_encoder_says_what_it_is(bundle):
    encoder = Encoder.open(bundle)
    assert (encoder.variant, encoder.runtime) == ("int8", "litert")
    assert encoder.fingerprint == bundle.manifest.variants[0].fingerprint
    assert (encoder.input, encoder.embedding) == (bundle.manifest.input, bundle.manifest.embedding)


def test_a_variant_that_the_bundle_lacks_is_wrong_use(bundle):
    with raises(InputError, match="no variant 'coral'; it has int8, float32, onnx-float32", reason="variant_missing"):
        Encoder.open(bundle, "coral")


def test_a_runtime_of_another_format_is_wrong_use(bundle):
    with raises(InputError, reason="wrong_runtime"):
        Encoder.open(bundle, "onnx-float32", runtime="litert")


@pytest.mark.parametrize(
    ("tensor", "key", "value"),
    [("input", "scale", 0.5), ("input", "zero_point", 1), ("output", "scale", 0.5), ("input", "dtype", "uint8")],
)
def test_a_manifest_that_misdescribes_the_model_is_refused(make_bundle, tensor, key, value):
    def lie(manifest: dict) -> None:
        manifest["variants"][0][tensor] |= {key: value, "zero_point": 1}

    with raises(IntegrityError, match=f"variant int8: the model's {tensor} is ", reason="model_mismatch"):
        Encoder.open(Bundle.open(make_bundle(change=lie)))


def test_a_model_of_another_size_is_refused(section):
    model = FakeModel(TensorSpec(dtype="float32", shape=(1, 8, 8, 1)), TensorSpec(dtype="float32", shape=(1, 16)))
    wider = msgspec.structs.replace(section, width=9)
    for input_section, size in ((wider, 16), (section, 15)):
        embedding = EmbeddingSection(size=size, metric="cosine")
        with raises(IntegrityError, match="expected", reason="model_mismatch"):
            Encoder(model, input_section, embedding, variant="fake", fingerprint="0" * 64)


def test_a_model_exchanged_for_another_that_fits_is_caught_by_the_self_test(bundle, monkeypatch):
    """The last line of defence: the same tensors, other weights."""

    def other_weights(*_: object, **__: object) -> FakeModel:
        model = open_model("tflite", bundle.read("models/tiny-int8.tflite"))
        return FakeModel(model.input, model.output)

    monkeypatch.setattr("edge_oneshot_device.encoder.open_model", other_weights)
    with raises(IntegrityError, match="self-test of variant int8 on fake fails", reason="self_test_failed"):
        Encoder.open(bundle)


@pytest.mark.parametrize(
    ("variant", "off", "message"),
    [("int8", 3, "3 LSB off, the tolerance is 2 LSB"), ("float32", 0.5, r"0\.5 off, the tolerance is 0\.001")],
)
def test_a_self_test_beyond_the_tolerance_says_by_how_much(make_bundle, variant, off, message):
    def shift(by: float):
        def edit(manifest: dict) -> None:
            manifest["self_test"]["outputs"][variant][1][7] += by

        return edit

    with raises(
        IntegrityError, match=rf"variant {variant} on litert.*golden/alan\.png is {message}", reason="self_test_failed"
    ):
        Encoder.open(Bundle.open(make_bundle(change=shift(off))), variant)
    within = 2 if variant == "int8" else 0.0005
    Encoder.open(Bundle.open(make_bundle(change=shift(within))), variant)


def test_a_golden_image_that_is_no_image_fails_the_self_test(make_bundle):
    def use_the_model(manifest: dict) -> None:
        manifest["self_test"]["images"][0] = "models/tiny-int8.tflite"

    with raises(IntegrityError, match=r"tiny-int8\.tflite cannot be used", reason="self_test_failed"):
        Encoder.open(Bundle.open(make_bundle(change=use_the_model)))


def test_a_golden_image_of_49_megapixels_is_not_decoded(make_bundle):
    files = members(make_bundle())
    files["golden/ada.png"] = content = encoded(Image.new("L", (16_384, 3_000)))
    manifest = json.loads(files[MANIFEST_NAME])
    member = next(one for one in manifest["members"] if one["path"] == "golden/ada.png")
    member.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    files[MANIFEST_NAME] = json.dumps(manifest).encode()
    with raises(
        IntegrityError, match=r"ada\.png cannot be used.*16384 x 3000.* 8,388,608 in all", reason="self_test_failed"
    ):
        Encoder.open(Bundle.open(zip_stored(files)))

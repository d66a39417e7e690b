import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.fake import FakeModel
from edge_oneshot_device.manifest import Drift, EmbeddingSection, TensorSpec
from edge_oneshot_export.drift import check_alive, gate, measure_drift, nearest
from edge_oneshot_export.errors import ModelError

SIZE = 8
PERFECT = Drift(images=10, cosine_mean=1.0, cosine_p01=1.0, cosine_min=1.0, neighbour_changed=0.0)


def fake_encoder(section, metric):
    model = FakeModel(
        TensorSpec(dtype="float32", shape=(1, *section.shape)), TensorSpec(dtype="float32", shape=(1, SIZE))
    )
    return Encoder(model, section, EmbeddingSection(size=SIZE, metric=metric), variant="float32", fingerprint="0" * 64)


def turned(rows, degrees):
    """Rows turned by an angle, each towards some direction at a right angle to it."""
    other = np.roll(rows, 1, axis=1) * np.tile([1, -1], SIZE // 2)
    other -= rows * np.sum(other * rows, axis=1, keepdims=True) / np.sum(rows * rows, axis=1, keepdims=True)
    other *= np.linalg.norm(rows, axis=1, keepdims=True) / np.linalg.norm(other, axis=1, keepdims=True)
    return rows * np.cos(np.radians(degrees)) + other * np.sin(np.radians(degrees))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_an_encoder_that_agrees_with_its_reference_has_no_drift(metric, section, people):
    encoder = fake_encoder(section, metric)
    drift = measure_drift(encoder, encoder.embed_many(people.images), people.images)
    figures = (drift.cosine_mean, drift.cosine_p01, drift.cosine_min)
    assert figures == pytest.approx((1.0, 1.0, 1.0), abs=1e-12)
    assert (drift.images, drift.neighbour_changed) == (len(people.images), 0.0)


def test_drift_of_embeddings_turned_by_ten_degrees_is_the_cosine_of_ten_degrees(section, people):
    encoder = fake_encoder(section, "cosine")
    reference = 5 * turned(encoder.embed_many(people.images), 10)
    drift = measure_drift(encoder, reference, people.images)
    expected = np.cos(np.radians(10))
    assert (drift.cosine_mean, drift.cosine_p01, drift.cosine_min) == pytest.approx((expected,) * 3, abs=1e-6)
    assert drift.neighbour_changed > 0.0


def test_mean_first_percentile_and_minimum_come_from_single_images(section, people):
    encoder = fake_encoder(section, "cosine")
    reference = encoder.embed_many(people.images[:101])
    reference[7] = turned(reference[7:8], 60)[0]
    reference[8] = turned(reference[8:9], 45)[0]
    drift = measure_drift(encoder, reference, people.images[:101])
    assert drift.cosine_min == pytest.approx(0.5, abs=1e-6)
    assert drift.cosine_p01 == pytest.approx(np.sqrt(0.5), abs=1e-6)
    assert drift.cosine_mean == pytest.approx((99 + 0.5 + np.sqrt(0.5)) / 101, abs=1e-6)


def test_a_common_offset_does_not_hide_the_drift_of_euclidean_embeddings(section, people):
    encoder = fake_encoder(section, "euclidean")
    answered = encoder.embed_many(people.images)
    centred = answered - answered.mean(axis=0)
    encoder.embed_many = lambda _images: turned(centred, 60) + 1000.0
    drift = measure_drift(encoder, centred + 1000.0, people.images)
    assert drift.cosine_mean == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("variant", "figure", "bound"),
    [
        ("float32", "cosine_min", 0.9999),
        ("onnx-float32", "cosine_min", 0.9999),
        ("int8", "cosine_mean", 0.99),
        ("int8", "cosine_p01", 0.97),
        ("onnx-int8", "cosine_mean", 0.99),
        ("onnx-int8", "cosine_p01", 0.97),
    ],
)
def test_the_gate_passes_at_its_bound_and_names_the_figure_below_it(variant, figure, bound):
    assert gate(variant, msgspec.structs.replace(PERFECT, **{figure: bound})) is None
    named = {"cosine_min": "minimum", "cosine_mean": "mean", "cosine_p01": "1st percentile"}[figure]
    reason = gate(variant, msgspec.structs.replace(PERFECT, **{figure: bound - 1e-3}))
    assert reason == f"the {named} cosine to the Keras model is {bound - 1e-3:.4f} on 10 images, below {bound}"
    assert gate(variant, msgspec.structs.replace(PERFECT, **{figure: float("nan")})) is not None


def test_a_low_minimum_alone_does_not_stop_an_int8_variant():
    assert gate("int8", msgspec.structs.replace(PERFECT, cosine_min=0.5)) is None


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_random_embeddings_are_alive(metric):
    check_alive(np.random.default_rng(0).standard_normal((50, SIZE)).astype(np.float32), metric)


def test_embeddings_that_share_a_direction_have_collapsed_for_cosine_but_not_for_euclidean():
    rows = np.random.default_rng(0).standard_normal((50, SIZE)).astype(np.float32) + 30
    with pytest.raises(ModelError, match=r"collapsed: the mean cosine between different images is 0\.99") as caught:
        check_alive(rows, "cosine")
    assert (caught.value.reason, caught.value.exit_code) == ("collapsed", 2)
    check_alive(rows, "euclidean")


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_same_embedding_for_every_image_has_collapsed(metric):
    with pytest.raises(ModelError, match="collapsed"):
        check_alive(np.full((5, SIZE), 0.3, dtype=np.float32), metric)


def test_mean_cosine_of_the_collapse_check_leaves_out_each_image_with_itself():
    rows = np.array([[1, 0], [np.cos(0.2), np.sin(0.2)]], dtype=np.float32)
    with pytest.raises(ModelError, match=r"0\.9801"):
        check_alive(rows, "cosine")


def test_an_embedding_of_zeros_is_refused_for_cosine():
    rows = np.eye(3, dtype=np.float32)
    rows[1] = 0
    with pytest.raises(ModelError, match="all zeros") as caught:
        check_alive(rows, "cosine")
    assert caught.value.reason == "zero_embedding"


@given(
    rows=arrays.arrays(np.float32, (6, 3), elements=st.integers(-9, 9), unique=False),
    metric=st.sampled_from(["cosine", "euclidean"]),
)
def test_nearest_is_as_near_as_the_nearest_of_a_plain_loop(rows, metric):
    def likeness(a, b):
        if metric == "euclidean":
            return -float(np.sum((a - b) ** 2))
        lengths = np.linalg.norm(a) * np.linalg.norm(b)
        return float(a @ b) / lengths if lengths else 0.0

    rows = rows.astype(np.float64)
    for row, found in enumerate(nearest(rows, metric)):
        best = max(likeness(rows[row], rows[other]) for other in range(6) if other != row)
        assert found != row
        assert likeness(rows[row], rows[found]) == pytest.approx(best, abs=1e-9)

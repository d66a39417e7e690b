import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge_oneshot_device.bundle.drift_section import Change, Drift, LayerError
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.judging.drift import MAX_LOSS, FloatReference, check_alive, gate, measure_drift, nearest, unit
from edge_oneshot_export.variants import VARIANTS
from tests.raising import raises

SIZE = 8
SAME = Change(reference=0.9, variant=0.9, difference=0.0, interval=(-0.01, 0.01))
PERFECT = Drift(
    images=10, people=5, cosine_mean=1.0, cosine_p01=1.0, cosine_min=1.0, neighbour_changed=0.0, eer=SAME,
    tpr_at_fpr={"1e-2": SAME}, one_shot=SAME, ways=5,
)  # fmt: skip


def embeddings(people, images, seed, noise=0.5):
    """float32 (people * images, SIZE) of length 1, and the person of each."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((people, 1, SIZE)) + noise * rng.standard_normal((people, images, SIZE))
    return unit(rows.reshape(-1, SIZE)).astype(np.float32), np.repeat(np.arange(people), images)


def turned(rows, degrees):
    """Rows turned by an angle, each towards some direction at a right angle to it."""
    other = np.roll(rows, 1, axis=1) * np.tile([1, -1], SIZE // 2)
    other -= rows * np.sum(other * rows, axis=1, keepdims=True) / np.sum(rows * rows, axis=1, keepdims=True)
    other *= np.linalg.norm(rows, axis=1, keepdims=True) / np.linalg.norm(other, axis=1, keepdims=True)
    return (rows * np.cos(np.radians(degrees)) + other * np.sin(np.radians(degrees))).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_variant_that_agrees_with_its_reference_has_no_drift(metric):
    rows, people = embeddings(30, 6, seed=0)
    drift = measure_drift(rows, FloatReference.of(rows, people, metric))
    assert (drift.cosine_mean, drift.cosine_p01, drift.cosine_min) == pytest.approx((1.0, 1.0, 1.0), abs=1e-6)
    assert (drift.images, drift.people, drift.ways, drift.neighbour_changed) == (180, 30, 20, 0.0)
    for change in (drift.eer, drift.tpr_at_fpr["1e-2"], drift.one_shot):
        assert change.difference == 0.0
        assert 0.0 < change.reference == change.variant < 1.0
        # nothing changed in 180 images: not so sure that nothing ever does
        assert change.interval == pytest.approx((-2.045 / 180, 2.045 / 180), rel=1e-3)


def test_rates_that_so_few_people_do_not_support_are_left_out():
    assert set(measure_drift(*(rows_and := with_reference(24))).tpr_at_fpr) == set()
    assert len(rows_and[0]) == 24 * 4
    assert set(measure_drift(*with_reference(30)).tpr_at_fpr) == {"1e-2"}
    assert set(measure_drift(*with_reference(80)).tpr_at_fpr) == {"1e-2", "1e-3"}


def with_reference(people):
    rows, labels = embeddings(people, 4, seed=1)
    return rows, FloatReference.of(rows, labels, "cosine")


def test_drift_of_embeddings_turned_by_ten_degrees_is_the_cosine_of_ten_degrees():
    rows, people = embeddings(30, 4, seed=2)
    drift = measure_drift(rows, FloatReference.of(5 * turned(rows, 10), people, "cosine"))
    expected = np.cos(np.radians(10))
    assert (drift.cosine_mean, drift.cosine_p01, drift.cosine_min) == pytest.approx((expected,) * 3, abs=1e-6)
    assert drift.neighbour_changed > 0.0


def test_mean_first_percentile_and_minimum_come_from_single_images():
    rows, people = embeddings(101, 2, seed=3)
    rows, people = rows[:101], people[:101]
    reference = rows.copy()
    reference[7] = turned(rows[7:8], 60)[0]
    reference[8] = turned(rows[8:9], 45)[0]
    drift = measure_drift(rows, FloatReference.of(reference, people, "cosine"))
    assert drift.cosine_min == pytest.approx(0.5, abs=1e-6)
    assert drift.cosine_p01 == pytest.approx(np.sqrt(0.5), abs=1e-6)
    assert drift.cosine_mean == pytest.approx((99 + 0.5 + np.sqrt(0.5)) / 101, abs=1e-6)


def test_a_common_offset_does_not_hide_the_drift_of_euclidean_embeddings():
    rows, people = embeddings(30, 4, seed=4)
    centred = rows - rows.mean(axis=0)
    drift = measure_drift(turned(centred, 60) + 1000.0, FloatReference.of(centred + 1000.0, people, "euclidean"))
    assert drift.cosine_mean == pytest.approx(0.5, abs=0.01)


def test_noise_costs_genuine_accepts_and_one_shot_tasks_and_the_intervals_say_so():
    rows, people = embeddings(80, 6, seed=5)
    noisy = rows + 0.2 * np.random.default_rng(0).standard_normal(rows.shape)
    drift = measure_drift(unit(noisy).astype(np.float32), FloatReference.of(rows, people, "cosine"))
    for change in (drift.tpr_at_fpr["1e-2"], drift.tpr_at_fpr["1e-3"], drift.one_shot):
        assert change.interval[0] < change.difference < change.interval[1] < 0.0
        assert change.difference == pytest.approx(change.variant - change.reference)
    assert drift.eer.interval[0] > 0.0


def test_paired_intervals_hold_the_true_change_and_are_narrower_than_unpaired_ones():
    """Of quantization noise, on 50 draws of 40 people each; the truth is that of 600 people."""
    rng = np.random.default_rng(6)

    def rounded(rows):
        return unit(np.round(rows * 12) / 12).astype(np.float32)

    fresh, labels = embeddings(600, 4, seed=1000)
    true = measure_drift(rounded(fresh), FloatReference.of(fresh, labels, "cosine"))
    held = {"eer": 0, "1e-2": 0, "one_shot": 0}
    for _ in range(50):
        rows, people = embeddings(40, 6, seed=int(rng.integers(1 << 31)))
        found = measure_drift(rounded(rows), FloatReference.of(rows, people, "cosine"))
        for name, one, truth in (
            ("eer", found.eer, true.eer),
            ("1e-2", found.tpr_at_fpr["1e-2"], true.tpr_at_fpr["1e-2"]),
            ("one_shot", found.one_shot, true.one_shot),
        ):
            held[name] += one.interval[0] <= truth.difference <= one.interval[1]
            assert one.interval[1] - one.interval[0] < 0.15
    assert min(held.values()) >= 45


@pytest.mark.parametrize(
    ("variant", "figure", "bound"),
    [
        ("float32", "cosine_min", 0.9999),
        ("onnx-float32", "cosine_min", 0.9999),
        ("float16", "cosine_min", 0.999),
        ("onnx-float16", "cosine_min", 0.999),
        ("dynamic", "cosine_mean", 0.98),
        ("int8", "cosine_mean", 0.98),
        ("coral", "cosine_p01", 0.95),
        ("onnx-int8", "cosine_mean", 0.98),
        ("onnx-int8", "cosine_p01", 0.95),
    ],
)
def test_the_gate_passes_at_its_bound_and_names_the_figure_below_it(variant, figure, bound):
    assert gate(VARIANTS[variant], msgspec.structs.replace(PERFECT, **{figure: bound})) is None
    named = {"cosine_min": "minimum", "cosine_mean": "mean", "cosine_p01": "1st percentile"}[figure]
    reason = gate(VARIANTS[variant], msgspec.structs.replace(PERFECT, **{figure: bound - 1e-3}))
    assert reason == f"the {named} cosine to the float model is {bound - 1e-3:.4f} on 10 images, below {bound}"
    assert gate(VARIANTS[variant], msgspec.structs.replace(PERFECT, **{figure: float("nan")})) is not None


def test_the_gate_stops_a_variant_that_surely_loses_accepts_or_tasks_and_names_the_layer():
    def lost(high):
        return Change(reference=0.9, variant=0.85, difference=-0.05, interval=(-0.08, high))

    layers = (
        LayerError(op="CONV_2D", name="first", sqnr_db=31.0),
        LayerError(op="ADD", name="sum", sqnr_db=12.4),
        LayerError(op="RESHAPE", name="flat", sqnr_db=100.0),
    )
    bad = msgspec.structs.replace(PERFECT, tpr_at_fpr={"1e-2": SAME, "1e-3": lost(-0.031)}, layers=layers)
    assert gate(VARIANTS["int8"], bad) == (
        "it loses 3.1% to 8.0% of the genuine accepts at a FAR of 1e-3, more than 2%; "
        "the layer that loses most is ADD sum (12 dB)"
    )
    unsure = msgspec.structs.replace(PERFECT, tpr_at_fpr={"1e-2": lost(-MAX_LOSS)}, one_shot=lost(0.01))
    assert gate(VARIANTS["int8"], unsure) is None
    tasks = msgspec.structs.replace(PERFECT, one_shot=lost(-0.03))
    assert gate(VARIANTS["float32"], tasks) == "it loses 3.0% to 8.0% of the 5-way one-shot tasks, more than 2%"


def test_a_low_minimum_alone_does_not_stop_an_int8_variant():
    assert gate(VARIANTS["int8"], msgspec.structs.replace(PERFECT, cosine_min=0.5)) is None


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
    with raises(ModelError, match="all zeros", reason="zero_embedding"):
        check_alive(rows, "cosine")


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

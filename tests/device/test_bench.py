"""The bench: the keys people know from LiteRT's own tool, and figures that belong together."""

import dataclasses

import pytest

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.encoding.bench import bench, board
from edge_oneshot_device.errors import InputError, IntegrityError

# The design's list, which takes the names of ai_edge_litert/tools/benchmark_litert_model.py.
KEYS = {
    "init_ms", "warmup_first_ms", "warmup_avg_ms", "avg_ms", "min_ms", "max_ms", "median_ms", "std_ms", "p5_ms",
    "p95_ms", "num_runs", "num_threads", "model_size_mb", "p99_ms", "peak_rss_mb", "variant", "runtime", "board",
}  # fmt: skip


@pytest.fixture
def bundle(make_bundle) -> Bundle:
    return Bundle.open(make_bundle())


def test_the_keys_are_those_of_the_design(bundle):
    result = bench(bundle, runs=3, warmup=1)
    assert {field.name for field in dataclasses.fields(result)} == KEYS
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.avg_ms = 0.0


def test_the_figures_belong_together(bundle):
    result = bench(bundle, "float32", runs=101, warmup=5)
    ordered = [getattr(result, f"{name}_ms") for name in ("min", "p5", "median", "p95", "p99", "max")]
    assert ordered == sorted(ordered)
    assert 0 < result.min_ms <= result.avg_ms <= result.max_ms
    assert 0 < result.std_ms <= result.max_ms - result.min_ms
    assert result.init_ms > 0
    assert result.warmup_first_ms <= 5 * result.warmup_avg_ms * (1 + 1e-9)
    assert (result.num_runs, result.num_threads) == (101, 1)
    assert (result.variant, result.runtime) == ("float32", "litert")
    assert result.model_size_mb == len(bundle.read("models/tiny-float32.tflite")) / 2**20
    assert 20 < result.peak_rss_mb < 20_000


def test_the_percentiles_are_those_of_the_times_per_run(bundle, monkeypatch):
    """A clock that makes run n take n milliseconds: 1 for each warm-up, then 1 to 100."""
    durations = iter([7, *[1] * 4, *range(1, 101)])
    now, running = 0, False

    def clock() -> int:
        nonlocal now, running
        if running:
            now += next(durations) * 1_000_000
        running = not running
        return now

    monkeypatch.setattr("time.perf_counter_ns", clock)
    result = bench(bundle, runs=100, warmup=4)
    assert (result.init_ms, result.warmup_first_ms, result.warmup_avg_ms) == (7.0, 1.0, 1.0)
    assert (result.min_ms, result.max_ms, result.avg_ms, result.median_ms) == (1.0, 100.0, 50.5, 50.5)
    assert (result.p5_ms, result.p95_ms, result.p99_ms) == pytest.approx((5.95, 95.05, 99.01))
    assert result.std_ms == pytest.approx(29.011491975882)


def test_one_run_has_no_spread(bundle):
    result = bench(bundle, runs=1, warmup=1)
    assert result.std_ms == 0.0
    assert result.min_ms == result.p99_ms == result.max_ms


def test_a_runtime_and_threads_can_be_named(bundle):
    pytest.importorskip("onnxruntime")
    result = bench(bundle, "onnx-float32", runtime="onnxruntime", threads=2, runs=2, warmup=1)
    assert (result.variant, result.runtime, result.num_threads) == ("onnx-float32", "onnxruntime", 2)


@pytest.mark.parametrize(("runs", "warmup"), [(0, 1), (1, 0), (-1, 5)])
def test_nothing_to_time_is_wrong_use(bundle, runs, warmup):
    with pytest.raises(InputError) as caught:
        bench(bundle, runs=runs, warmup=warmup)
    assert caught.value.reason == "wrong_runs"


def test_a_model_that_fails_its_self_test_gets_no_figures(make_bundle):
    def shift(manifest: dict) -> None:
        manifest["self_test"]["outputs"]["int8"][0][0] += 9

    with pytest.raises(IntegrityError) as caught:
        bench(Bundle.open(make_bundle(change=shift)), runs=1, warmup=1)
    assert caught.value.reason == "self_test_failed"


def test_a_raspberry_pi_is_named_by_its_device_tree_and_a_pc_by_its_processor(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nvendor_id\t: x\nmodel name\t: Some CPU @ 2.0GHz\n")
    assert board(tmp_path) == "Some CPU @ 2.0GHz"
    (tmp_path / "device-tree").mkdir()
    (tmp_path / "device-tree" / "model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    assert board(tmp_path) == "Raspberry Pi 5 Model B Rev 1.0"


def test_a_machine_that_says_nothing_is_named_by_its_architecture(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nCPU part\t: 0xd08\n")
    assert board(tmp_path) == "aarch64"

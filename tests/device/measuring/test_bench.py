"""The bench: the keys people know from LiteRT's own tool, and figures that belong together."""

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.errors import InputError, IntegrityError
from edge_oneshot_device.measuring.bench import bench
from edge_oneshot_device.measuring.options import BenchOptions
from tests.raising import raises
from tests.samples.pictures import png

# The design's list, which takes the names of ai_edge_litert/tools/benchmark_litert_model.py.
KEYS = {
    "init_ms", "warmup_first_ms", "warmup_avg_ms", "avg_ms", "min_ms", "max_ms", "median_ms", "std_ms", "p5_ms",
    "p95_ms", "num_runs", "num_threads", "model_size_mb", "p99_ms", "peak_rss_mb", "variant", "runtime", "board",
    "fingerprint", "at", "machine", "before", "after", "samples_ms", "stages", "disk", "image",
}  # fmt: skip


@pytest.fixture
def bundle(make_bundle) -> Bundle:
    return Bundle.open(make_bundle())


def test_the_keys_are_those_of_the_design(bundle):
    result = bench(bundle, BenchOptions(runs=3))
    assert {field.name for field in msgspec.structs.fields(result)} == KEYS
    with pytest.raises(AttributeError):
        result.avg_ms = 0.0


def test_the_figures_belong_together(bundle):
    result = bench(bundle, BenchOptions(variant="float32", runs=101))
    ordered = [getattr(result, f"{name}_ms") for name in ("min", "p5", "median", "p95", "p99", "max")]
    assert ordered == sorted(ordered)
    assert 0 < result.min_ms <= result.avg_ms <= result.max_ms
    assert 0 < result.std_ms <= result.max_ms - result.min_ms
    assert result.init_ms > 0
    assert result.warmup_first_ms <= 10 * result.warmup_avg_ms * (1 + 1e-9)
    assert (result.num_runs, result.num_threads) == (101, 1)
    assert (result.variant, result.runtime) == ("float32", "litert")
    assert result.model_size_mb == len(bundle.read("models/tiny-float32.tflite")) / 2**20
    assert 20 < result.peak_rss_mb < 20_000


def test_the_percentiles_are_those_of_the_times_per_run(bundle, monkeypatch):
    """A clock that makes run n take n milliseconds: 1 for each warm-up, then 1 to 100."""
    durations = iter([7, *[1] * 10, *range(1, 101)])
    now, running = 0, False

    def clock() -> int:
        nonlocal now, running
        if running:
            now += next(durations) * 1_000_000
        running = not running
        return now

    monkeypatch.setattr("time.perf_counter_ns", clock)
    result = bench(bundle, BenchOptions(runs=100))
    assert (result.init_ms, result.warmup_first_ms, result.warmup_avg_ms) == (7.0, 1.0, 1.0)
    assert (result.min_ms, result.max_ms, result.avg_ms, result.median_ms) == (1.0, 100.0, 50.5, 50.5)
    assert (result.p5_ms, result.p95_ms, result.p99_ms) == pytest.approx((5.95, 95.05, 99.01))
    assert result.std_ms == pytest.approx(29.011491975882)


def test_one_run_has_no_spread(bundle):
    result = bench(bundle, BenchOptions(runs=1))
    assert result.std_ms == 0.0
    assert result.min_ms == result.p99_ms == result.max_ms


def test_a_runtime_and_threads_can_be_named(bundle):
    pytest.importorskip("onnxruntime")
    result = bench(bundle, BenchOptions(variant="onnx-float32", runtime="onnxruntime", threads=2, runs=2))
    assert (result.variant, result.runtime, result.num_threads) == ("onnx-float32", "onnxruntime", 2)


@pytest.mark.parametrize("runs", [0, -1, 10**6 + 1, 10**20])
def test_nothing_to_time_and_more_than_a_million_runs_are_wrong_use(runs):
    with raises(InputError, reason="wrong_runs"):
        BenchOptions(runs=runs)


def test_a_model_that_fails_its_self_test_gets_no_figures(make_bundle):
    def shift(manifest: dict) -> None:
        manifest["self_test"]["outputs"]["int8"][0][0] += 9

    with raises(IntegrityError, reason="self_test_failed"):
        bench(Bundle.open(make_bundle(change=shift)), BenchOptions(runs=1))


def test_where_and_when_it_was_measured_is_in_it(bundle):
    result = bench(bundle, BenchOptions(variant="float32", runs=7))
    assert result.fingerprint == bundle.manifest.variants[1].fingerprint
    assert result.board == result.machine.board
    assert result.machine.versions["numpy"] == np.__version__
    assert abs(datetime.now(UTC) - datetime.fromisoformat(result.at)) < timedelta(minutes=5)
    assert len(result.samples_ms) == 7
    assert result.median_ms == sorted(result.samples_ms)[3]
    assert (result.stages, result.disk, result.image) == ([], None, None)


def test_the_stages_add_up_and_leave_nothing_behind(bundle, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    result = bench(bundle, BenchOptions(runs=5), folder=folder)
    stages = {stage.name: stage for stage in result.stages}
    assert list(stages) == ["decode", "preprocess", "embed", "match", "audit", "total"]
    for run, total in enumerate(stages["total"].samples_ms):
        parts = [stage.samples_ms[run] for name, stage in stages.items() if name != "total"]
        assert min(parts) > 0
        assert total == pytest.approx(sum(parts))
    for stage in result.stages:
        assert len(stage.samples_ms) == 5
        assert stage.median_ms == sorted(stage.samples_ms)[2] <= stage.p95_ms
    golden = bundle.read(bundle.manifest.self_test.images[0])
    assert result.image == f"PNG 32 x 32, {len(golden):,} bytes"
    assert list(folder.iterdir()) == []


def test_an_image_of_ones_own_is_what_the_stages_are_shown(bundle, tmp_path):
    photo = png(np.tile(np.linspace(0, 255, 400).astype(np.uint8)[:, np.newaxis], (300, 1, 3)))
    file = tmp_path / "photo.png"
    file.write_bytes(photo)
    result = bench(bundle, BenchOptions(runs=1, image=file), folder=tmp_path)
    assert result.image == f"PNG 400 x 300, {len(photo):,} bytes"
    file.write_bytes(b"no image")
    with raises(InputError, reason="not_an_image"):
        bench(bundle, BenchOptions(runs=1, image=file), folder=tmp_path)

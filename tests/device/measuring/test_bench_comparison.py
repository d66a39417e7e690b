"""Two runs of the bench: what their ratio is worth, and when there is none worth having."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_oneshot_device import Bundle, cli
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.measuring.bench import bench
from edge_oneshot_device.measuring.bench_comparison import compare
from edge_oneshot_device.measuring.options import BenchOptions
from tests.raising import raises

MakeRun = Callable[..., Path]


@pytest.fixture(scope="module")
def runs() -> np.ndarray:
    """Around a millisecond, with one in twenty four times as long."""
    rng = np.random.default_rng(1)
    return rng.normal(1.0, 0.02, 200) * np.where(rng.random(200) < 0.05, 4, 1)


@pytest.fixture
def make_run(make_bundle: Callable[..., Path], tmp_path: Path, runs: np.ndarray) -> MakeRun:
    result = msgspec.to_builtins(bench(Bundle.open(make_bundle()), BenchOptions(runs=3), folder=tmp_path))

    def make(name: str, factor: float = 1.0, **changed: Any) -> Path:
        stage = {"name": "embed", "median_ms": 1.0, "p95_ms": 1.0, "samples_ms": (runs * factor).tolist()}
        values = {**result, "samples_ms": (runs * factor).tolist(), "stages": [stage], "peak_rss_mb": 60.0, **changed}
        path = tmp_path / name
        path.write_text(json.dumps(values))
        return path

    return make


def test_a_run_is_equal_to_itself(make_run):
    comparison = compare(make_run("a.json"), make_run("b.json"))
    assert (comparison.comparable, comparison.obstacles, comparison.changes) == (True, [], [])
    assert [one.what for one in comparison.ratios] == [
        "init_ms", "warmup_first_ms", "median_ms", "p95_ms", "peak_rss_mb", "embed",
    ]  # fmt: skip
    assert {one.ratio for one in comparison.ratios} == {1.0}
    for one in comparison.ratios:
        if one.interval is not None:
            assert one.interval[0] < 1.0 < one.interval[1]


def test_a_ratio_has_an_interval_that_holds_it(make_run, runs):
    comparison = compare(make_run("a.json"), make_run("b.json", 1.25, peak_rss_mb=90.0))
    ratios = {one.what: one for one in comparison.ratios}
    median = ratios["median_ms"]
    assert (median.first, median.second) == pytest.approx((np.median(runs), 1.25 * np.median(runs)))
    assert median.ratio == pytest.approx(1.25)
    assert 1.24 < median.interval[0] < 1.25 < median.interval[1] < 1.26
    assert ratios["p95_ms"].interval[1] - ratios["p95_ms"].interval[0] > 0.1  # it rests on ten runs
    assert (ratios["peak_rss_mb"].ratio, ratios["peak_rss_mb"].interval) == (1.5, None)
    assert ratios["embed"].ratio == pytest.approx(1.25)


def test_neighbours_that_are_slow_together_make_the_interval_wider(make_run):
    rng = np.random.default_rng(2)
    drifting = 1.0 + np.abs(rng.normal(0, 0.02, 200).cumsum())
    steady, widths = make_run("c.json", samples_ms=[1.0] * 200), []
    for name, samples in (("a.json", drifting), ("b.json", rng.permutation(drifting))):
        median = compare(make_run(name, samples_ms=samples.tolist()), steady).ratios[2]
        assert median.interval is not None
        widths.append(median.interval[1] - median.interval[0])
    assert widths[0] > 2 * widths[1]


def throttled(*flags: str) -> dict[str, Any]:
    return {"governor": None, "mhz": None, "temperature_c": 80.0, "throttled": list(flags), "load": 0.1}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"fingerprint": "f" * 64}, "different fingerprint: {fingerprint}, then ffffffffffff"),
        ({"board": "Raspberry Pi 4"}, "different board: {board}, then Raspberry Pi 4"),
        ({"image": "JPEG 4000 x 3000, 9 bytes"}, "different image: PNG 32 x 32, {size} bytes, then JPEG 4000"),
        ({"disk": "ext4 on a card"}, "different disk: {disk}, then ext4 on a card"),
        ({"after": throttled("throttled since start")}, "the second run was throttled: throttled"),
        ({"before": throttled("under-voltage")}, "the second run was throttled: under-voltage"),
    ],
)
def test_what_cannot_be_compared_is_said(make_run, changed, words):
    first = make_run("a.json")
    known = json.loads(first.read_text())
    facts = {"fingerprint": known["fingerprint"][:12], "board": known["board"], "disk": known["disk"]}
    facts["size"] = known["image"].split()[-2]
    comparison = compare(first, make_run("b.json", **changed))
    assert not comparison.comparable
    (obstacle,) = comparison.obstacles
    assert obstacle.startswith(words.format(**facts))


def test_a_machine_that_changed_is_another(make_run):
    machine = json.loads(make_run("a.json").read_text())["machine"]
    comparison = compare(make_run("a.json"), make_run("b.json", machine={**machine, "cores": 99}))
    assert comparison.obstacles == [f"different number of cores: {machine['cores']}, then 99"]


def test_what_is_compared_on_purpose_is_named_and_no_obstacle(make_run):
    machine = json.loads(make_run("a.json").read_text())["machine"]
    versions = {**machine["versions"], "numpy": "0.9", "tflite-runtime": "9.0"}
    second = make_run("b.json", runtime="tflite-runtime", num_threads=4, machine={**machine, "versions": versions})
    comparison = compare(make_run("a.json"), second)
    assert comparison.comparable
    assert comparison.changes == [
        "runtime: litert, then tflite-runtime",
        "threads: 1, then 4",
        f"numpy: {machine['versions']['numpy']}, then 0.9",
        f"tflite-runtime: {machine['versions'].get('tflite-runtime', 'absent')}, then 9.0",
    ]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"variant": 1}', "\udcff"])
def test_what_is_no_run_is_wrong_use(make_run, tmp_path, content):
    (tmp_path / "x.json").write_bytes(content.encode(errors="surrogateescape"))
    with raises(InputError, match=r"x\.json was not written by bench --json", reason="not_a_bench"):
        compare(make_run("a.json"), tmp_path / "x.json")
    with pytest.raises(InputError, match="holds no timed runs"):
        compare(make_run("b.json", samples_ms=[]), make_run("a.json"))


def test_the_command_prints_a_table_and_ends_with_1_where_there_is_nothing_to_compare(make_run, capfd):
    first, second = make_run("a.json"), make_run("b.json", 2.0)
    assert cli.main(["bench", "compare", str(first), str(second)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].split() == ["first", "second", "ratio", "95", "%", "interval"]
    assert next(line for line in lines if line.startswith("median_ms")).split()[3] == "2.000"
    other = make_run("c.json", board="another")
    assert cli.main(["bench", "compare", str(first), str(other), "--json"]) == 1
    told = json.loads(capfd.readouterr().out)
    assert (told["comparable"], len(told["obstacles"])) == (False, 1)
    assert set(told["ratios"][0]) == {"what", "first", "second", "ratio", "interval"}


@pytest.mark.parametrize("words", [["compare"], ["compare", "a.json"], ["a.oneshot", "b.oneshot"], ["compare"] * 4])
def test_other_words_are_wrong_use(words, capfd):
    assert cli.main(["bench", *words]) == 2
    assert capfd.readouterr().err == "give one bundle, or compare A.json B.json\n"

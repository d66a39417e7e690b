"""The commands that measure what the device costs, on a small share of what they do whole."""

import json
import os
import subprocess
import sys

import pytest

from tests import ROOT

BENCHMARKS = ROOT / "benchmarks"


def measure(command: str, *arguments: object) -> object:
    environment = {name: value for name, value in os.environ.items() if name != "EDGE_ONESHOT_KEY"}
    process = subprocess.run(
        [sys.executable, BENCHMARKS / command, *map(str, arguments), "--json"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.fixture
def door(make_bundle):
    pytest.importorskip("ai_edge_litert", reason="the bare side is LiteRT")
    if not BENCHMARKS.is_dir():
        pytest.skip("the commands that measure are not here")
    return make_bundle(variants=("int8",))


def test_five_hundred_identifications_grow_no_memory(door, tmp_path):
    out = tmp_path / "day.json"
    day = measure("day.py", door, "--folder", tmp_path, "--people", 60, "--count", 500, "--out", out)
    assert day == json.loads(out.read_text())
    assert day["identifications"] == 500
    assert day["people"] == 60
    assert day["accepted"] < 500
    assert day["memory_growth"] < 0.02  # a system may take pages back that are not in use
    assert day["gallery_mib"] > 0.1


def test_the_devices_code_is_timed_beside_the_bare_libraries(door, tmp_path):
    arguments = ("--folder", tmp_path, "--people", 20, "--rounds", 4, "--starts", 2)
    found = measure("overhead.py", door, *arguments)
    assert [one["what"] for one in found] == [
        "embedding",
        "identification among 20",
        "start to decision",
        "memory at the most",
    ]
    for one in found:
        assert one["ratio"] == pytest.approx(one["ours"] / one["bare"])
        assert one["interval"][0] <= one["ratio"] <= one["interval"][1]
        assert one["bare"] > 0.0
    # beside numpy and a runtime, which both sides load, no heavy package
    assert 1.0 < found[3]["ratio"] < 2.0

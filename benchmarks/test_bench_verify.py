"""1:1, from the image file to the decision: in a process that runs, and in a new one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_device.recognition.recognizer import Recognizer


@pytest.fixture
def state(tmp_path: Path, bundle_path: Path, variant: str, image: bytes) -> Path:
    """A state folder in which Ada is enrolled from the very image that is shown later."""
    folder = tmp_path / "state"
    install(bundle_path, folder, InstallOptions(variant=variant))
    with Recognizer.open(folder) as recognizer:
        recognizer.enrol("ada", image)
    return folder


@pytest.fixture
def shown(tmp_path: Path, image: bytes) -> Path:
    path = tmp_path / "shown.png"
    path.write_bytes(image)
    return path


@pytest.mark.benchmark(group="verify")
def test_verify_in_a_running_process(benchmark: BenchmarkFixture, state: Path, shown: Path) -> None:
    with Recognizer.open(state, limits=None) as recognizer:
        decision = benchmark(recognizer.verify, "ada", shown)
    benchmark.extra_info.update(variant=decision.variant, runtime=decision.runtime, fingerprint=decision.fingerprint)
    assert decision.accepted


@pytest.mark.benchmark(group="verify")
def test_verify_in_a_new_process(benchmark: BenchmarkFixture, state: Path, shown: Path) -> None:
    command = [sys.executable, "-m", "edge_oneshot_device.cli", "verify", "ada", str(shown)]
    command += ["--state", str(state), "--json", "--scores"]
    run = benchmark.pedantic(
        subprocess.run, args=(command,), kwargs={"capture_output": True, "check": True}, rounds=10, warmup_rounds=1
    )
    decision = json.loads(run.stdout)
    benchmark.extra_info.update({key: decision[key] for key in ("variant", "runtime", "fingerprint")})
    assert decision["accepted"]

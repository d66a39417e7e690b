"""Fixtures of the latency benchmarks: the bundle and the machine. Timings are printed, never asserted.

    pytest benchmarks
    EDGE_ONESHOT_BUNDLE=door.oneshot pytest benchmarks

Without EDGE_ONESHOT_BUNDLE the benchmarks export a small untrained encoder for the drawn glyphs: good for times, not
for accuracy. Compare only figures of one run, or of one machine.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.measuring.machine import look_at_health, look_at_machine
from tests.samples.untrained import export_untrained

ENVIRONMENT = "EDGE_ONESHOT_BUNDLE"
USED = pytest.StashKey[dict[str, str]]()

OpenEncoder = Callable[[str, str], Encoder]


def machine() -> dict[str, str]:
    """Board, cores, governor and versions."""
    found, health = look_at_machine(), look_at_health()
    return {
        "board": found.board,
        "architecture": found.architecture,
        "system": found.system,
        "cores": str(found.cores),
        "governor": health.governor or "unknown",
        **found.versions,
    }


def pytest_report_header() -> list[str]:
    """Print the machine first."""
    return [f"{name}: {value}" for name, value in machine().items()]


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Keep the machine with the figures of --benchmark-json."""
    machine_info["edge_oneshot"] = machine()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the fingerprints of what was timed."""
    terminalreporter.section("bundle")
    for name, value in config.stash.get(USED, {}).items():
        terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get(ENVIRONMENT)
    return Path(given) if given else export_untrained(tmp_path_factory.mktemp("bundle") / "untrained.oneshot")


@pytest.fixture(scope="session")
def bundle(bundle_path: Path, pytestconfig: pytest.Config) -> Bundle:
    opened = Bundle.open(bundle_path)
    fingerprints = {f"fingerprint of {v.name}": v.fingerprint for v in opened.manifest.variants}
    pytestconfig.stash[USED] = {"name": opened.manifest.name, "sha256": opened.sha256, **fingerprints}
    return opened


@pytest.fixture(scope="session")
def image(bundle: Bundle) -> bytes:
    """An encoded image that the bundle was tested with."""
    return bundle.read(bundle.manifest.self_test.images[0])


@pytest.fixture(scope="session")
def variant(bundle: Bundle) -> str:
    """What `init` would take."""
    return bundle.manifest.default_variant


@pytest.fixture
def open_encoder(bundle: Bundle) -> OpenEncoder:
    """Opens a variant in a runtime; skips what this bundle or this machine does not have."""

    def opened(name: str, runtime: str) -> Encoder:
        try:
            return Encoder.open(bundle, name, runtime=runtime)
        except (InputError, MachineError) as error:
            if error.reason not in ("variant_missing", "runtime_missing"):
                raise
            pytest.skip(str(error))

    return opened

"""The metrics, and the server that gives them to whoever asks on this machine."""

import socket
import sys
import urllib.error
import urllib.request
from contextlib import closing

import pytest

from edge_oneshot_device.door.metrics import Metrics, MetricsServer, serve
from edge_oneshot_device.door.publisher import Health
from edge_oneshot_device.errors import MachineError
from tests.raising import raises

parser = pytest.importorskip("prometheus_client.parser", reason="the client of Prometheus is not installed")
PREFIX = "edge_oneshot_door"


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """All values, by name and labels."""
    families = parser.text_string_to_metric_families(metrics.text().decode())
    return {(one.name, *sorted(one.labels.values())): one.value for family in families for one in family.samples}


def test_decisions_states_and_stages_are_counted() -> None:
    metrics = Metrics()
    metrics.decided("match")
    metrics.decided("below_threshold")
    metrics.decided("below_threshold")
    metrics.entered("unlocked")
    metrics.measured({"find": 0.03, "embed": 0.2})
    found = samples(metrics)
    assert found[f"{PREFIX}_decisions_total", "match"] == 1
    assert found[f"{PREFIX}_decisions_total", "below_threshold"] == 2
    assert found[f"{PREFIX}_changes_total", "unlocked"] == 1
    assert found[f"{PREFIX}_state", "unlocked"] == 1
    assert found[f"{PREFIX}_state", "idle"] == 0
    assert found[f"{PREFIX}_stage_seconds_count", "find"] == 1
    assert found[f"{PREFIX}_stage_seconds_bucket", "0.02", "find"] == 0
    assert found[f"{PREFIX}_stage_seconds_bucket", "0.05", "find"] == 1
    assert found[f"{PREFIX}_stage_seconds_sum", "embed"] == pytest.approx(0.2)
    assert found["process_resident_memory_bytes",] > 0


def test_a_door_begins_idle() -> None:
    found = samples(Metrics())
    assert [key[1] for key, value in found.items() if key[0] == f"{PREFIX}_state" and value == 1] == ["idle"]


def test_the_receivers_are_asked_when_somebody_reads() -> None:
    health = [Health("mqtt", 5, 0, None)]
    metrics = Metrics(lambda: health)
    assert samples(metrics)[f"{PREFIX}_receiver_working", "mqtt"] == 1
    health[0] = Health("mqtt", 7, 3, "the broker is away")
    found = samples(metrics)
    assert found[f"{PREFIX}_events_sent_total", "mqtt"] == 7
    assert found[f"{PREFIX}_rows_waiting", "mqtt"] == 3
    assert found[f"{PREFIX}_receiver_working", "mqtt"] == 0
    assert b"away" not in metrics.text()


def test_what_is_no_code_makes_no_metric_of_its_own() -> None:
    metrics = Metrics()
    for number in range(100):
        metrics.decided(f"cannot write /var/lib/{number}")
    found = samples(metrics)
    assert found[f"{PREFIX}_decisions_total", "other"] == 100
    assert len([key for key in found if key[0] == f"{PREFIX}_decisions_total"]) == 1


def test_metrics_are_served_on_localhost_alone() -> None:
    metrics = Metrics()
    with serve(metrics, 0) as server:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert b"edge_oneshot_door_state" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=60)
        refused.value.close()
        with closing(socket.socket()) as other:
            other.settimeout(60)
            assert other.connect_ex(("127.0.0.2", server.port)) != 0


def test_a_request_that_never_ends_does_not_keep_others_from_their_answer() -> None:
    with serve(Metrics(), 0) as server, socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"GET /metr")
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as answer:
            assert answer.status == 200


def test_a_port_that_is_taken_is_an_error_that_says_so() -> None:
    with serve(Metrics(), 0) as server, raises(MachineError, match="metrics.port", reason="port_taken"):
        MetricsServer(Metrics(), server.port)


def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with raises(MachineError, match="pip install .prometheus-client", reason="extra_missing"):
        Metrics()

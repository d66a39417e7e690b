"""Prometheus metrics of a door, on localhost. No metric holds a name.

`docs/reference/door-events.md` lists them.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, Final, Self, get_args

from edge_oneshot_device.door.states import State
from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.extras import extra_missing

if TYPE_CHECKING:
    from edge_oneshot_device.door.publisher import Health

_PREFIX: Final = "edge_oneshot_door"
_BUCKETS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
_LABEL: Final = re.compile(r"[a-z0-9_]{1,40}")
_PATIENCE: Final = 2.0  # seconds for a request, since one is answered at a time


class Metrics:
    """What is counted and measured; any thread may call it.

    Args:
        health: How the receivers of events are, asked when somebody reads the metrics.

    Raises:
        MachineError: Reason ``extra_missing``.
    """

    def __init__(self, health: Callable[[], Sequence["Health"]] = tuple) -> None:
        try:
            import prometheus_client as prometheus
            from prometheus_client import core, process_collector
        except ImportError as error:
            raise extra_missing("metrics") from error
        registry = prometheus.CollectorRegistry()
        self._text: Callable[[], bytes] = lambda: prometheus.generate_latest(registry)
        self._decisions = prometheus.Counter(
            f"{_PREFIX}_decisions", "decisions at the door, by their reason", ["reason"], registry=registry
        )
        self._changes = prometheus.Counter(
            f"{_PREFIX}_changes", "changes of state, by the state that follows", ["state"], registry=registry
        )
        self._state = prometheus.Gauge(
            f"{_PREFIX}_state", "1 for the state that the door is in, 0 for the others", ["state"], registry=registry
        )
        self._stages = prometheus.Histogram(
            f"{_PREFIX}_stage_seconds",
            "seconds of a stage of the work on a frame or an approach",
            ["stage"],
            buckets=_BUCKETS,
            registry=registry,
        )
        registry.register(_Receivers(core, health))
        process_collector.ProcessCollector(registry=registry)
        self.entered("idle")

    def decided(self, reason: str) -> None:
        """Count a decision.

        Args:
            reason: Its code, such as ``match`` or ``below_threshold``; what is no code is counted as ``other``.
        """
        self._decisions.labels(_label(reason)).inc()

    def entered(self, state: State) -> None:
        """Count a change of state, and show the state."""
        self._changes.labels(state).inc()
        for one in get_args(State):
            self._state.labels(one).set(one == state)

    def measured(self, stages: Mapping[str, float]) -> None:
        """Add measured times.

        Args:
            stages: Seconds by the name of the stage.
        """
        for stage, seconds in stages.items():
            self._stages.labels(_label(stage)).observe(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return self._text()


class MetricsServer:
    """Serves metrics on localhost, one request after the other, until it is closed. A context manager.

    Args:
        metrics: What is served.
        port: Its port; 0 takes a free one.

    Attributes:
        port: The port that it listens on.

    Raises:
        MachineError: Reason ``port_taken``.
    """

    def __init__(self, metrics: Metrics, port: int) -> None:
        handler = type("Handler", (_Handler,), {"metrics": metrics})
        try:
            self._server = HTTPServer(("127.0.0.1", port), handler)
        except OSError as error:
            message = f"cannot serve metrics on port {port}: {error.strerror}; choose another metrics.port"
            raise MachineError(message, reason="port_taken") from error
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """The server itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Stop serving; closing twice is fine."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def serve(metrics: Metrics, port: int) -> MetricsServer:
    """Serve metrics on a port of localhost; raises what `MetricsServer` does."""
    return MetricsServer(metrics, port)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET /metrics."""

    timeout = _PATIENCE
    metrics: Metrics

    def do_GET(self) -> None:
        """Answer a request."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404)
            return
        content = self.metrics.text()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """A request is no news."""


class _Receivers:
    """Collects how the receivers of events are."""

    def __init__(self, core: Any, health: Callable[[], Sequence["Health"]]) -> None:
        self._core, self._health = core, health

    def describe(self) -> list[Any]:
        """Nothing, so that registering asks for nothing."""
        return []

    def collect(self) -> Iterator[Any]:
        """The metrics of all receivers."""
        sent = self._core.CounterMetricFamily(
            f"{_PREFIX}_events_sent", "events that a receiver acknowledged", labels=["receiver"]
        )
        waiting = self._core.GaugeMetricFamily(
            f"{_PREFIX}_rows_waiting", "rows of the audit trail behind a receiver's position", labels=["receiver"]
        )
        working = self._core.GaugeMetricFamily(
            f"{_PREFIX}_receiver_working", "1 while a receiver takes events, 0 while it does not", labels=["receiver"]
        )
        for one in self._health():
            sent.add_metric([one.receiver], one.sent)
            waiting.add_metric([one.receiver], one.waiting)
            working.add_metric([one.receiver], float(one.fault is None))
        yield from (sent, waiting, working)


def _label(text: str) -> str:
    return text if _LABEL.fullmatch(text) else "other"

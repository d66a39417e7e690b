"""A webhook is told every event, signed, in order and without a loss."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from edge_oneshot_device.door import publisher
from edge_oneshot_device.door.configuration import DoorConfig, WebhookSection
from edge_oneshot_device.door.events import Status
from edge_oneshot_device.door.publisher import Publisher
from edge_oneshot_device.door.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, signature
from edge_oneshot_device.errors import InputError, IntegrityError
from tests import ROOT
from tests.device.door.outgoing import SECRET_FACTS, Door, a_door
from tests.device.door.waiting import wait_until
from tests.raising import raises

SECRET = b"0123456789abcdef0123456789abcdef"


class Webhook(HTTPServer):
    """Takes events; its first answers are refusals, one for each status that is left."""

    def __init__(self, port: int = 0) -> None:
        self.refusals: list[int] = []
        self.events: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", port), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers[SIGNATURE_HEADER] == signature(SECRET, self.headers[TIMESTAMP_HEADER], body)
        status = self.server.refusals.pop(0) if self.server.refusals else 200
        if status == 200:
            self.server.events.append(json.loads(body))
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def a_webhook(port: int = 0) -> Iterator[Webhook]:
    with Webhook(port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with a_door(tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "_PAUSES", (0.01, 0.05))


def config(tmp_path: Path, port: int) -> DoorConfig:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    return DoorConfig(webhook=WebhookSection(url=f"http://127.0.0.1:{port}/door", secret_file=str(secret)))


def test_events_arrive_signed_in_order_and_without_scores(door: Door, tmp_path: Path) -> None:
    with a_webhook() as webhook, Publisher(config(tmp_path, webhook.server_port), door.open) as events:
        wait_until(lambda: events.health()[0].fault is None)
        door.open_and_close(times=3)
        door.decide("identify", {"accepted": True, "reason": "match"}, "ada")
        events.tell(Status("unlocked"))
        wait_until(lambda: len(webhook.events) == 4)
    assert [event["number"] for event in webhook.events[:3]] == door.numbers()
    assert webhook.events[3]["person"] == "ada"
    assert not set(SECRET_FACTS) & set(webhook.events[3])


def test_what_is_refused_is_sent_again_until_it_is_taken(door: Door, tmp_path: Path) -> None:
    with a_webhook() as webhook, Publisher(config(tmp_path, webhook.server_port), door.open) as events:
        wait_until(lambda: events.health()[0].fault is None)
        webhook.refusals += [500, 404, 302, 400]
        door.open_and_close(times=3)
        wait_until(lambda: len(webhook.events) == 3)
    assert [event["number"] for event in webhook.events] == door.numbers()


def test_what_happens_while_it_is_away_arrives_when_it_is_back_even_after_a_restart(door: Door, tmp_path: Path) -> None:
    with a_webhook() as webhook:
        port = webhook.server_port
        with Publisher(config(tmp_path, port), door.open) as events:
            wait_until(lambda: events.health()[0].fault is None)
    door.open_and_close(times=2)
    with Publisher(config(tmp_path, port), door.open) as events:
        door.open_and_close(times=2)
        wait_until(lambda: "did not take a request" in str(events.health()[0].fault))
    with a_webhook(port) as webhook, Publisher(config(tmp_path, port), door.open):
        wait_until(lambda: len(webhook.events) == 4)
    assert [event["number"] for event in webhook.events] == door.numbers()


def test_a_receiver_checks_the_signature_as_docs_door_events_says() -> None:
    page = (ROOT / "docs" / "reference" / "door-events.md").read_text()
    made: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], made)  # noqa: S102 (this project's own page)
    check, now = made["is_from_the_door"], str(int(time.time()))
    signed = signature(SECRET, now, b"{}")
    assert check(SECRET, now, signed, b"{}")
    old = str(int(time.time()) - 3600)
    assert not check(SECRET, old, signature(SECRET, old, b"{}"), b"{}")
    for other in ((SECRET[1:], now, signed, b"{}"), (SECRET, old, signed, b"{}"), (SECRET, now, signed, b"{ }")):
        assert not check(*other)


def test_a_webhook_that_is_not_allowed_is_refused_before_anything_starts(door: Door, tmp_path: Path) -> None:
    good = config(tmp_path, 80).webhook
    with raises(InputError, reason="bad_url"):
        Publisher(
            DoorConfig(webhook=WebhookSection(url="http://example.org/", secret_file=good.secret_file)), door.open
        )
    (tmp_path / "secret").chmod(0o644)
    with raises(IntegrityError, reason="secret_exposed"):
        Publisher(DoorConfig(webhook=good), door.open)

"""What moves a lock: signed requests and messages through a broker, which are there or not."""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from edge_oneshot_device.door.configuration import (
    DoorConfig,
    LockSection,
    MqttLockSection,
    MqttSection,
    WebhookLockSection,
)
from edge_oneshot_device.door.guard import Guard
from edge_oneshot_device.door.lock_drivers import MqttLock, WebhookLock, driver_of
from edge_oneshot_device.door.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, signature
from edge_oneshot_device.errors import MachineError
from tests import ROOT
from tests.device.door.waiting import wait_until
from tests.raising import raises

SECRET = b"0123456789abcdef0123456789abcdef"
needs_broker = pytest.mark.skipif(shutil.which("mosquitto") is None, reason="no broker is installed")


class LockController(HTTPServer):
    """A lock that takes signed requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.status = 204


class Handler(BaseHTTPRequestHandler):
    server: LockController

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        timestamp = self.headers[TIMESTAMP_HEADER]
        assert self.headers[SIGNATURE_HEADER] == signature(SECRET, timestamp, body)
        assert abs(time.time() - int(timestamp)) < 60
        self.server.requests.append(msgspec.json.decode(body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def controller() -> Iterator[LockController]:
    with LockController() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def secret(tmp_path: Path) -> str:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    return str(path)


def webhook(controller: LockController, secret: str) -> WebhookLockSection:
    return WebhookLockSection(url=f"http://127.0.0.1:{controller.server_port}/lock", secret_file=secret)


def test_a_request_says_what_to_do_for_how_long_and_is_no_copy_of_another(
    controller: LockController, secret: str
) -> None:
    driver = WebhookLock(webhook(controller, secret))
    driver.unlock(2.5)
    driver.lock()
    opened, locked = controller.requests
    assert (opened["action"], opened["seconds"]) == ("unlock", 2.5)
    assert (locked["action"], locked["seconds"]) == ("lock", 0.0)
    assert opened["nonce"] != locked["nonce"]
    assert abs(opened["at"] - time.time()) < 60


def test_the_receiver_on_the_page_takes_genuine_requests_alone() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "reference" / "lock.md").read_text(), re.DOTALL)
    receiver: dict[str, Any] = {}
    exec(block, receiver)  # noqa: S102 (our own page)
    now, body = str(int(time.time())), b'{"action":"unlock"}'
    genuine = signature(SECRET, now, body)
    assert receiver["is_genuine"](SECRET, now, genuine, body)
    assert not receiver["is_genuine"](SECRET, now, genuine, body + b" ")
    assert not receiver["is_genuine"](SECRET[::-1], now, genuine, body)
    old = str(int(time.time()) - 3600)
    assert not receiver["is_genuine"](SECRET, old, signature(SECRET, old, body), body)
    assert not receiver["is_genuine"](SECRET, "", signature(SECRET, "", body), body)


def test_a_lock_that_refuses_is_an_error(controller: LockController, secret: str) -> None:
    controller.status = 500
    with raises(MachineError, reason="request_failed"):
        WebhookLock(webhook(controller, secret)).lock()


def test_a_guard_moves_a_webhook_lock_and_locks_it_at_the_end(controller: LockController, secret: str) -> None:
    config = DoorConfig(lock=LockSection(kind="webhook", pulse=60.0, webhook=webhook(controller, secret)))
    actions = lambda: [request["action"] for request in controller.requests]  # noqa: E731
    with Guard(config) as guard:
        assert guard.fault is None
        assert actions() == ["lock"]
        guard.unlock(60.0)
        wait_until(lambda: actions() == ["lock", "unlock"])
        assert 0 < controller.requests[-1]["seconds"] <= 60.0
    assert actions()[-1] == "lock"


def test_a_webhook_lock_that_is_away_is_a_fault_that_passes(controller: LockController, secret: str) -> None:
    controller.status = 503
    config = DoorConfig(lock=LockSection(kind="webhook", webhook=webhook(controller, secret)))
    with Guard(config) as guard:
        assert "could not be locked" in str(guard.fault)
        controller.status = 204
        wait_until(lambda: (guard.beat(), guard.fault is None)[-1])


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[MqttSection]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "broker").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["mosquitto", "-c", tmp_path / "broker"], stdout=log, stderr=log)
    wait_until(lambda: _listens(port))
    yield MqttSection(host="127.0.0.1", port=port, tls=False)
    process.terminate()
    process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.fixture
def heard(broker: MqttSection) -> Iterator[list[bytes]]:
    """The messages that the lock gets."""
    messages: list[bytes] = []
    subscribed = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: messages.append(message.payload)
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect(broker.host, broker.port)
    client.subscribe("lock/set", 1)
    client.loop_start()
    assert subscribed.wait(60)
    yield messages
    end(client)


def end(client: Client) -> None:
    """End the connection of a client, and its thread."""
    client.disconnect()
    client.loop_stop()


@needs_broker
def test_a_guard_moves_an_mqtt_lock_and_the_broker_locks_it_when_the_guard_is_killed(
    broker: MqttSection, heard: list[bytes]
) -> None:
    lock = LockSection(kind="mqtt", pulse=60.0, mqtt=MqttLockSection(topic="lock/set"))
    with Guard(DoorConfig(lock=lock, mqtt=broker)) as guard:
        assert guard.fault is None
        guard.unlock(60.0)
        wait_until(lambda: heard == [b"LOCK", b"UNLOCK"])
        os.kill(guard._process.pid, signal.SIGKILL)
        # nobody starts it again here: this is the broker
        wait_until(lambda: heard == [b"LOCK", b"UNLOCK", b"LOCK"])


@needs_broker
def test_a_message_that_opens_expires_for_a_lock_that_is_away(broker: MqttSection) -> None:
    driver = MqttLock(MqttLockSection(topic="lock/set"), broker)
    got: list[bytes] = []
    subscribed = threading.Event()
    absent = Client(CallbackAPIVersion.VERSION2, "the-lock", clean_session=False)
    absent.on_subscribe = lambda *_: subscribed.set()
    absent.connect(broker.host, broker.port)
    absent.subscribe("lock/set", 1)
    absent.loop_start()
    assert subscribed.wait(60)
    end(absent)
    driver.unlock(1.0)
    time.sleep(2.1)  # the broker counts whole seconds
    driver.lock()
    back = Client(CallbackAPIVersion.VERSION2, "the-lock", clean_session=False)
    back.on_message = lambda _client, _data, message: got.append(message.payload)
    back.connect(broker.host, broker.port)
    back.loop_start()
    wait_until(lambda: got)
    end(back)
    end(driver._client)
    assert got == [b"LOCK"]


@needs_broker
def test_an_mqtt_lock_works_again_after_its_broker_was_away(broker: MqttSection, heard: list[bytes]) -> None:
    driver = MqttLock(MqttLockSection(topic="lock/set"), broker)
    driver.lock()
    end(driver._client)
    driver.lock()
    wait_until(lambda: heard == [b"LOCK", b"LOCK"])
    end(driver._client)


def test_a_broker_that_is_away_is_an_error() -> None:
    driver = MqttLock(MqttLockSection(topic="lock/set"), MqttSection(host="127.0.0.1", port=1, tls=False))
    with pytest.raises(OSError, match="refused"):
        driver.lock()


@pytest.mark.parametrize("kind", ["none", "gpio", "webhook", "mqtt"])
def test_a_driver_opens_nothing_before_it_is_called(kind: Any) -> None:
    assert driver_of(DoorConfig(lock=LockSection(kind=kind)))

"""What the tests of events share: a gallery with its rows, a real broker, and who listens to it."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from edge_oneshot_device.door.events import record_change
from edge_oneshot_device.door.states import Change
from edge_oneshot_device.gallery import audit
from edge_oneshot_device.gallery.clock import SYSTEM, Clock
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key
from tests.device.door.waiting import wait_until
from tests.samples.galleries import MINE, SIZE, vectors

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage

MOSQUITTO: Final = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
needs_broker = pytest.mark.skipif(
    MOSQUITTO is None or find_spec("paho") is None, reason="no broker, or no client, is installed"
)

TOPIC: Final = "edge-oneshot/door"
OPENED: Final = Change("approaching", "accepted", "unlocked")
REFUSED: Final = Change("approaching", "rejected", "refused")

# what `recognition.attempts` writes of a decision
SECRET_FACTS: Final = {
    "score": 0.87654,
    "threshold": 0.65432,
    "variant": "float32",
    "runtime": "fake",
    "fingerprint": MINE,
}


class Door:
    """The gallery of a door, in a state folder; its key lies beside it."""

    def __init__(self, folder: Path, clock: Clock = SYSTEM) -> None:
        self.folder, self.clock = folder / "state", clock
        self.folder.mkdir()
        self.path, self.key = self.folder / "gallery.db", folder / "key"
        create_key(self.key)
        self.gallery = self.open(create=True)
        self.gallery.enrol("ada", vectors())

    def open(self, *, create: bool = False) -> Gallery:
        """The gallery once more; for another thread."""
        return Gallery.open(self.path, MINE, SIZE, KeySource(self.key), self.clock, create=create)

    def open_and_close(self, person: str | None = "ada", times: int = 1) -> None:
        """So many changes of state."""
        for _ in range(times):
            record_change(self.gallery, OPENED, reason="match", person=person)

    def decide(self, act: str, detail: Mapping[str, Any], person: str | None = None) -> None:
        """A decision."""
        number = None if person is None else self.gallery.number_of(person)
        with self.gallery.writing() as transaction:
            audit.append(transaction, act, number, {**SECRET_FACTS, **detail})

    def numbers(self) -> list[int]:
        """The numbers of all rows that a door wrote."""
        return [row.seq for row in self.gallery.rows() if row.act == "door"]


@contextmanager
def a_door(folder: Path, clock: Clock = SYSTEM) -> Iterator[Door]:
    """A door with a gallery, which is closed at the end."""
    door = Door(folder, clock)
    try:
        yield door
    finally:
        door.gallery.close()


class Broker:
    """A mosquitto on a port of its own, which keeps what it holds over a restart.

    Args:
        folder: For its files.
        lines: Further lines of its configuration.
        listener: Further lines of its listener's.
    """

    def __init__(self, folder: Path, lines: str = "allow_anonymous true", listener: str = "") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.log = folder / "mosquitto.log"
        self._file = folder / "mosquitto.conf"
        # as root it would become a user who cannot read the test's folder
        own = f"user root\npersistence true\npersistence_location {folder}/\n"
        self._file.write_text(f"{own}listener {self.port} 127.0.0.1\n{listener}\n{lines}\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        assert MOSQUITTO is not None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-v", "-c", str(self._file)], stdout=log, stderr=log)
        wait_until(self._listens)

    def stop(self) -> None:
        """End it; it keeps sessions and messages."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


@contextmanager
def a_broker(folder: Path, lines: str = "allow_anonymous true", listener: str = "") -> Iterator[Broker]:
    """A broker that is started, and ends at the end; arguments as of `Broker`."""
    broker = Broker(folder, lines, listener)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


class Listener:
    """Somebody who hears everything, and misses nothing while the broker is away.

    Args:
        broker: The broker.
        user: With the password ``abc``; None: anonymous.
    """

    def __init__(self, broker: Broker, user: str | None = None) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        self.heard: list[MQTTMessage] = []
        self._subscribed = threading.Event()
        name = user or "listener"
        self._client = Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTProtocolVersion.MQTTv5)
        if user is not None:
            self._client.username_pw_set(user, "abc")
        self._client.on_message = lambda _client, _data, message: self.heard.append(message)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.reconnect_delay_set(1, 1)
        kept = Properties(PacketTypes.CONNECT)
        kept.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", broker.port, clean_start=False, properties=kept)
        self._client.loop_start()
        wait_until(self._subscribed.is_set)

    def say(self, topic: str, content: bytes, *, retain: bool = False) -> None:
        """Publish something, and wait until the broker has it."""
        self._client.publish(topic, content, qos=1, retain=retain).wait_for_publish(60)

    def on(self, topic: str) -> list[bytes]:
        """What was heard on a topic below the door's."""
        return [bytes(message.payload) for message in list(self.heard) if message.topic == f"{TOPIC}/{topic}"]

    def events(self) -> list[dict[str, Any]]:
        """The events that were heard."""
        return [msgspec.json.decode(content) for content in self.on("event")]

    def close(self) -> None:
        """End it."""
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def a_listener(broker: Broker, user: str | None = None) -> Iterator[Listener]:
    """A listener that is connected, and ends at the end; arguments as of `Listener`."""
    listener = Listener(broker, user)
    try:
        yield listener
    finally:
        listener.close()


def settle() -> None:
    """Time for what must not happen."""
    time.sleep(0.3)

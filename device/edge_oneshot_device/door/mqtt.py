"""The broker that is told what happens, and that may pass commands on; `docs/reference/door-events.md` has the topics.

One thread does all of it: it connects, sends one message after the other and waits for what acknowledges it. Nothing
waits in a client's memory, so that nothing is sent late, out of order, or after it was sent again. It is MQTT 5: only
there a broker says that it refuses a message, and a client that it wants no old ones.
"""

import select
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec

from edge_oneshot_device.door.configuration import DoorConfig, MqttSection
from edge_oneshot_device.door.discovery import discovery, door_id
from edge_oneshot_device.door.events import FORGOTTEN, Command, Event, Status
from edge_oneshot_device.door.mqtt_client import new_client
from edge_oneshot_device.door.signing import is_local
from edge_oneshot_device.door.waker import Waker
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.text import one_line

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

_KEEPALIVE: Final = 20  # seconds; without a word for half as long again, a broker takes the door for lost
_PATIENCE: Final = 5.0  # seconds for a connection, and for an acknowledgement
_FAREWELL: Final = 1.0
_MOST_BYTES: Final = 4096  # of a message that the broker may send
_MOST_CHARACTERS: Final = 200  # of a fault
_COMMANDS: Final = 5  # taken in so many seconds, at most
_WINDOW: Final = 10.0
_FRESH: Final = 5.0  # seconds after which a command that nobody fetched is dropped


class MqttReceiver:
    """A broker, see `publisher.Receiver`.

    Args:
        config: Of a door with a broker.

    Attributes:
        status: How the door is, to be shown; set by any thread, before `wake`.

    Raises:
        InputError: Reason ``bad_topic``; ``bad_ca_file``; ``unsafe_commands``: commands without encryption through a
            network that is not one's own.
        IntegrityError, MachineError: The password cannot be read, see `signing.read_secret`; or ``extra_missing``.
    """

    name = "mqtt"

    def __init__(self, config: DoorConfig) -> None:
        require_section(config.mqtt)
        self.status: Status | None = None
        self.fault: str | None = None
        self._config, self._section = config, config.mqtt
        self._topic = config.mqtt.topic
        self._waker = Waker()
        self._stopping = False
        self._client: Client | None = None
        self._connected = False  # the broker has accepted the client
        self._shown: Status | None = None
        self._answers: dict[int | str, str | None] = {}  # what the broker refuses, by message; None: it does not
        self._commands: deque[tuple[Command, float]] = deque(maxlen=_COMMANDS)
        self._times: deque[float] = deque(maxlen=_COMMANDS)
        self._new_client()  # password and certificates are there

    def open(self) -> None:
        """Connect, and say that the door is there, once it is known how it is.

        Raises:
            MachineError: Reason ``broker_away`` or ``broker_refused``.
        """
        client, section = self._new_client(), self._section
        self._answers.clear()
        self._connected, self._shown = False, None
        try:
            client.connect(section.host, section.port, _KEEPALIVE, clean_start=True, properties=_limits())
        except (OSError, ValueError) as error:
            raise self._away(str(error)) from error
        self._client = client
        self._await("connect")
        self._connected = True
        if section.commands:
            from paho.mqtt.subscribeoptions import SubscribeOptions

            # no old messages, and those that are to be kept can be told from others
            options = SubscribeOptions(qos=0, retainAsPublished=True, retainHandling=2)
            _, number = client.subscribe(f"{self._topic}/command", options=options)
            assert number is not None
            try:
                self._await(number)
                self.fault = None
            except MachineError as error:
                if error.reason != "broker_refused":
                    raise
                self.fault = f"commands do not arrive: {error}"
        if section.discovery:
            topic, content = discovery(self._config)
            self._publish(topic, content, retain=True)
        self._show()

    def send(self, event: Event) -> None:
        """Send an event, and wait until the broker has it; raises what `open` does."""
        self._publish(f"{self._topic}/event", event.encode())
        last = {"id": event.id, "at": event.at, "person": event.person, "reason": event.reason}
        if event.state == "unlocked" and event.person is not None:
            self._publish(f"{self._topic}/last_person", msgspec.json.encode(last), retain=True)
        elif event.state == "refused":
            self._publish(f"{self._topic}/last_refusal", msgspec.json.encode(last), retain=True)
        elif event.kind == FORGOTTEN:  # the name that the broker keeps may be theirs
            for topic in ("last_person", "last_refusal"):
                self._publish(f"{self._topic}/{topic}", msgspec.json.encode(last), retain=True)

    def rest(self, seconds: float) -> None:
        """Serve the connection until `wake` is called, so many seconds at most; raises what `open` does."""
        end = time.monotonic() + seconds
        while not self._stopping and not self._turn(max(0.0, end - time.monotonic())) and time.monotonic() < end:
            pass

    def wake(self) -> None:
        """End `rest`."""
        self._waker.wake()

    def stop(self) -> None:
        """End whatever it waits for."""
        self._stopping = True
        self._waker.wake()

    def close(self) -> None:
        """Say that the door is gone, where it ends on purpose, and end the connection. Otherwise the broker says so."""
        client = self._client
        if client is None:
            return
        try:
            if self._stopping and client.socket() is not None:
                sent = client.publish(f"{self._topic}/availability", b"offline", qos=1, retain=True)
                end = time.monotonic() + _FAREWELL
                while sent.mid not in self._answers and time.monotonic() < end:
                    self._turn(max(0.0, end - time.monotonic()))
                client.disconnect()
        except MachineError:
            pass  # it is gone already
        finally:
            self._client = None
            if (sock := client.socket()) is not None:
                sock.close()

    def commands(self) -> list[Command]:
        """The permitted commands that came since the last call; for any one thread."""
        found = []
        while self._commands:
            command, arrived = self._commands.popleft()
            if time.monotonic() - arrived <= _FRESH:
                found.append(command)
        return found

    def _publish(self, topic: str, content: bytes, *, retain: bool = False) -> None:
        assert self._client is not None
        self._await(self._client.publish(topic, content, qos=1, retain=retain).mid)

    def _await(self, message: int | str) -> None:
        """Wait until the broker has answered a message, and raise an error if it refuses it."""
        end = time.monotonic() + _PATIENCE
        while message not in self._answers:
            left = end - time.monotonic()
            if left <= 0 or self._stopping:
                raise self._away("it does not answer")
            self._turn(left)
        refusal = self._answers.pop(message)
        if refusal is not None:
            broker = f"{self._section.host}:{self._section.port}"
            message = f"the broker {broker} refuses: {refusal}; check user, password and what it permits"
            raise MachineError(message, reason="broker_refused")

    def _turn(self, seconds: float) -> bool:
        """Take and send what there is, or wait for it; returns whether somebody called `wake`."""
        client = self._client
        assert client is not None
        self._show()
        sock = client.socket()
        if sock is None:
            raise self._away(self._answers.get("lost") or "the connection was lost")
        # decrypted already, so that no socket tells of it
        pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        writing = [sock] if client.want_write() else []
        reading: list[Any] = [sock, self._waker]
        readable, writable, _ = select.select(reading, writing, [], 0 if pending else min(seconds, 1.0))
        if self._waker in readable:
            self._waker.clear()
        if sock in readable or pending:
            client.loop_read()
        if writable:
            client.loop_write()
        client.loop_misc()
        return self._waker in readable

    def _show(self) -> None:
        """Publish the newest status if it is another one than before."""
        status = self.status
        if self._client is None or not self._connected or status is None or status == self._shown:
            return
        lock = "unlocked" if status.state in ("unlocked", "held") else "locked"
        fault = None if status.fault is None else one_line(status.fault)[:_MOST_CHARACTERS]
        content = {"state": status.state, "lock": lock, "fault": fault, "contact": status.contact}
        self._client.publish(f"{self._topic}/state", msgspec.json.encode(content), qos=0, retain=True)
        if self._shown is None:
            # not before: the broker may still have a state of before the start
            self._client.publish(f"{self._topic}/availability", b"online", qos=1, retain=True)
        self._shown = status

    def _new_client(self) -> "Client":
        # the same name each time, so that the broker ends a connection that is left over, and only then takes the new
        client = new_client(self._section, door_id(self._topic), _PATIENCE)
        client.will_set(f"{self._topic}/availability", b"offline", qos=1, retain=True)
        client.on_connect = lambda _client, _data, _flags, code, _properties: self._answer("connect", code)
        client.on_publish = lambda _client, _data, number, code, _properties: self._answer(number, code)
        client.on_subscribe = lambda _client, _data, number, codes, _properties: self._answer(number, codes[0])
        client.on_disconnect = lambda _client, _data, _flags, code, _properties: self._lost(code)
        client.on_message = lambda _client, _data, message: self._take(message)
        return client

    def _answer(self, message: int | str, code: "ReasonCode") -> None:
        self._answers[message] = one_line(str(code)) if code.is_failure else None

    def _lost(self, code: "ReasonCode") -> None:
        self._answers["lost"] = one_line(str(code))

    def _take(self, message: "MQTTMessage") -> None:
        """Take a command. One that the broker keeps for later would open the door at the next connection."""
        permitted: dict[bytes, Command] = {name.encode(): name for name in self._section.commands}
        command = permitted.get(bytes(message.payload))
        now = time.monotonic()
        if command is None or message.retain or message.topic != f"{self._topic}/command":
            return
        if len(self._times) == _COMMANDS and now - self._times[0] < _WINDOW:
            return
        self._times.append(now)
        self._commands.append((command, now))

    def _away(self, fault: str) -> MachineError:
        broker = f"{self._section.host}:{self._section.port}"
        message = (
            f"the broker {broker} is away: {one_line(fault)[:_MOST_CHARACTERS]}; what happens meanwhile is sent later"
        )
        return MachineError(message, reason="broker_away")


def require_section(section: MqttSection) -> None:
    """Check what can be wrong with a broker's section; raises what `MqttReceiver` does, but for files."""
    for key, topic in (("topic", section.topic), ("discovery", section.discovery)):
        bad = any(character in topic for character in "+#\0") or topic.startswith(("$", "/")) or topic.endswith("/")
        if bad or len(topic.encode()) > 200 or (key == "topic" and not topic):
            raise InputError(f"mqtt.{key} {topic[:80]!a} is no topic: write such as home/door", reason="bad_topic")
    if section.commands and not section.tls and not is_local(section.host):
        message = "mqtt.commands without mqtt.tls: anybody on the way to the broker could open; set tls = true"
        raise InputError(message, reason="unsafe_commands")


def _limits() -> Any:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    limits = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    limits.MaximumPacketSize = _MOST_BYTES
    return limits

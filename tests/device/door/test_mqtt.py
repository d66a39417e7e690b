"""A real broker is told what happens, in order and without a loss; what it passes on opens only where it may."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge_oneshot_device.diagnostics import door_trial
from edge_oneshot_device.door import mqtt, publisher
from edge_oneshot_device.door.configuration import DoorConfig, MqttSection
from edge_oneshot_device.door.events import Status, record_alarm, record_change
from edge_oneshot_device.door.publisher import Publisher
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from tests import ROOT
from tests.device.door.outgoing import (
    OPENED,
    REFUSED,
    SECRET_FACTS,
    TOPIC,
    Broker,
    Door,
    Listener,
    a_broker,
    a_door,
    a_listener,
    needs_broker,
    settle,
)
from tests.device.door.waiting import wait_until
from tests.raising import raises

pytestmark = needs_broker


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with a_door(tmp_path) as made:
        yield made


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with a_broker(tmp_path) as made:
        yield made


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    with a_listener(broker) as made:
        yield made


def config(broker: Broker, **keys: Any) -> DoorConfig:
    return DoorConfig(
        name="Front", mqtt=MqttSection(**{"host": "127.0.0.1", "port": broker.port, "tls": False, **keys})
    )


@contextmanager
def told(door: Door, made: DoorConfig) -> Iterator[Publisher]:
    """A publisher that is connected."""
    with Publisher(made, door.open) as started:
        started.tell(Status("idle"))
        wait_until(lambda: started.health()[0].fault is None)
        yield started


def numbers(listener: Listener) -> list[int]:
    return [event["number"] for event in listener.events()]


def test_events_arrive_once_and_in_order_with_what_was_last(door: Door, broker: Broker, listener: Listener) -> None:
    with told(door, config(broker)) as events:
        record_change(door.gallery, OPENED, reason="match", person="ada")
        events.tell(Status("unlocked"))
        door.decide("identify", {"accepted": False, "reason": "below_threshold"})
        record_change(door.gallery, REFUSED, reason="below_threshold", person=None)
        record_alarm(door.gallery, "forced", "the door was forced")
        events.tell(Status("refused"))
        wait_until(lambda: len(listener.events()) == 4)
    heard = listener.events()
    assert [event["kind"] for event in heard] == ["state", "decision", "state", "alarm"]
    assert [event["number"] for event in heard] == sorted(event["number"] for event in heard)
    assert [event["door"] for event in heard] == ["Front"] * 4
    (person,) = listener.on("last_person")
    (refusal,) = listener.on("last_refusal")
    assert json.loads(person)["person"] == "ada"
    assert (json.loads(refusal)["reason"], json.loads(refusal)["id"]) == ("below_threshold", heard[2]["id"])
    everything = b"".join(bytes(message.payload) for message in listener.heard).decode()
    assert str(SECRET_FACTS["score"]) not in everything
    assert str(SECRET_FACTS["threshold"]) not in everything


def test_the_broker_keeps_no_name_of_who_was_forgotten(door: Door, broker: Broker) -> None:
    with told(door, config(broker)) as events:
        record_change(door.gallery, OPENED, reason="match", person="ada")
        record_change(door.gallery, REFUSED, reason="wrong_word", person="ada")
        events.tell(Status("refused"))
        with a_listener(broker) as early:
            wait_until(lambda: early.on("last_person") and early.on("last_refusal"))
            door.gallery.forget("ada")
            events.tell(Status("idle"))
            wait_until(lambda: any(event["kind"] == "forgotten" for event in early.events()))
            wait_until(lambda: len(early.on("last_refusal")) > 1)
        with a_listener(broker) as late:
            wait_until(lambda: late.on("last_person") and late.on("last_refusal"))
            kept = [json.loads(late.on(topic)[0]) for topic in ("last_person", "last_refusal")]
    assert [one["person"] for one in kept] == [None, None]


def test_the_state_is_shown_to_whoever_comes_later(door: Door, broker: Broker) -> None:
    with told(door, config(broker)) as events:
        events.tell(Status("idle", contact="closed"))
        with a_listener(broker) as early:
            wait_until(lambda: early.on("state"))
            events.tell(Status("faulty", fault="the camera\nis away", contact="open"))
            wait_until(lambda: len(early.on("state")) > 1)
        with a_listener(broker) as late:
            wait_until(lambda: late.on("availability"))
            expected = {"state": "faulty", "lock": "locked", "fault": "the camera is away", "contact": "open"}
            assert [json.loads(content) for content in late.on("state")][-1] == expected
            assert late.on("availability") == [b"online"]
            assert late.on("event") == []


def test_a_door_is_not_said_to_be_there_before_it_is_known_how_it_is(
    door: Door, broker: Broker, listener: Listener
) -> None:
    listener.say(f"{TOPIC}/state", b'{"state": "held"}', retain=True)
    with Publisher(config(broker), door.open) as events:
        wait_until(lambda: events.health()[0].fault is None)
        settle()
        assert listener.on("availability") == []
        events.tell(Status("idle"))
        wait_until(lambda: listener.on("availability") == [b"online"])
    heard = [(one.topic.removeprefix(f"{TOPIC}/"), bytes(one.payload)[:17]) for one in listener.heard]
    assert heard.index(("state", b'{"state":"idle","')) < heard.index(("availability", b"online"))


def test_home_assistant_finds_the_door_and_can_open_it_only_where_that_is_permitted(
    door: Door, broker: Broker, listener: Listener
) -> None:
    def found() -> dict[str, Any]:
        heard = [one for one in list(listener.heard) if one.topic.startswith("homeassistant/device/")]
        return json.loads(heard[-1].payload)["components"] if heard else {}

    with told(door, config(broker)):
        wait_until(found)
        before = found()
    assert before["lock"] == {"platform": "lock"}  # which removes it
    assert before["locked"]["device_class"] == "lock"
    assert "command_topic" not in json.dumps(before)
    with told(door, config(broker, commands=("unlock", "hold"))):
        wait_until(lambda: found() != before)
    after = found()
    assert after["lock"]["command_topic"] == f"{TOPIC}/command"
    assert after["locked"] == {"platform": "binary_sensor"}
    assert after["hold"]["payload_press"] == "hold"
    assert after["release"] == {"platform": "button"}


def test_a_door_that_ends_says_so_and_one_that_is_killed_is_said_to_be_gone(
    door: Door, broker: Broker, listener: Listener
) -> None:
    with told(door, config(broker)):
        pass
    wait_until(lambda: listener.on("availability") == [b"online", b"offline"])
    with a_writer(door, broker, 0):
        wait_until(lambda: listener.on("availability") == [b"online", b"offline", b"online"])
    wait_until(lambda: listener.on("availability")[-1] == b"offline")


# commands


def test_a_permitted_command_arrives_and_no_other(door: Door, broker: Broker, listener: Listener) -> None:
    with told(door, config(broker, commands=("unlock",))) as events:
        for content in (b"hold", b"release", b"UNLOCK", b"", b"unlock ", b"unlock\0", b"unlock" * 100, b"\xff"):
            listener.say(f"{TOPIC}/command", content)
        listener.say(f"{TOPIC}/commands", b"unlock")
        settle()
        assert events.commands() == []
        listener.say(f"{TOPIC}/command", b"unlock")
        got: list[str] = []
        wait_until(lambda: got.extend(events.commands()) or got)
        assert got == ["unlock"]
        assert events.commands() == []


def test_without_a_permission_no_command_arrives(door: Door, broker: Broker, listener: Listener) -> None:
    with told(door, config(broker)) as events:
        listener.say(f"{TOPIC}/command", b"unlock")
        settle()
        assert events.commands() == []
    assert "SUBSCRIBE from edge-oneshot-" not in broker.log.read_text()


def test_a_command_that_the_broker_keeps_opens_neither_now_nor_at_the_next_connection(
    door: Door, broker: Broker, listener: Listener
) -> None:
    made = config(broker, commands=("unlock",))
    with told(door, made) as events:
        listener.say(f"{TOPIC}/command", b"unlock", retain=True)
        settle()
        assert events.commands() == []
    with told(door, made) as events:
        settle()
        assert events.commands() == []


def test_a_command_of_before_the_connection_opens_nothing(door: Door, broker: Broker, listener: Listener) -> None:
    made = config(broker, commands=("unlock",))
    with told(door, made):
        pass
    listener.say(f"{TOPIC}/command", b"unlock")
    with told(door, made) as events:
        settle()
        assert events.commands() == []


def test_a_flood_of_commands_is_cut_off(
    door: Door, broker: Broker, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "_WINDOW", 3600.0)
    with told(door, config(broker, commands=("unlock", "hold"))) as events:
        got: list[str] = []
        for _ in range(50):
            listener.say(f"{TOPIC}/command", b"unlock")
        wait_until(lambda: got.extend(events.commands()) or len(got) == 5)
        listener.say(f"{TOPIC}/command", b"hold")
        settle()
        assert events.commands() == []


def test_a_command_that_nobody_fetched_in_time_is_dropped(
    door: Door, broker: Broker, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "_FRESH", 0.0)
    with told(door, config(broker, commands=("unlock",))) as events:
        listener.say(f"{TOPIC}/command", b"unlock")
        settle()
        assert events.commands() == []


def test_commands_that_the_broker_does_not_permit_are_a_fault_but_events_flow(door: Door, broker: Broker) -> None:
    proxy = Proxy(broker.port)
    proxy.edit = lambda content: content[:-1] + b"\x87" if content[:1] == SUBACK else content
    try:
        with Publisher(config(broker, port=proxy.port, commands=("unlock",)), door.open) as events:
            wait_until(lambda: "commands do not arrive" in str(events.health()[0].fault))
            door.open_and_close()
            wait_until(lambda: events.health()[0].sent == 1)
    finally:
        proxy.close()


# broker away, processes killed


def test_what_happens_while_the_broker_is_away_arrives_when_it_is_back(
    door: Door, broker: Broker, listener: Listener
) -> None:
    with told(door, config(broker)) as events:
        door.open_and_close(times=2)
        wait_until(lambda: numbers(listener) == door.numbers())
        for _ in range(2):
            broker.stop()
            door.open_and_close(times=5)
            wait_until(lambda: "away" in str(events.health()[0].fault))
            wait_until(lambda: events.health()[0].waiting >= 5)
            broker.start()
            wait_until(lambda: len(numbers(listener)) >= len(door.numbers()))
        door.open_and_close()
        events.tell(Status("unlocked"))
        wait_until(lambda: len(numbers(listener)) >= len(door.numbers()))
    assert numbers(listener) == door.numbers()


def test_a_broker_that_is_away_at_the_start_loses_nothing(door: Door, broker: Broker, listener: Listener) -> None:
    broker.stop()
    with Publisher(config(broker), door.open) as events:
        wait_until(lambda: "away" in str(events.health()[0].fault))
        door.open_and_close(times=3)
        broker.start()
        wait_until(lambda: numbers(listener) == door.numbers())


def test_a_broker_that_is_back_is_told_within_ten_seconds_by_the_bounds_alone() -> None:
    assert mqtt._PATIENCE + publisher._PAUSES[1] <= 10.0


WRITER = """
import sys, time
from pathlib import Path
from edge_oneshot_device.door.configuration import DoorConfig, MqttSection
from edge_oneshot_device.door.events import Status, record_change
from edge_oneshot_device.door.publisher import Publisher
from edge_oneshot_device.door.states import Change
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource

path, key, port, rows = sys.argv[1:]
def opened():
    return Gallery.open(Path(path), key=KeySource(Path(key)))
config = DoorConfig(mqtt=MqttSection(host="127.0.0.1", port=int(port), tls=False))
with Publisher(config, opened) as events, opened() as gallery:
    events.tell(Status("idle"))
    for _ in range(int(rows)):
        record_change(gallery, Change("approaching", "accepted", "unlocked"), reason="match", person="ada")
    time.sleep(3600)
"""


@contextmanager
def a_writer(door: Door, broker: Broker, rows: int) -> Iterator[None]:
    """A process that writes so many rows and passes them on; at the end it is killed."""
    words = [sys.executable, "-c", WRITER, door.path, door.key, broker.port, rows]
    path = os.pathsep.join(str(ROOT / folder) for folder in ("device", "export", "."))
    process = subprocess.Popen([str(word) for word in words], env={**os.environ, "PYTHONPATH": path})
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_a_process_that_is_killed_between_any_two_rows_loses_none_and_repeats_only_with_the_same_id(
    door: Door, broker: Broker, listener: Listener
) -> None:
    with told(door, config(broker)):
        pass
    for wanted in (1, 6):
        with a_writer(door, broker, 8):
            wait_until(lambda wanted=wanted: len(numbers(listener)) >= wanted)
    with told(door, config(broker)):
        wait_until(lambda: set(numbers(listener)) == set(door.numbers()))
    heard = listener.events()
    assert len({event["id"] for event in heard}) == len({event["number"] for event in heard})
    assert [event["number"] for event in heard] == sorted(event["number"] for event in heard)
    assert len(heard) - len(door.numbers()) <= 2  # one a kill at most


SUBACK = b"\x90"


class Proxy:
    """Between a door and its broker; it can change, or swallow, what the broker says."""

    def __init__(self, port: int) -> None:
        self.edit: Callable[[bytes], bytes] = lambda content: content
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections."""
        while self._open:
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, target, target is near), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, edits: bool) -> None:
        with source, suppress(OSError):
            while content := source.recv(65536):
                target.sendall(self.edit(content) if edits else content)
            target.shutdown(socket.SHUT_RDWR)


def swallow(_content: bytes) -> bytes:
    return b""


def test_an_event_whose_acknowledgement_is_lost_comes_again_with_the_same_id_before_the_next(
    door: Door, broker: Broker, listener: Listener
) -> None:
    proxy = Proxy(broker.port)
    try:
        with told(door, config(broker, port=proxy.port)):
            proxy.edit = swallow
            door.open_and_close(times=2)
            wait_until(lambda: numbers(listener))
            proxy.cut()
            proxy.edit = bytes
            wait_until(lambda: door.numbers()[1] in numbers(listener))
    finally:
        proxy.close()
    *firsts, second = listener.events()
    assert len(firsts) > 1
    assert all(one == firsts[0] for one in firsts)
    assert [firsts[0]["number"], second["number"]] == door.numbers()


def test_a_broker_that_falls_silent_is_left_and_the_event_sent_again(
    door: Door, broker: Broker, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(broker.port)
    try:
        with told(door, config(broker, port=proxy.port)) as events:
            monkeypatch.setattr(mqtt, "_PATIENCE", 1.0)
            proxy.edit = swallow
            door.open_and_close()
            wait_until(lambda: "does not answer" in str(events.health()[0].fault))
            proxy.edit = bytes
            wait_until(lambda: events.health()[0].sent == 1)
    finally:
        proxy.close()
    assert set(numbers(listener)) == set(door.numbers())


def test_an_event_that_the_broker_refuses_is_kept_and_the_fault_says_so(door: Door, tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text(f"topic write {TOPIC}/state\ntopic write {TOPIC}/availability\n")
    with a_broker(tmp_path, f"allow_anonymous true\nacl_file {acl}") as strict:
        events = Publisher(config(strict, discovery=""), door.open)
        events.start()
        wait_until(lambda: events.health()[0].fault is None)
        door.open_and_close()
        events.tell(Status("unlocked"))
        wait_until(lambda: "Not authorized" in str(events.health()[0].fault))
        assert (events.health()[0].sent, events.health()[0].waiting) == (0, 1)
        events.close()


@pytest.mark.parametrize(
    "content",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\xff\xff\xff\xff", b"\x00" * 50, b""],
    ids=["another protocol", "a length without end", "zeros", "nothing"],
)
def test_what_is_no_broker_is_a_fault_and_no_end(door: Door, content: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with Publisher(DoorConfig(mqtt=MqttSection(host="127.0.0.1", port=port, tls=False)), door.open) as events:
            for _ in range(2):  # it comes again
                connection, _address = listening.accept()
                connection.sendall(content)
                connection.close()
            wait_until(lambda: events.health()[0].fault not in (None, "has not begun"))


# TLS, password and rights


def test_the_rights_that_docs_door_events_gives_are_enough_and_no_more(door: Door, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "reference" / "door-events.md").read_text()
    rights = page.partition("```text\n")[2].partition("```")[0]
    assert rights.startswith("user door\n")
    (tmp_path / "acl").write_text(f"{rights}\nuser anybody\ntopic read #\n")
    (tmp_path / "passwords").write_text("door:open sesame\nhomeassistant:abc\nanybody:abc\n")
    subprocess.run(["mosquitto_passwd", "-U", tmp_path / "passwords"], check=True)
    lines = f"allow_anonymous false\npassword_file {tmp_path}/passwords\nacl_file {tmp_path}/acl"
    (tmp_path / "password").write_text("open sesame")
    (tmp_path / "password").chmod(0o600)
    with a_broker(tmp_path, lines) as strict:
        keys: dict[str, Any] = {"user": "door", "password_file": str(tmp_path / "password"), "commands": ("unlock",)}
        with (
            a_listener(strict, "homeassistant") as assistant,
            a_listener(strict, "anybody") as anybody,
            told(door, config(strict, **keys)) as events,
        ):
            record_change(door.gallery, OPENED, reason="match", person="ada")
            record_change(door.gallery, REFUSED, reason="ambiguous", person=None)
            events.tell(Status("refused"))
            wait_until(lambda: assistant.on("last_person") and assistant.on("last_refusal") and assistant.on("state"))
            assert [one for one in list(assistant.heard) if one.topic.startswith("homeassistant/device/")]
            anybody.say(f"{TOPIC}/command", b"unlock")
            settle()
            assert events.commands() == []
            assistant.say(f"{TOPIC}/command", b"unlock")
            got: list[str] = []
            wait_until(lambda: got.extend(events.commands()) or got)


def certify(folder: Path) -> None:
    """A certificate authority, and a certificate of it for 127.0.0.1 with its key."""
    now = datetime.now(UTC)

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])

    def builder(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(named(name)).issuer_name(named("authority"))
        made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
        made = made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        known = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
        return made.add_extension(known, critical=False)

    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(*(name in ("sign", "crl") for name in ("a", "b", "c", "d", "e", "sign", "crl", "f", "g")))
    root = builder("authority", authority)
    root = root.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    root = root.add_extension(usage, critical=True)
    leaf = builder("broker", key).add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
    )
    for name, made in (("ca", root), ("broker", leaf)):
        content = made.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM)
        (folder / f"{name}.crt").write_bytes(content)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "broker.key").write_bytes(private)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Broker]:
    """A broker with TLS that asks for a password."""
    folder = tmp_path / "secure"
    folder.mkdir()
    certify(folder)
    (folder / "passwords").write_text("door:open sesame\n")
    subprocess.run(["mosquitto_passwd", "-U", folder / "passwords"], check=True)
    (folder / "passwords").chmod(0o600)
    listener = f"certfile {folder}/broker.crt\nkeyfile {folder}/broker.key"
    with a_broker(folder, f"allow_anonymous false\npassword_file {folder}/passwords", listener) as made:
        yield made


def secured(secure: Broker, tmp_path: Path, password: str = "open sesame", **keys: Any) -> DoorConfig:  # noqa: S107
    file = tmp_path / "password"
    file.write_text(f"{password}\n")
    file.chmod(0o600)
    keys = {"ca_file": str(tmp_path / "secure" / "ca.crt"), "user": "door", "password_file": str(file), **keys}
    return config(secure, tls=True, **keys)


def test_a_broker_with_tls_and_a_password_is_told(door: Door, secure: Broker, tmp_path: Path) -> None:
    with told(door, secured(secure, tmp_path)) as events:
        door.open_and_close(times=20)
        wait_until(lambda: events.health()[0].sent == 20)


# a socket whose handshake failed is left by the client library
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"password": "wrong"}, "refuses: Not authorized"),
        ({"ca_file": ""}, "certificate verify failed"),
        ({"host": "localhost"}, "certificate is not valid for 'localhost'"),
    ],
)
def test_a_wrong_password_or_a_certificate_that_does_not_fit_is_a_fault(
    door: Door, secure: Broker, tmp_path: Path, keys: dict[str, str], fault: str
) -> None:
    with Publisher(secured(secure, tmp_path, **keys), door.open) as events:
        wait_until(lambda: fault in str(events.health()[0].fault))
        door.open_and_close()
        settle()
        assert events.health()[0].sent == 0


def test_door_check_says_whether_the_broker_lets_the_door_in(secure: Broker, tmp_path: Path) -> None:
    assert door_trial._events(secured(secure, tmp_path)).level == "ok"
    with raises(MachineError, reason="broker_refused"):
        door_trial._events(secured(secure, tmp_path, password="wrong"))  # noqa: S106
    secure.stop()
    assert door_trial._events(secured(secure, tmp_path)).reason == "broker_away"
    with raises(InputError, reason="bad_topic"):
        door_trial._events(secured(secure, tmp_path, topic="#"))


def test_files_that_cannot_be_used_are_found_before_anything_starts(door: Door, broker: Broker, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("open sesame")
    password.chmod(0o644)
    with raises(IntegrityError, reason="secret_exposed"):
        Publisher(config(broker, user="door", password_file=str(password)), door.open)
    for ca_file in (tmp_path / "absent", password):
        with raises(InputError, reason="bad_ca_file"):
            Publisher(config(broker, tls=True, ca_file=str(ca_file)), door.open)


@pytest.mark.parametrize("topic", ["", "a/#", "+/b", "$SYS/door", "/door", "door/", "a\0b", "x" * 201])
def test_what_is_no_topic_is_refused(topic: str) -> None:
    with raises(InputError, match=r"mqtt\.topic", reason="bad_topic"):
        mqtt.require_section(MqttSection(host="127.0.0.1", topic=topic))


@pytest.mark.parametrize(("host", "allowed"), [("127.0.0.1", True), ("broker.local", True), ("broker.example", False)])
def test_commands_without_tls_are_refused_outside_a_network_of_one_s_own(host: str, allowed: bool) -> None:
    section = MqttSection(host=host, tls=False, commands=("unlock",))
    if allowed:
        mqtt.require_section(section)
    else:
        with raises(InputError, reason="unsafe_commands"):
            mqtt.require_section(section)
    mqtt.require_section(MqttSection(host=host, commands=("unlock",)))
    mqtt.require_section(MqttSection(host=host, tls=False))


def test_without_its_package_the_extra_is_named(broker: Broker, monkeypatch: pytest.MonkeyPatch, door: Door) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with raises(MachineError, match="pip install .paho-mqtt", reason="extra_missing"):
        Publisher(config(broker), door.open)

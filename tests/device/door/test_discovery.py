"""What Home Assistant is told of a door, by the rules that it has for such a message."""

import json
from typing import Any, Literal, get_args

import pytest

from edge_oneshot_device.door.configuration import DoorConfig, InputsSection, MqttSection
from edge_oneshot_device.door.discovery import discovery, door_id
from edge_oneshot_device.door.states import State

Permitted = tuple[Literal["unlock", "hold", "release"], ...]


def components(**keys: Any) -> dict[str, dict[str, Any]]:
    _, content = discovery(DoorConfig(mqtt=MqttSection(host="broker", **keys)))
    return json.loads(content)["components"]


def test_the_message_has_what_it_must_have() -> None:
    topic, content = discovery(DoorConfig(name="Front", mqtt=MqttSection(host="broker", topic="home/door")))
    message = json.loads(content)
    own = door_id("home/door")
    assert topic == f"homeassistant/device/{own}/config"
    assert message["device"]["identifiers"] == [own]
    assert message["device"]["name"] == "Front"
    assert message["origin"]["name"]
    assert message["availability"] == [{"topic": "home/door/availability"}]
    shown = {name: one for name, one in message["components"].items() if len(one) > 1}
    assert {"state", "health", "fault", "person", "refusal", "locked"} == set(shown)
    assert len({one["unique_id"] for one in shown.values()}) == len(shown)
    assert all(one["state_topic"].startswith("home/door/") for one in shown.values())
    assert shown["state"]["options"] == list(get_args(State))


def test_each_door_has_an_identifier_of_its_own_that_every_broker_takes() -> None:
    assert door_id("a") != door_id("b")
    assert door_id("a") == door_id("a")
    assert len(door_id("x" * 200)) == 23


@pytest.mark.parametrize("permitted", [(), ("unlock",), ("hold", "release"), ("unlock", "hold", "release")])
def test_only_what_is_permitted_has_a_topic_for_commands(permitted: Permitted) -> None:
    found = components(commands=permitted)
    with_topic = {name for name, one in found.items() if "command_topic" in one}
    assert with_topic == {"lock" if name == "unlock" else name for name in permitted}
    assert (len(found["lock"]) > 1) != (len(found["locked"]) > 1)


def test_a_contact_is_shown_where_there_is_one() -> None:
    assert "contact" not in components()
    made = DoorConfig(mqtt=MqttSection(host="broker"), inputs=InputsSection(door_sensor=5))
    assert json.loads(discovery(made)[1])["components"]["contact"]["device_class"] == "door"

"""What Home Assistant is told of a door, so that it shows it: a device with its lock, sensors and buttons.

The format is that of device discovery, as Home Assistant has it since 2024.11: one retained message a device.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final, get_args

import msgspec

from edge_oneshot_device import __version__
from edge_oneshot_device.door.configuration import DoorConfig
from edge_oneshot_device.door.states import State

_NAME: Final = "Edge One-Shot"
_BUTTONS: Final = {"hold": "Hold open", "release": "End holding open"}


def door_id(topic: str) -> str:
    """An identifier of a door, of 23 characters: as long as every broker allows (MQTT 5.0, 3.1.3.1).

    Args:
        topic: Where its topics begin.
    """
    return f"edge-oneshot-{hashlib.sha256(topic.encode()).hexdigest()[:10]}"


def discovery(config: DoorConfig) -> tuple[str, bytes]:
    """Topic and payload of the message by which Home Assistant finds a door."""
    own, topic = door_id(config.mqtt.topic), config.mqtt.topic
    components = _sensors(topic) | _commands(config.mqtt.commands, topic)
    if config.inputs.door_sensor is not None:
        components["contact"] = {
            "platform": "binary_sensor",
            "name": "Door",
            "device_class": "door",
            "state_topic": f"{topic}/state",
            "value_template": "{{ {'open': 'ON', 'closed': 'OFF'}.get(value_json.contact, 'None') }}",
        }
    for name, component in components.items():
        if len(component) > 1:
            component["unique_id"] = f"{own}-{name}"
    content = {
        "device": {"identifiers": [own], "name": config.name, "manufacturer": _NAME, "sw_version": __version__},
        "origin": {"name": _NAME, "sw_version": __version__},
        "availability": [{"topic": f"{topic}/availability"}],
        "components": components,
    }
    return f"{config.mqtt.discovery}/device/{own}/config", msgspec.json.encode(content)


def _sensors(topic: str) -> dict[str, dict[str, Any]]:
    """What everybody may see."""
    state = {"state_topic": f"{topic}/state"}
    return {
        "state": {
            "platform": "sensor",
            "name": "State",
            "device_class": "enum",
            "options": list(get_args(State)),
            "value_template": "{{ value_json.state }}",
            **state,
        },
        "health": {
            "platform": "binary_sensor",
            "name": "Health",
            "device_class": "problem",
            "entity_category": "diagnostic",
            "value_template": "{{ 'ON' if value_json.fault else 'OFF' }}",
            **state,
        },
        "fault": {
            "platform": "sensor",
            "name": "Fault",
            "entity_category": "diagnostic",
            "value_template": "{{ value_json.fault or 'none' }}",
            **state,
        },
        "person": {
            "platform": "sensor",
            "name": "Last person",
            "state_topic": f"{topic}/last_person",
            "value_template": "{{ value_json.person or 'nobody' }}",
            "json_attributes_topic": f"{topic}/last_person",
        },
        "refusal": {
            "platform": "sensor",
            "name": "Last refusal",
            "state_topic": f"{topic}/last_refusal",
            "value_template": "{{ value_json.reason }}",
            "json_attributes_topic": f"{topic}/last_refusal",
        },
    }


def _commands(permitted: Sequence[str], topic: str) -> dict[str, dict[str, Any]]:
    """The lock, which can be opened where that is permitted, and buttons; an entity without content is removed."""
    command = {"command_topic": f"{topic}/command"}
    found: dict[str, dict[str, Any]] = {"lock": {"platform": "lock"}, "locked": {"platform": "binary_sensor"}}
    if "unlock" in permitted:
        found["lock"] |= {
            "name": "Lock",
            "state_topic": f"{topic}/state",
            "value_template": "{{ value_json.lock }}",
            "state_locked": "locked",
            "state_unlocked": "unlocked",
            "payload_unlock": "unlock",
            "payload_lock": "release",
            **command,
        }
    else:
        found["locked"] |= {
            "name": "Lock",
            "device_class": "lock",
            "state_topic": f"{topic}/state",
            "value_template": "{{ 'ON' if value_json.lock == 'unlocked' else 'OFF' }}",
        }
    for name, label in _BUTTONS.items():
        found[name] = {"platform": "button"}
        if name in permitted:
            found[name] |= {"name": label, "payload_press": name, **command}
    return found

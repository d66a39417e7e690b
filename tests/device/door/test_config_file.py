"""The configuration file of a door."""

import pytest

from edge_oneshot_device.door.config_file import all_keys, config_template, parse_config, read_config
from edge_oneshot_device.door.configuration import DoorConfig
from edge_oneshot_device.errors import InputError


def test_an_empty_file_is_a_door_with_all_defaults():
    assert parse_config("") == DoorConfig()


def test_every_key_says_what_it_is():
    assert all(key.help and key.allowed for key in all_keys())
    assert len({key.path for key in all_keys()}) == len(all_keys()) > 40


def test_the_template_has_every_key_and_changes_nothing():
    text = config_template()
    assert parse_config(text) == DoorConfig()


def test_the_defaults_that_the_template_shows_are_the_defaults():
    lines = [
        line[2:] if line.startswith("# ") and " = " in line[:40] else line for line in config_template().split("\n")
    ]
    shown = "\n".join(line for line in lines if not line.startswith("#") and not line.endswith("= "))
    assert parse_config(shown) == DoorConfig()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name =", "is no TOML"),
        ("nam = 'x'", "nam: there is no such key; there are name, show_refusal, approach, camera"),
        ("[camera]\nsorce = 'x'", "camera.sorce: there is no such key; there are source, width"),
        ("[lock]\npluse = 3", "lock.pluse: there is no such key; there are kind, pulse, hold_at_most, mqtt, relay"),
        ("[camera]\nwidth = 3", "camera.width: must be a whole number from 160 to 4096"),
        ("[camera]\nwidth = 'x'", "camera.width: must be a whole number from 160 to 4096"),
        ("[camera]\nregion = [0, 1]", "camera.region: must be a list of 4 numbers"),
        ("[camera]\nregion = [0.5, 0, 0.2, 1]", "camera.region: must be left, top, right, bottom"),
        ("[lock]\nkind = 'magnet'", 'lock.kind: must be one of "gpio", "mqtt", "none", "webhook"'),
        ("camera = 3", "camera: must be a table"),
        ("[mqtt]\ncommands = ['open']", 'mqtt.commands: must be a list of "hold", "release", "unlock"'),
        ("[lock]\nkind = 'gpio'\n[inputs]\nred = 17", "inputs.red: GPIO 17 is also lock.relay.pin"),
        ("[lock]\nkind = 'webhook'", "lock.webhook.url: is needed"),
        ("[second_factor]\nmode = 'pin'", "pin.keypad: is needed"),
        ("[second_factor]\nmode = 'word'", "word.state: is needed"),
        ("name = ''", "name: must be a text of 1 to 64 characters"),
    ],
)
def test_a_fault_names_the_key_and_what_is_allowed(text, says):
    with pytest.raises(InputError) as caught:
        parse_config(text)
    assert str(caught.value).startswith(says)
    assert caught.value.reason == "bad_config"


def test_a_fault_names_the_file(tmp_path):
    path = tmp_path / "door.toml"
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"door.toml: is not UTF-8"):
        read_config(path)
    path.write_text("nam = 1")
    with pytest.raises(InputError, match=r"door.toml: nam: there is no such key"):
        read_config(path)

"""The configuration file of a door: read strictly, and written with every key as a comment."""

import json
import re
import tomllib
from collections.abc import Iterator
from os import PathLike
from typing import Any, Final

import msgspec
from msgspec import inspect

from edge_oneshot_device.door.configuration import DoorConfig
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.files import read_file

_MOST_BYTES: Final = 1 << 16
_PLACE: Final = re.compile(r" - at `\$\.?(.*)`$")
_UNKNOWN: Final = re.compile(r"unknown field `([^`]*)`")
_BEGINNING: Final = """\
# The configuration of a door. A key that is commented out has the value that stands here.
# After a change: edge-oneshot-device door check --config FILE
"""


class Key(msgspec.Struct, frozen=True, eq=False):
    """A key of the configuration.

    Attributes:
        section: The name of its table, dotted; empty for the keys at the top.
        name: Its name in the table.
        kind: What values it takes.
        default: Its value unless given; None: there is none.
        help: What it says.
    """

    section: str
    name: str
    kind: inspect.Type
    default: Any
    help: str

    @property
    def path(self) -> str:
        """Section and name, dotted."""
        return f"{self.section}.{self.name}".lstrip(".")

    @property
    def allowed(self) -> str:
        """What values it takes, in words; empty where any text does."""
        kind = self.kind
        if isinstance(kind, inspect.LiteralType):
            return "one of " + ", ".join(json.dumps(value) for value in kind.values)
        if isinstance(kind, inspect.BoolType):
            return "true or false"
        if isinstance(kind, inspect.IntType | inspect.FloatType):
            what = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            bounds = {"above": kind.gt, "from": kind.ge, "to": kind.le, "below": kind.lt}
            return " ".join([what, *(f"{text} {limit:g}" for text, limit in bounds.items() if limit is not None)])
        if isinstance(kind, inspect.TupleType):
            return f"a list of {len(kind.item_types)} numbers"
        if isinstance(kind, inspect.VarTupleType):
            item = kind.item_type
            words = ", ".join(json.dumps(one) for one in item.values) if isinstance(item, inspect.LiteralType) else ""
            return f"a list of {words or 'texts'}"
        if isinstance(kind, inspect.StrType) and kind.max_length is not None:
            return f"a text of {kind.min_length or 0} to {kind.max_length} characters"
        return "a text"


def all_keys() -> list[Key]:
    """All keys of the configuration, section by section."""
    return list(_keys(DoorConfig(), ""))


def _keys(section: msgspec.Struct, name: str) -> Iterator[Key]:
    tables = []
    described = inspect.type_info(type(section))
    assert isinstance(described, inspect.StructType)
    for field in described.fields:
        value = getattr(section, field.name)
        if isinstance(value, msgspec.Struct):
            tables.append((value, f"{name}.{field.name}".lstrip(".")))
            continue
        text, kind = "", field.type
        while isinstance(kind, inspect.Metadata | inspect.UnionType):
            if isinstance(kind, inspect.Metadata):
                text, kind = text or (kind.extra_json_schema or {}).get("description", ""), kind.type
            else:  # T | None
                kind = next(one for one in kind.types if not isinstance(one, inspect.NoneType))
        yield Key(name, field.name, kind, value, text)
    for value, path in tables:
        yield from _keys(value, path)


def config_template() -> str:
    """A configuration file in which every key is a comment with its help and its default."""
    lines, section = [_BEGINNING], ""
    for key in all_keys():
        if key.section != section:
            section = key.section
            lines.append(f"\n[{section}]")
        value = "" if key.default is None else json.dumps(msgspec.to_builtins(key.default))
        lines += [f"# {key.help} ({key.allowed})", f"# {key.name} = {value}"]
    return "\n".join(lines) + "\n"


def read_config(path: str | PathLike[str]) -> DoorConfig:
    """Read a door's configuration.

    Args:
        path: The file.

    Raises:
        InputError: Reason ``not_found``, ``not_a_file`` or ``file_too_large``; ``bad_config``: it is no TOML, has an
            unknown key or a value that is not allowed, or two keys that do not go together.
        MachineError: It cannot be read.
    """
    try:
        return parse_config(read_file(path, _MOST_BYTES).decode())
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8; save it so", reason="bad_config") from error
    except InputError as error:
        if error.reason != "bad_config":
            raise
        raise InputError(f"{path}: {error}", reason="bad_config") from error


def parse_config(text: str) -> DoorConfig:
    """A door's configuration from the text of its file.

    Args:
        text: TOML.

    Raises:
        InputError: ``bad_config``, as of `read_config`.
    """
    try:
        config = msgspec.convert(tomllib.loads(text), DoorConfig)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"is no TOML: {error}", reason="bad_config") from error
    except msgspec.ValidationError as error:
        raise InputError(_fault(str(error)), reason="bad_config") from error
    for fault in _contradictions(config):
        raise InputError(fault, reason="bad_config")
    return config


def _fault(told: str) -> str:
    """What is wrong, from what the parser tells: the key, and what is allowed."""
    found = _PLACE.search(told)
    place = re.sub(r"\[.*?\]", "", found[1]) if found else ""
    keys = all_keys()
    if unknown := _UNKNOWN.search(told):
        names = [key.name for key in keys if key.section == place]
        start = f"{place}." if place else ""
        names += sorted({k.section[len(start) :].split(".")[0] for k in keys if k.section.startswith(start)} - {""})
        return f"{start}{unknown[1]}: there is no such key; there are {', '.join(dict.fromkeys(names))}"
    for key in keys:
        if key.path == place:
            return f"{place}: must be {key.allowed}"
    return f"{place}: must be a table, [{place}]"


def _contradictions(config: DoorConfig) -> Iterator[str]:
    """What does not go together."""
    lock, inputs, pin = config.lock, config.inputs, config.pin
    used = {"lock.relay.pin": lock.relay.pin} if lock.kind == "gpio" else {}
    names = ("door_sensor", "exit_button", "emergency_release", "buzzer", "green", "red")
    used |= {f"inputs.{name}": number for name in names if (number := getattr(inputs, name)) is not None}
    taken: dict[int, str] = {}
    for key, number in used.items():
        if number in taken:
            yield f"{key}: GPIO {number} is also {taken[number]}; give each its own"
        taken[number] = key
    left, top, right, bottom = config.camera.region
    if not (0.0 <= left < right <= 1.0 and 0.0 <= top < bottom <= 1.0):
        yield "camera.region: must be left, top, right, bottom as shares from 0 to 1, left < right, top < bottom"
    needed = {
        "lock.webhook.url": lock.kind == "webhook" and not lock.webhook.url,
        "lock.webhook.secret_file": lock.kind == "webhook" and not lock.webhook.secret_file,
        "lock.mqtt.topic": lock.kind == "mqtt" and not lock.mqtt.topic,
        "mqtt.host": lock.kind == "mqtt" and not config.mqtt.host,
        "pin.keypad": (pin.alone or config.second_factor.mode == "pin") and not pin.keypad,
        "word.state": config.second_factor.mode == "word" and not config.word.state,
        "webhook.secret_file": bool(config.webhook.url) and not config.webhook.secret_file,
    }
    for key, missing in needed.items():
        if missing:
            yield f"{key}: is needed with what else is set; give it"

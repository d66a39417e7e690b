"""A command's options, declared once: one frozen struct whose fields hold type, default, bounds and help.

    class BenchOptions(Options, frozen=True, kw_only=True):
        runs: Annotated[int, option("timed runs", ge=1, le=1_000_000)] = 200
        image: Annotated[Path | None, option("image to time", metavar="FILE")] = None
        target_far: Annotated[float, option("target FAR (the bundle's)", gt=0, lt=1)] | None = None

`add_options` makes the command line from the fields, `options_from` makes the value from what the user wrote. A value
that is made in Python passes the same checks. The bounds of a field that may be None stand inside, beside its number.

The text of an option is ``--name``; a bool is a flag without a value, called ``--no-name`` where the default is True;
a Literal becomes a choice. `option` also takes what else the command line needs. These keys are used here:

    section    heading of the options in --help
    exclusive  name of a set of options of which only one may be given
    reason     reason code of the error for a value out of bounds (``wrong_use``)

All other keys, such as metavar, nargs or type (a function from text to the value), go to ``add_argument``.
"""

import argparse
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar, get_type_hints

import msgspec
from msgspec import inspect

from edge_oneshot_device.console import number, whole_number
from edge_oneshot_device.errors import InputError

_BOUNDS: Final = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def option(description: str, **details: Any) -> msgspec.Meta:
    """What an annotation says about an option.

    Args:
        description: The help text, without the default.
        details: The bounds of a number (ge, gt, le, lt), and what else the command line needs, see the module.

    Returns:
        The annotation.
    """
    bounds = {name: details.pop(name) for name in _BOUNDS if name in details}
    return msgspec.Meta(description=description, extra=details, **bounds)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all option types. Making a value checks it.

    Raises:
        InputError: A value is out of bounds (the field's reason code, else ``wrong_use``), or two options exclude each
            other (``wrong_use``).
    """

    def __post_init__(self) -> None:
        """Check bounds and exclusions."""
        chosen: dict[str, str] = {}
        for option in _declared(type(self)):
            value = getattr(self, option.name)
            try:
                msgspec.convert(value, option.annotation)
            except msgspec.ValidationError as error:
                message = f"{option.flag} {value}: {_expected(option.kind) or error}"
                raise InputError(message, reason=option.extra.get("reason", "wrong_use")) from error
            exclusive = option.extra.get("exclusive")
            if exclusive is not None and value != option.default:
                if exclusive in chosen:
                    raise InputError(f"{option.flag}: not allowed with {chosen[exclusive]}", reason="wrong_use")
                chosen[exclusive] = option.flag


OptionsType = TypeVar("OptionsType", bound=Options)


def add_options(parser: argparse.ArgumentParser, kind: type[Options]) -> None:
    """Add an option to a command's parser for each field of an options type.

    Args:
        parser: The parser of the command.
        kind: The options type.
    """
    sections: dict[str, argparse._ArgumentGroup] = {}
    sets: dict[str, argparse._MutuallyExclusiveGroup] = {}
    for option in _declared(kind):
        extra = {key: value for key, value in option.extra.items() if key != "reason"}
        place: argparse._ActionsContainer = parser
        if (section := extra.pop("section", None)) is not None:
            place = sections[section] = sections.get(section) or parser.add_argument_group(section)
        if (exclusive := extra.pop("exclusive", None)) is not None:
            place = sets[exclusive] = sets.get(exclusive) or place.add_mutually_exclusive_group()
        keywords = {"dest": option.name, "default": argparse.SUPPRESS, "help": option.help} | _reading(option) | extra
        if option.default is msgspec.NODEFAULT:
            keywords["required"] = True
        place.add_argument(option.flag, **keywords)


def options_from(arguments: argparse.Namespace, kind: type[OptionsType]) -> OptionsType:
    """The options of a parsed command line; those that the user left out have their defaults.

    Args:
        arguments: The parsed command line.
        kind: The options type.

    Returns:
        The options.

    Raises:
        InputError: A value is out of bounds, or two options exclude each other, see `Options`.
    """
    return kind(**given(arguments, kind))


def given(arguments: argparse.Namespace, kind: type[Options]) -> dict[str, Any]:
    """The options that the user wrote.

    Args:
        arguments: The parsed command line.
        kind: The options type.

    Returns:
        Values by field name; options left to their defaults are not among them.
    """
    names = [option.name for option in _declared(kind)]
    return {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}


class _Option(NamedTuple):
    name: str
    annotation: Any
    kind: inspect.Type
    default: Any
    description: str
    extra: dict[str, Any]

    @property
    def flag(self) -> str:
        return f"--{'no-' if self.default is True else ''}{self.name.replace('_', '-')}"

    @property
    def help(self) -> str:
        shown = isinstance(self.default, str | int | float) and not isinstance(self.default, bool)
        return f"{self.description}{f' (default: {self.default})' if shown else ''}".replace("%", "%%")


@cache
def _declared(kind: type[Options]) -> tuple[_Option, ...]:
    hints = get_type_hints(kind, include_extras=True)
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    options = []
    for field in described.fields:
        text, bare = "", field.type
        extra: dict[str, Any] = {}
        while isinstance(bare, inspect.Metadata | inspect.UnionType):
            if isinstance(bare, inspect.Metadata):
                text = (bare.extra_json_schema or {}).get("description", text)
                extra, bare = {**(bare.extra or {}), **extra}, bare.type
            else:  # T | None
                bare = next(one for one in bare.types if not isinstance(one, inspect.NoneType))
        options.append(_Option(field.name, hints[field.name], bare, field.default, text, extra))
    return tuple(options)


def _reading(option: _Option) -> dict[str, Any]:
    """How argparse reads an option of this type."""
    kind = option.kind
    if isinstance(kind, inspect.BoolType):
        return {"action": "store_const", "const": option.default is not True}
    if isinstance(kind, inspect.LiteralType):
        return {"type": type(kind.values[0]), "choices": kind.values}
    if isinstance(kind, inspect.CustomType):
        return {"type": kind.cls}
    return {"type": {inspect.IntType: whole_number, inspect.FloatType: number}.get(type(kind), str)}


def _expected(kind: inspect.Type) -> str:
    """What a number has to be; empty for all else."""
    if not isinstance(kind, inspect.IntType | inspect.FloatType):
        return ""
    bounds = [f"{text} {limit:g}" for name, text in _BOUNDS.items() if (limit := getattr(kind, name)) is not None]
    return f"must be {' and '.join([*bounds] or ['a number'])}"

"""Public names of a package that are imported when they are first used, so that --help stays quick."""

import importlib
import sys
from collections.abc import Callable, Mapping


def attribute_of(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """A package's ``__getattr__``.

    Args:
        package: Its ``__name__``.
        homes: From each public name to the module inside the package that defines it.
    """

    def attribute(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return attribute

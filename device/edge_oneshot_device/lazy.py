"""Import the public names of a package when they are first used, so that --help is quick."""

import importlib
import sys
from collections.abc import Callable, Mapping


def attribute_of(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """A ``__getattr__`` for a package.

    Args:
        package: The ``__name__`` of the package.
        homes: The module inside the package that defines each public name.

    Returns:
        The function.
    """

    def attribute(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return attribute

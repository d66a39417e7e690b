"""Text from outside made safe to print: line breaks, terminal escapes and bytes that are not UTF-8 are escaped."""

from typing import Any


def one_line(text: str) -> str:
    """The text on one line, with terminal escapes and other unprintable characters as backslash escapes."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """The text with terminal escapes and other unprintable characters as backslash escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def spelt_out(value: Any) -> Any:
    """A plain value that can be encoded as UTF-8: bytes of another encoding, as in a Latin-1 name, become escapes.

    Args:
        value: A string, a dict, a list, a tuple or any other plain value, nested at will.
    """
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {spelt_out(key): spelt_out(one) for key, one in value.items()}
    return [spelt_out(one) for one in value] if isinstance(value, list | tuple) else value

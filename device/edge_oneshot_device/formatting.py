"""How rates, counts and tables are written for a person."""

from collections.abc import Sequence
from typing import Final

from edge_oneshot_device.text import printable

_PLURALS: Final = {"person": "people"}


def align(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of equal length as lines with aligned columns; terminal escapes are escaped."""
    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def percent(rate: float) -> str:
    """A rate in percent: 0.001 is ``0.1 %``."""
    return f"{100.0 * rate:.3g} %"


def count(number: int, noun: str) -> str:
    """A number with its noun: 1 failure, 2 failures.

    Args:
        number: The number.
        noun: The noun in the singular.

    Returns:
        The text.
    """
    return f"{number} {noun}" if number == 1 else f"{number:,} {_PLURALS.get(noun, noun + 's')}"

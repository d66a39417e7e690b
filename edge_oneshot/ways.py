"""The N of N-way tasks as a command line names them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WaysRange:
    """Every N from `lowest` to `highest`; None stands for the largest that the data allow."""

    lowest: int
    highest: int | None


def parse_ways(text: str) -> tuple[int, ...] | WaysRange:
    """Read ``5,20``, ``2..20`` or ``2..all``.

    Raises:
        ValueError: Something else, or an N below 2, in one line.
    """
    first, dots, last = text.partition("..")
    try:
        values = tuple(int(part) for part in (first if dots else text).split(","))
        highest = None if not dots or last == "all" else int(last)
    except ValueError as error:
        raise ValueError(f"{text} is neither like 5,20 nor 2..20 nor 2..all") from error
    if min(values) < 2:
        raise ValueError("each N must be at least 2")
    if not dots:
        return values
    if len(values) != 1 or (highest is not None and highest < values[0]):
        raise ValueError(f"{text} is no range; say 2..20 or 2..all")
    return WaysRange(values[0], highest)

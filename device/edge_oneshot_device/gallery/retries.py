"""What makes an act worth another try, how often it is tried, and the error when that was not enough."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from edge_oneshot_device.errors import MachineError

TRIES: Final = 10
"""How often something is tried where the gallery changes meanwhile."""

P = ParamSpec("P")
T = TypeVar("T")


class ChangedError(MachineError):
    """The gallery changed since it was read: read it, and compare, again; at most `TRIES` times.

    Its reason is ``gallery_changing``, which is what a caller sees when all of these were in vain.

    Args:
        path: The gallery's file.
    """

    def __init__(self, path: Path) -> None:
        message = f"{path} was changed again and again meanwhile: try again; if it goes on, see what writes to it"
        super().__init__(message, reason="gallery_changing")


class ReserveReleasedError(MachineError):
    """The disk was full, and the reserve has been given back to it: the transaction is worth one more try."""


def with_reserve(function: Callable[P, T]) -> Callable[P, T]:
    """Call a function that writes to the gallery once more where the disk was full and the reserve made room."""

    @wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> T:
        try:
            return function(*arguments, **keywords)
        except ReserveReleasedError:
            return function(*arguments, **keywords)

    return call

"""Errors of this project, which have a message and a reason."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def raises(
    error: type[Exception] | tuple[type[Exception], ...], *, reason: str | None, match: str | None = None
) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """`pytest.raises` for an error with this reason."""
    with pytest.raises(error, match=match) as caught:
        yield caught
    found = getattr(caught.value, "reason", None)
    assert found == reason, f"the reason is {found}, not {reason}: {caught.value}"

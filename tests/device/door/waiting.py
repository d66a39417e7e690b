"""Waiting for something that another process or thread does, with a generous bound."""

import time
from collections.abc import Callable

MOST_SECONDS = 60.0


def wait_until(holds: Callable[[], object]) -> None:
    """Wait until a condition holds; the test fails when it does not within a minute."""
    deadline = time.monotonic() + MOST_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)

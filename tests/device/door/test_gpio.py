"""GPIOs by lgpio, which no test ever saw: a module in its place keeps the calls that reach the kernel."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gpiozero import Device

from edge_oneshot_device.door.configuration import RelaySection
from edge_oneshot_device.door.lock_drivers import Relay

Call = tuple[str, int, int]
PI_4 = 0xC03111


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Call]]:
    """What was asked of the kernel: claims and writes of a line, with their level or pull."""
    made: list[Call] = []
    outputs: set[int] = set()

    def claim_input(_handle: int, line: int, flags: int = 0) -> None:
        outputs.discard(line)
        made.append(("input", line, flags))

    def claim_output(_handle: int, line: int, level: int = 0, _flags: int = 0) -> None:
        outputs.add(line)
        made.append(("output", line, level))

    lgpio: Any = SimpleNamespace(
        BOTH_EDGES=3,
        SET_PULL_NONE=128,
        gpiochip_open=lambda _chip: 0,
        gpiochip_close=lambda _handle: None,
        gpio_claim_input=claim_input,
        gpio_claim_output=claim_output,
        gpio_get_mode=lambda _handle, line: 2 if line in outputs else 0,
        gpio_write=lambda _handle, line, level: made.append(("write", line, int(level))),
        error=OSError,
        RISING_EDGE=1,
        FALLING_EDGE=2,
    )
    monkeypatch.setitem(sys.modules, "lgpio", lgpio)
    monkeypatch.delitem(sys.modules, "gpiozero.pins.lgpio", raising=False)
    from gpiozero.pins.lgpio import LGPIOFactory

    monkeypatch.setattr(LGPIOFactory, "_get_revision", lambda _: PI_4)
    factory = Device.pin_factory = LGPIOFactory(chip=0)
    yield made
    factory.close()
    Device.pin_factory = None
    sys.modules.pop("gpiozero.pins.lgpio", None)


@pytest.mark.parametrize("active_high", [True, False])
def test_a_relay_is_never_at_the_level_that_opens_before_it_is_told_to(active_high: bool, calls: list[Call]) -> None:
    relay = Relay(RelaySection(pin=17, active_high=active_high))
    relay.lock()
    locked, opened = int(not active_high), int(active_high)
    levels = [level for act, line, level in calls if line == 17 and act in ("output", "write")]
    assert levels == [locked] * len(levels)
    relay.unlock(1.0)
    assert calls[-1] == ("write", 17, opened)
    relay.lock()
    assert calls[-1] == ("write", 17, locked)
    assert [act for act, *_ in calls].count("output") == 1

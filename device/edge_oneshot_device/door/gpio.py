"""GPIOs by gpiozero: outputs that are at their level from the first moment, and contacts to ground."""

import sys
from typing import Any

from edge_oneshot_device.extras import extra_missing


def open_output(pin: int, *, active_high: bool = True) -> Any:
    """A `gpiozero.OutputDevice` that is off.

    Args:
        pin: The GPIO, by its BCM number.
        active_high: Whether it is on at the high level.

    Raises:
        MachineError: Reason ``extra_missing``.
        Exception: Whatever gpiozero and the kernel say.
    """
    return _gpiozero().OutputDevice(pin, active_high=active_high, initial_value=False)


def open_contact(pin: int) -> Any:
    """A `gpiozero.InputDevice` with a pull-up, active while it is closed to ground; arguments and errors as above."""
    return _gpiozero().InputDevice(pin, pull_up=True)


def _gpiozero() -> Any:
    try:
        import gpiozero
    except ImportError as error:
        raise extra_missing("gpio") from error
    gpiozero.Device.ensure_pin_factory()
    factory, lgpio = gpiozero.Device.pin_factory, sys.modules.get("gpiozero.pins.lgpio")
    if lgpio is not None and type(factory) is lgpio.LGPIOFactory and factory.pin_class is lgpio.LGPIOPin:
        factory.pin_class = _steady_pin(lgpio)
    return gpiozero


def _steady_pin(backend: Any) -> Any:
    """The pins of gpiozero's lgpio, without the pulse with which their outputs begin.

    gpiozero 2.0 takes an output at the low level and raises it afterwards: a relay that opens at the low level would
    open for a moment at every start (https://github.com/gpiozero/gpiozero/pull/1177).
    """

    class SteadyPin(backend.LGPIOPin):  # type: ignore[misc] # gpiozero has no types
        def output_with_state(self, state: bool) -> None:
            backend.lgpio.gpio_claim_output(self.factory._handle, self._number, int(state))

    return SteadyPin

"""Contacts, buttons, LEDs and the buzzer at GPIOs, which the guard reads and drives turn by turn."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from edge_oneshot_device.door.configuration import InputsSection
from edge_oneshot_device.door.gpio import open_contact, open_output
from edge_oneshot_device.door.guard_messages import Report
from edge_oneshot_device.door.states import State
from edge_oneshot_device.text import one_line

DEBOUNCE_SECONDS: Final = 0.03
"""Seconds that a contact keeps its new level before it counts."""

RETRY_SECONDS: Final = 2.0
"""Seconds from a failure at the GPIOs to the next try."""

FORCED_GRACE: Final = 2.0
"""Seconds after locking within which a door that opens counts as opened by who was let through."""

TONE_SECONDS: Final = 0.12
"""Length of a tone, and of the silence after it."""

BLINK_SECONDS: Final = 0.5
"""Time that the red LED is lit, and then dark, while the door is faulty."""

TONES: Final[dict[State, int]] = {"unlocked": 1, "refused": 2, "challenged": 3}
"""Tones that say that a state begins."""


class Levels(msgspec.Struct, frozen=True):
    """What the contacts say; None: there is no such contact, or it was not read yet."""

    door_closed: bool | None = None
    exit_pressed: bool | None = None
    emergency: bool | None = None


class _Pins:
    """Devices of gpiozero by name, opened together, and again some seconds after a failure.

    Args:
        opens: Opens them all.
    """

    def __init__(self, opens: Callable[[], dict[str, Any]]) -> None:
        self._opens = opens
        self._devices: dict[str, Any] | None = None
        self._next = float("-inf")
        self.fault: str | None = None

    def use(self, act: Callable[[dict[str, Any]], None], now: float) -> None:
        """Do something with the devices, where they can be used."""
        if now < self._next:
            return
        try:
            if self._devices is None:
                self._devices = self._opens()
            act(self._devices)
            self.fault = None
        except Exception as error:  # whatever gpiozero and its pin factories raise
            self.fault = f"the GPIOs failed: {one_line(str(error) or type(error).__name__)}"
            self._next = now + RETRY_SECONDS
            for device in (self._devices or {}).values():
                device.close()
            self._devices = None


class Contacts:
    """The contacts; each is closed to ground, with a pull-up.

    Args:
        section: Their GPIOs.

    Attributes:
        levels: What they say, debounced; what was read last where they cannot be read.
    """

    def __init__(self, section: InputsSection) -> None:
        wanted = {
            "door_closed": section.door_sensor,
            "exit_pressed": section.exit_button,
            "emergency": section.emergency_release,
        }
        self._wanted = {name: pin for name, pin in wanted.items() if pin is not None}
        self._pins = _Pins(self._open)
        self._changed: dict[str, tuple[bool, float]] = {}
        self.levels = Levels()

    @property
    def fault(self) -> str | None:
        """Why they cannot be read; None: they can."""
        return self._pins.fault

    @property
    def lets_out(self) -> bool:
        """Whether there is an exit button or an emergency release."""
        return not self._wanted.keys().isdisjoint({"exit_pressed", "emergency"})

    def read(self, now: float) -> Levels:
        """Read them.

        Args:
            now: Seconds of a monotonic clock.
        """
        if self._wanted:
            self._pins.use(lambda devices: self._read(devices, now), now)
        return self.levels

    def _open(self) -> dict[str, Any]:
        return {name: open_contact(pin) for name, pin in self._wanted.items()}

    def _read(self, devices: dict[str, Any], now: float) -> None:
        for name, device in devices.items():
            level = bool(device.is_active)
            before, since = self._changed.get(name, (None, now))
            if level is not before:
                self._changed[name] = (level, now)
            elif now - since >= DEBOUNCE_SECONDS and getattr(self.levels, name) is not level:
                self.levels = msgspec.structs.replace(self.levels, **{name: level})


class DoorWatch:
    """The alarms of the door's contact: forced open, and held open.

    Args:
        held_open_after: Seconds after which an open door raises an alarm.
    """

    def __init__(self, held_open_after: float) -> None:
        self._after = held_open_after
        self._closed: bool | None = None
        self._open_since = 0.0
        self._told = False
        self._unlocked: float | None = None

    def see(self, closed: bool | None, *, locked: bool, kept_open: bool, now: float) -> list[Report]:
        """What follows from the contact's level now.

        Args:
            closed: Whether the door is closed; None: nobody knows.
            locked: Whether the lock is known to be locked.
            kept_open: Whether the door may stand open.
            now: Seconds of a monotonic clock.
        """
        if not locked or self._unlocked is None:
            self._unlocked = now
        if closed is None:
            return []
        reports = []
        if closed is not self._closed:
            forced = self._closed is True and now - self._unlocked > FORCED_GRACE
            self._closed, self._open_since, self._told = closed, now, False
            if closed:
                reports.append(Report("door_closed", "the door was closed"))
            else:
                reports.append(Report("door_opened", "the door was opened"))
            if forced:
                reports.append(Report("forced", "the door was opened while it was locked"))
        if kept_open:
            self._open_since = now
        if not closed and not self._told and now - self._open_since > self._after:
            self._told = True
            reports.append(Report("held_open", f"the door has been open for {self._after:g} seconds"))
        return reports


class Signals:
    """The LEDs and the buzzer.

    Args:
        section: Their GPIOs.
    """

    def __init__(self, section: InputsSection) -> None:
        wanted = {"buzzer": section.buzzer, "green": section.green, "red": section.red}
        self._wanted = {name: pin for name, pin in wanted.items() if pin is not None}
        self._pins = _Pins(self._open)
        self._state: State = "idle"
        self._tones, self._tones_since = 0, 0.0

    @property
    def fault(self) -> str | None:
        """Why they cannot be driven; None: they can."""
        return self._pins.fault

    def show(self, state: State, now: float) -> None:
        """Show a state from now on; tones are for its beginning."""
        if state != self._state:
            self._tones, self._tones_since = TONES.get(state, 0), now
        self._state = state

    def turn(self, is_open: bool, now: float) -> None:
        """Drive them.

        Args:
            is_open: Whether the lock is open.
            now: Seconds of a monotonic clock.
        """
        half, silent = divmod(int((now - self._tones_since) / TONE_SECONDS), 2)
        blink = int(now / BLINK_SECONDS) % 2 == 0
        lit = {
            "buzzer": half < self._tones and not silent,
            "green": is_open,
            "red": self._state == "refused" or (self._state == "faulty" and blink),
        }
        if self._wanted:
            self._pins.use(lambda devices: _drive(devices, lit), now)

    def _open(self) -> dict[str, Any]:
        return {name: open_output(pin) for name, pin in self._wanted.items()}


def _drive(devices: dict[str, Any], lit: dict[str, bool]) -> None:
    for name, device in devices.items():
        if bool(device.is_active) is not lit[name]:
            device.on() if lit[name] else device.off()

"""The guard: a process of its own that holds the lock and all GPIOs, so that no fault of the loop leaves the lock open.

It locks first. It ends each pulse by itself, by the monotonic clock: after what was asked for, the configured pulse or
60 seconds, whichever is shortest; a hold likewise. It locks

- when the loop gives no sign of life for 5 seconds (`BEAT_SECONDS`), and goes on with the next one;
- when the loop has ended (end of its input, or another parent): exit button and emergency release work for 60 seconds
  more (`OUTLIVES_SECONDS`), then it ends; without such contacts it ends as soon as it has locked;
- on SIGTERM, SIGINT and SIGHUP, and ends, after 10 seconds at most (`LEAVE_SECONDS`).

So who is inside gets out while the loop is hung, and for a minute after it died. That is a convenience, not safety:
where lives depend on it, exit button and emergency release cut the lock's power in hardware, without any computer.

A guard that is killed cannot lock. What its GPIOs do then is the kernel's affair (see `lock_drivers.Relay`). The loop
starts another one at once, which locks first; and where both were killed, the service's ExecStopPost locks.
"""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from typing import Final

import msgspec

from edge_oneshot_device.door.actuator import Actuator
from edge_oneshot_device.door.configuration import DoorConfig
from edge_oneshot_device.door.guard_messages import (
    ALIVE_SECONDS,
    BEAT_SECONDS,
    LINE_BYTES,
    STALE_SECONDS,
    TEXT_CHARACTERS,
    Command,
    Message,
    Report,
)
from edge_oneshot_device.door.inputs import Contacts, DoorWatch, Levels, Signals
from edge_oneshot_device.door.lock_drivers import LockDriver, driver_of
from edge_oneshot_device.door.openings import Openings
from edge_oneshot_device.door.states import State

TURN_SECONDS: Final = 0.02
"""Seconds from one look at deadlines and contacts to the next."""

OUTLIVES_SECONDS: Final = 60.0
"""Seconds that exit button and emergency release go on working after the loop has ended."""

LEAVE_SECONDS: Final = 10.0
"""Seconds that a lock which does not obey is tried before the process ends."""

_command = msgspec.json.Decoder(Command)


class Watch:
    """All that the guard does, turn by turn, apart from its process: no clock, no pipe.

    Args:
        config: The door.
        driver: What moves the lock.
        now: Seconds of CLOCK_MONOTONIC, as everywhere here.
    """

    def __init__(self, config: DoorConfig, driver: LockDriver, now: float) -> None:
        self._openings = Openings(config.lock.pulse, config.lock.hold_at_most)
        self._actuator = Actuator(driver)
        self._contacts, self._signals = Contacts(config.inputs), Signals(config.inputs)
        self._door = DoorWatch(config.inputs.held_open_after)
        self._levels = Levels()
        self._shown: State = "idle"
        self._beat, self._loop_fault = now, ""
        self._known: tuple[str, ...] = ()

    @property
    def lets_out(self) -> bool:
        """Whether there is an exit button or an emergency release."""
        return self._contacts.lets_out

    @property
    def is_locked(self) -> bool:
        """Whether the lock is known to be locked."""
        return self._actuator.is_locked

    @property
    def faults(self) -> tuple[str, ...]:
        """All that is wrong now."""
        parts = (self._actuator.fault, self._contacts.fault, self._signals.fault, self._loop_fault)
        return tuple(part[:TEXT_CHARACTERS] for part in parts if part)

    def obey(self, command: Command, now: float) -> None:
        """Do what the loop says; what is too old, or comes from the future, opens nothing."""
        if self._loop_fault:
            self._signals.show(self._shown, now)
        self._beat, self._loop_fault = now, ""
        fresh = 0 <= now - command.at <= STALE_SECONDS
        match command.act:
            case "unlock" if fresh:
                self._openings.unlock(command.seconds, command.at)
            case "hold" if fresh:
                self._openings.hold(now)
            case "lock":
                self._openings.lock()
            case "show":
                self._shown = command.state
                self._signals.show(command.state, now)

    def lose_loop(self, why: str, now: float) -> None:
        """The loop hangs or has ended: nothing that it asked for holds any more."""
        self._openings.lock()
        self._loop_fault = why
        self._signals.show("faulty", now)

    def turn(self, now: float) -> list[Report]:
        """Look at deadlines and contacts, and move the lock.

        Returns:
            What has happened.
        """
        if now - self._beat > BEAT_SECONDS and not self._loop_fault:
            self.lose_loop(f"the loop gave no sign of life for {BEAT_SECONDS:g} seconds: the lock is locked", now)
        reports = self._press(self._contacts.read(now), now)
        until = self._openings.until(now)
        became = self._actuator.turn(until, now)
        if became is not None:
            reports.append(Report(became, f"the lock is {became}"))
        kept_open = self._openings.is_kept_open(now)
        reports += self._door.see(self._levels.door_closed, locked=self.is_locked, kept_open=kept_open, now=now)
        self._signals.turn(until is not None, now)
        faults = self.faults
        reports += [Report("fault", fault) for fault in faults if fault not in self._known]
        self._known = faults
        return reports

    def leave(self, now: float) -> None:
        """Lock, whatever asks for the opposite, and see what came of it."""
        self._actuator.turn(None, now)

    def _press(self, levels: Levels, now: float) -> list[Report]:
        before, self._levels = self._levels, levels
        reports = []
        if levels.exit_pressed and not before.exit_pressed:
            self._openings.press_exit(now)
            reports.append(Report("exit_pressed", "the exit button was pressed"))
        if levels.emergency is not None:
            self._openings.emergency(levels.emergency, now)
            if levels.emergency and not before.emergency:
                reports.append(Report("emergency", "the emergency release holds the door open"))
            elif before.emergency and not levels.emergency:
                reports.append(Report("emergency_over", "the emergency release is over"))
        return reports


class _Pipe:
    """The pipes to and from the loop: lines that came in, and messages that are dropped where nobody reads them."""

    def __init__(self) -> None:
        self._parent = os.getppid()
        self._buffer = b""
        self.ended = False
        os.set_blocking(0, False)
        os.set_blocking(1, False)

    def lines(self, seconds: float) -> Iterator[bytes]:
        """The lines that are there, after waiting for at most so many seconds."""
        if self.ended or os.getppid() != self._parent:
            self.ended = True
            time.sleep(seconds)
            return
        if not select.select([0], [], [], seconds)[0]:
            return
        chunk = os.read(0, LINE_BYTES)
        self.ended = not chunk
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        if len(self._buffer) > LINE_BYTES:  # no line of ours
            self.ended = True
        yield from lines

    def send(self, message: Message) -> None:
        with contextlib.suppress(OSError):  # the loop has ended, or hangs and its pipe is full
            os.write(1, msgspec.json.encode(message) + b"\n")


def guard() -> int:
    """Be the guard of a door, whose configuration is the first line of the input.

    Returns:
        The exit code: 0 where the lock is known to be locked at the end.
    """
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: stopped.append(number))
    pipe = _Pipe()
    config = _configuration(pipe, stopped)
    if config is None:
        return 1
    watch = Watch(config, driver_of(config), time.monotonic())
    try:
        _watch(watch, pipe, stopped)
    finally:
        deadline = time.monotonic() + LEAVE_SECONDS
        while not watch.is_locked and time.monotonic() < deadline:
            watch.leave(time.monotonic())
            time.sleep(TURN_SECONDS)
    pipe.send(Message(watch.faults, Report("locked", "the lock is locked") if watch.is_locked else None))
    return 0 if watch.is_locked else 1


def _configuration(pipe: _Pipe, stopped: list[int]) -> DoorConfig | None:
    while not (pipe.ended or stopped):
        for line in pipe.lines(TURN_SECONDS):
            return msgspec.json.decode(line, type=DoorConfig)
    return None


def _watch(watch: Watch, pipe: _Pipe, stopped: list[int]) -> None:
    """Go on until a signal comes, or the loop has ended and nobody needs to be let out any more."""
    alive, ends = float("-inf"), float("inf")
    while not stopped and time.monotonic() < ends:
        reports = watch.turn(time.monotonic())
        for report in reports:
            pipe.send(Message(watch.faults, report))
        now = time.monotonic()
        if now - alive >= ALIVE_SECONDS:
            pipe.send(Message(watch.faults))
            alive = now
        for line in pipe.lines(TURN_SECONDS):
            try:
                watch.obey(_command.decode(line), time.monotonic())
            except msgspec.DecodeError:
                watch.lose_loop("the loop sent what is no command: the lock is locked", time.monotonic())
        if pipe.ended and ends == float("inf"):
            now = time.monotonic()
            watch.lose_loop("the loop has ended: the lock is locked", now)
            ends = now + (OUTLIVES_SECONDS if watch.lets_out else 0.0)


if __name__ == "__main__":
    sys.exit(guard())

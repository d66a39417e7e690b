"""The loop's end of the guard: starts the process, gives it commands, and hears what happens.

No call waits for the guard, apart from the first start and the end. A guard that has died or hangs is a fault at once,
and `Guard.beat` starts another one, which locks first.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections import deque
from typing import Final, Self

import msgspec

from edge_oneshot_device.door.actuator import Actuator
from edge_oneshot_device.door.configuration import DoorConfig
from edge_oneshot_device.door.guard_messages import BEAT_SECONDS, LINE_BYTES, Command, Message, Report
from edge_oneshot_device.door.guard_process import LEAVE_SECONDS, TURN_SECONDS
from edge_oneshot_device.door.lock_drivers import driver_of
from edge_oneshot_device.door.states import State
from edge_oneshot_device.errors import MachineError

START_SECONDS: Final = 15.0
"""Seconds that a guard may take from its start to its first sign of life."""

_PAUSES: Final = (0.0, 1.0, 2.0, 5.0, 10.0)  # seconds from the end of a guard to the start of the next
_STEADY_SECONDS: Final = 60.0  # a guard that lived so long was no failed start
_MOST_REPORTS: Final = 1000  # that wait to be fetched; the oldest go first
_PROGRAM: Final = "edge_oneshot_device.door.guard_process"

_message = msgspec.json.Decoder(Message)


class Guard:
    """The guard of a door's lock. A context manager.

    It is started here, locks, and is waited for until it has locked or says why it could not, 15 seconds at most.

    Args:
        config: The door.
    """

    def __init__(self, config: DoorConfig) -> None:
        self._config = config
        self._reports: deque[Report] = deque(maxlen=_MOST_REPORTS)
        self._failures = 0
        self._closed = False
        self._died: str | None = None
        self._shown: State = "idle"
        self._start()
        deadline = time.monotonic() + START_SECONDS
        while not self._reports and self._died is None and time.monotonic() < deadline:
            self._hear()
            time.sleep(TURN_SECONDS)

    def __enter__(self) -> Self:
        """The guard."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End it."""
        self.close()

    @property
    def fault(self) -> str | None:
        """What is wrong with the guard, the lock or the GPIOs; None: nothing."""
        self._hear()
        if self._died is not None:
            return self._died
        if self._faults:
            return "; ".join(self._faults)
        return None if self._answered else "the lock's guard has not locked yet"

    def unlock(self, seconds: float) -> None:
        """Open the lock for so many seconds, at most for the configured pulse; the guard locks by itself."""
        self._send(Command("unlock", time.monotonic(), seconds=seconds))

    def hold(self) -> None:
        """Keep the lock open until `lock`, at most for the configured time; again is no longer."""
        self._send(Command("hold", time.monotonic()))

    def lock(self) -> None:
        """Lock; what exit button and emergency release have opened stays open."""
        self._send(Command("lock", time.monotonic()))

    def show(self, state: State) -> None:
        """Show a state with LEDs and buzzer; a guard that is started again shows it too."""
        self._shown = state
        self._send(Command("show", time.monotonic(), state=state))

    def beat(self) -> None:
        """Say that the loop is alive, in each of its turns, and start the guard again where it has died or hangs.

        Without a sign of life for 5 seconds (`guard_messages.BEAT_SECONDS`) the guard locks.
        """
        self._hear()
        if self._died is not None and not self._closed and time.monotonic() >= self._next_start:
            self._start()
        self._send(Command("beat", time.monotonic()))

    def reports(self) -> list[Report]:
        """What has happened since the last call, oldest first."""
        self._hear()
        reports = list(self._reports)
        self._reports.clear()
        return reports

    def close(self) -> None:
        """End the guard, which locks first, and wait until it has, 15 seconds at most; `fault` says what came of it."""
        if self._closed:
            return
        self._closed = True
        if self._died is not None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LEAVE_SECONDS + 5.0)
        self._hear()
        self._end("the lock's guard did not end")
        self._died = "the lock's guard has ended"
        if self._process.returncode != 0:
            self._died = "the lock's guard ended, and could not lock: look after the door, it may be open"
            self._reports.append(Report("fault", self._died))

    def _start(self) -> None:
        self._died = None
        self._answered = self._greeted = False
        self._faults: tuple[str, ...] = ()
        self._buffer = b""
        self._started = time.monotonic()
        self._heard = self._started + START_SECONDS - BEAT_SECONDS
        # in a session of its own: Ctrl-C is for the loop, which ends it
        self._process = subprocess.Popen(  # noqa: S603 (this package's own module)
            [sys.executable, "-P", "-m", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        os.set_blocking(self._in.fileno(), False)
        os.set_blocking(self._out.fileno(), False)
        self._write(msgspec.json.encode(self._config))

    def _send(self, command: Command) -> None:
        if self._died is None:
            self._write(msgspec.json.encode(command))

    def _write(self, line: bytes) -> None:
        try:
            # shorter than what a pipe takes whole or not at all, and the configuration comes first
            if os.write(self._in.fileno(), line + b"\n") != len(line) + 1:
                self._end("the lock's guard takes no commands")
        except BlockingIOError:
            self._end("the lock's guard takes no commands")
        except BrokenPipeError:
            self._end("the lock's guard has ended")

    def _hear(self) -> None:
        """Take what the guard has said, and see whether it is alive."""
        if self._died is not None:
            return
        try:
            while chunk := os.read(self._out.fileno(), LINE_BYTES):
                *lines, self._buffer = (self._buffer + chunk).split(b"\n")
                for line in lines:
                    self._take(_message.decode(line))
                if len(self._buffer) > LINE_BYTES:
                    raise msgspec.DecodeError
            self._end("the lock's guard has ended")
        except BlockingIOError:
            if time.monotonic() - self._heard > BEAT_SECONDS:
                self._end(f"the lock's guard gave no sign of life for {BEAT_SECONDS:g} seconds")
        except msgspec.DecodeError:
            self._end("the lock's guard sent what is no message")

    def _take(self, message: Message) -> None:
        self._heard = time.monotonic()
        self._faults = message.faults
        if not self._greeted:
            self._greeted = True
            self.show(self._shown)
        if message.report is not None:
            self._answered = self._answered or message.report.kind in ("locked", "unlocked")
            self._reports.append(message.report)

    def _end(self, why: str) -> None:
        """The guard is over: what may be left of it is killed, so that the next one gets the GPIOs."""
        if self._died is not None:
            return
        now = time.monotonic()
        self._died = f"{why}: the lock may be open until the next one has locked"
        self._failures = 0 if now - self._started > _STEADY_SECONDS else self._failures + 1
        self._next_start = now + _PAUSES[min(self._failures, len(_PAUSES)) - 1 if self._failures else 0]
        if not self._closed:
            self._reports.append(Report("fault", self._died))
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that waits in the kernel stays
            self._process.wait(1.0)
        self._in.close()
        self._out.close()


def lock_now(config: DoorConfig) -> None:
    """Lock, without a guard: for the service's ExecStopPost, after everything else was killed.

    Raises:
        MachineError: Reason ``lock_failed``: the lock did not obey within 10 seconds.
    """
    actuator = Actuator(driver_of(config))
    deadline = time.monotonic() + LEAVE_SECONDS
    actuator.turn(None, time.monotonic())
    while not actuator.is_locked:
        if time.monotonic() > deadline:
            message = f"{actuator.fault or 'the lock does not answer'}; look after the door: it may be open"
            raise MachineError(message, reason="lock_failed")
        time.sleep(TURN_SECONDS)
        actuator.turn(None, time.monotonic())

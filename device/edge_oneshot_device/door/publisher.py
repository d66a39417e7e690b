"""Passing events on: one thread a receiver, which is sent one event after the other, each until it is acknowledged.

The thread of the door's loop never waits for it.
"""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol, Self

import msgspec

from edge_oneshot_device.door.configuration import DoorConfig
from edge_oneshot_device.door.events import Command, Event, Status, event_of, is_event
from edge_oneshot_device.door.mqtt import MqttReceiver
from edge_oneshot_device.door.outbox import Outbox, Waiting
from edge_oneshot_device.door.webhook import WebhookReceiver
from edge_oneshot_device.errors import OneShotError
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.text import one_line

_POLL: Final = 1.0  # seconds: other processes write rows too
_PAUSES: Final = (0.5, 5.0)  # seconds between two tries, the first time and at most: it doubles
_STEADY: Final = 10.0  # seconds of work after which the pauses begin anew
_CLOSING: Final = 3.0  # seconds that a thread is given to end


class Receiver(Protocol):
    """Who is told events. All but `wake` and `stop` are called by one thread; what they raise ends the connection.

    Attributes:
        name: Names the file that keeps how far it is.
        fault: What does not work while events are taken; None: all does.
    """

    name: str
    fault: str | None

    def open(self) -> None:
        """Connect."""

    def send(self, event: Event) -> None:
        """Send an event, and wait until it is acknowledged."""

    def rest(self, seconds: float) -> None:
        """Keep the connection alive until `wake` is called, so many seconds at most."""

    def wake(self) -> None:
        """End `rest`: there may be an event."""

    def stop(self) -> None:
        """End whatever it waits for; only `close` is called after it."""

    def close(self) -> None:
        """End the connection; closing twice is fine."""


class Health(msgspec.Struct, frozen=True):
    """How a receiver is.

    Attributes:
        receiver: Its name: ``mqtt`` or ``webhook``.
        sent: How many events it acknowledged since the start.
        waiting: How many rows of the audit trail are behind its position.
        fault: What does not work, in one line; None: all does.
    """

    receiver: str
    sent: int
    waiting: int
    fault: str | None


class Publisher:
    """Passes events on to all receivers of a configuration. A context manager that starts and closes it.

    Args:
        config: Of the door.
        open_gallery: Opens the gallery once more; called in the threads that read from it.

    Raises:
        InputError, IntegrityError, MachineError: As of `receivers_of`.
    """

    def __init__(self, config: DoorConfig, open_gallery: Callable[[], Gallery]) -> None:
        receivers = receivers_of(config)
        self._mqtt = next((one for one in receivers if isinstance(one, MqttReceiver)), None)
        self._couriers = [_Courier(one, Outbox(open_gallery, one.name, is_event), config.name) for one in receivers]

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def start(self) -> None:
        """Begin; once."""
        for courier in self._couriers:
            courier.thread.start()

    def close(self) -> None:
        """End, within seconds: what is not acknowledged by then is sent after the next start."""
        for courier in self._couriers:
            courier.stop()
        end = time.monotonic() + _CLOSING
        for courier in self._couriers:
            courier.thread.join(max(0.0, end - time.monotonic()))

    def tell(self, status: Status) -> None:
        """Show how the door is now, and look for new events; call it after every change that was recorded."""
        if self._mqtt is not None:
            self._mqtt.status = status
        for courier in self._couriers:
            courier.receiver.wake()

    def commands(self) -> list[Command]:
        """The permitted commands that came since the last call, none older than a few seconds."""
        return [] if self._mqtt is None else self._mqtt.commands()

    def health(self) -> list[Health]:
        """How the receivers are."""
        return [courier.health for courier in self._couriers]


def receivers_of(config: DoorConfig) -> list[Receiver]:
    """The receivers of a configuration, not connected.

    Args:
        config: Of the door.

    Raises:
        InputError: The configuration of a receiver is not allowed: ``bad_url``, ``bad_topic``, ``bad_ca_file`` or
            ``unsafe_commands``.
        IntegrityError: A file with a secret or a password is refused, see `signing.read_secret`.
        MachineError: Such a file cannot be read; or ``extra_missing``.
    """
    receivers: list[Receiver] = []
    if config.mqtt.host:
        receivers.append(MqttReceiver(config))
    if config.webhook.url:
        receivers.append(WebhookReceiver(config.webhook))
    return receivers


class _Courier:
    """Brings the events of an outbox to a receiver, in a thread of its own."""

    def __init__(self, receiver: Receiver, outbox: Outbox, door: str) -> None:
        self.receiver = receiver
        self.thread = threading.Thread(target=self._run, name=f"events-{receiver.name}", daemon=True)
        self.health = Health(receiver.name, 0, 0, "has not begun")
        self._outbox, self._door = outbox, door
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()
        self.receiver.stop()

    def _run(self) -> None:
        pauses = _pauses()
        while not self._stopping.is_set():
            begun, sent = time.monotonic(), self.health.sent
            try:
                self._look(connected=False)  # before all else, since the outbox begins where it is first looked at
                self.receiver.open()
                while not self._stopping.is_set():
                    self._deliver()
            except Exception as error:  # a thread that ended would be missed by nobody
                self._note(error)
            finally:
                self.receiver.close()
            if self.health.sent > sent or time.monotonic() - begun > _STEADY:
                pauses = _pauses()
            self._stopping.wait(next(pauses))
        self._outbox.close()

    def _deliver(self) -> None:
        """Send the next event, or wait for one."""
        waiting = self._look(connected=True)
        if waiting is None:
            self.receiver.rest(_POLL)
            return
        self.receiver.send(event_of(*waiting, self._door))
        self._outbox.acknowledge(waiting)
        self._set(sent=self.health.sent + 1)

    def _look(self, *, connected: bool) -> Waiting | None:
        """The next row that is to be sent; what keeps it from being read is no fault of the receiver's."""
        try:
            waiting, left = self._outbox.next(), self._outbox.left()
        except OneShotError as error:
            self._note(error)
            return None
        self._set(waiting=left)
        if connected:
            self._set(fault=self.receiver.fault or self._outbox.fault)
        return waiting

    def _note(self, error: Exception) -> None:
        if self._stopping.is_set():
            return
        fault = str(error) if isinstance(error, OneShotError) else f"{type(error).__name__}: {error}"
        self._set(fault=one_line(fault))

    def _set(self, **changes: object) -> None:
        self.health = msgspec.structs.replace(self.health, **changes)


def _pauses() -> Iterator[float]:
    pause, most = _PAUSES
    while True:
        yield pause
        pause = min(2 * pause, most)

"""The threads that pass events on: in order, whatever receiver and gallery do meanwhile."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_oneshot_device.door import publisher
from edge_oneshot_device.door.configuration import DoorConfig
from edge_oneshot_device.door.events import Event, is_event
from edge_oneshot_device.door.outbox import Outbox
from edge_oneshot_device.door.publisher import Publisher
from edge_oneshot_device.door.waker import Waker
from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.gallery.gallery import Gallery
from tests.device.door.outgoing import Door, a_door
from tests.device.door.waiting import wait_until


class Fake:
    """A receiver whose faults the test chooses."""

    name = "fake"

    def __init__(self) -> None:
        self.fault: str | None = None
        self.taken: list[int] = []
        self.opened = self.closed = 0
        self.before_opening: Callable[[], None] = lambda: None
        self.before_taking: Callable[[], None] = lambda: None
        self.after_taking: Callable[[], None] = lambda: None
        self.waker = Waker()

    def open(self) -> None:
        self.before_opening()
        self.opened += 1

    def send(self, event: Event) -> None:
        self.before_taking()
        self.taken.append(event.number)
        self.after_taking()

    def rest(self, seconds: float) -> None:
        self.waker.wait(seconds)

    def wake(self) -> None:
        self.waker.wake()

    stop = wake

    def close(self) -> None:
        self.closed += 1


def failing(times: int, error: Exception) -> Callable[[], None]:
    """Fails so many times."""
    left = [error] * times

    def fail() -> None:
        if left:
            raise left.pop()

    return fail


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "_PAUSES", (0.01, 0.02))


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with a_door(tmp_path) as made:
        yield made


def courier(door: Door, receiver: Fake, opener: Callable[[], Gallery] | None = None) -> publisher._Courier:
    outbox = Outbox(opener or door.open, receiver.name, is_event)
    outbox.left()
    outbox.close()
    return publisher._Courier(receiver, outbox, "Front")


def end(made: publisher._Courier) -> None:
    made.stop()
    made.thread.join(30)
    assert not made.thread.is_alive()


def test_events_arrive_in_order_and_waking_needs_no_poll(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "_POLL", 3600.0)
    receiver = Fake()
    made = courier(door, receiver)
    door.open_and_close(times=3)
    made.thread.start()
    wait_until(lambda: len(receiver.taken) == 3)
    door.open_and_close(times=2)
    receiver.wake()
    wait_until(lambda: len(receiver.taken) == 5)
    wait_until(lambda: made.health.sent == 5)
    end(made)
    assert receiver.taken == door.numbers()
    assert made.health.fault is None


def test_rows_of_other_processes_are_found_without_being_woken(door: Door) -> None:
    receiver = Fake()
    made = courier(door, receiver)
    made.thread.start()
    wait_until(lambda: receiver.opened)
    door.open_and_close()
    wait_until(lambda: receiver.taken == door.numbers())
    end(made)


@pytest.mark.parametrize(
    "error", [MachineError("it is away", reason="broker_away"), ValueError("a bug"), OSError(5, "?")]
)
def test_a_receiver_that_fails_is_tried_again_and_nothing_is_lost(door: Door, error: Exception) -> None:
    receiver = Fake()
    receiver.before_opening = failing(2, error)
    receiver.before_taking = failing(2, error)
    made = courier(door, receiver)
    door.open_and_close(times=3)
    made.thread.start()
    wait_until(lambda: len(receiver.taken) == 3)
    end(made)
    assert receiver.taken == door.numbers()
    assert receiver.opened == 3
    assert receiver.closed >= 5


def test_an_event_whose_acknowledgement_was_lost_comes_again_and_before_the_next(door: Door) -> None:
    receiver = Fake()
    receiver.after_taking = failing(1, MachineError("it is away", reason="broker_away"))
    made = courier(door, receiver)
    door.open_and_close(times=2)
    made.thread.start()
    wait_until(lambda: len(receiver.taken) == 3)
    end(made)
    first, second = door.numbers()
    assert receiver.taken == [first, first, second]


def test_a_gallery_that_cannot_be_read_keeps_the_connection_and_is_tried_again(door: Door) -> None:
    receiver = Fake()
    fail = failing(0, ValueError())

    def opener() -> Gallery:
        fail()
        return door.open()

    made = courier(door, receiver, opener)
    fail = failing(2, MachineError("the disk failed", reason="disk_failed"))
    door.open_and_close()
    made.thread.start()
    wait_until(lambda: receiver.taken == door.numbers())
    end(made)
    assert receiver.opened == 1


def test_the_health_says_what_is_wrong_and_how_much_waits(door: Door) -> None:
    receiver = Fake()
    away = threading.Event()
    away.set()

    def refuse() -> None:
        if away.is_set():
            raise MachineError("the broker is\naway", reason="broker_away")

    receiver.before_opening = refuse
    made = courier(door, receiver)
    door.open_and_close(times=3)
    made.thread.start()
    wait_until(lambda: made.health.fault == "the broker is away")
    assert (made.health.receiver, made.health.sent, made.health.waiting) == ("fake", 0, 3)
    away.clear()
    receiver.fault = "commands do not arrive"
    wait_until(lambda: made.health.fault == "commands do not arrive")
    wait_until(lambda: (made.health.sent, made.health.waiting) == (3, 0))
    end(made)


def test_the_pauses_grow_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pauses = publisher._pauses()
    assert [next(pauses) for _ in range(6)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_door_without_receivers_tells_nobody(door: Door) -> None:
    with Publisher(DoorConfig(), door.open) as made:
        assert made.health() == []
        assert made.commands() == []

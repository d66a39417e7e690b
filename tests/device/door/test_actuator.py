"""The lock is brought into the state that is wanted, by drivers that fail and that hang."""

import threading
from collections.abc import Callable

from edge_oneshot_device.door.actuator import CALL_SECONDS, MOST_CALLS, PAUSES, Actuator
from tests.device.door.waiting import wait_until


class Lock:
    """A lock that fails as often as it is told to."""

    waits = False

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.calls, self.open = failures, 0, None

    def unlock(self, seconds: float) -> None:
        self._call()
        self.open = seconds

    def lock(self) -> None:
        self._call()
        self.open = 0.0

    def _call(self) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise OSError("no lock there")


class HangingLock:
    """A lock whose calls end when they are let go."""

    waits = True

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []
        self.hangs = {"unlock": threading.Event(), "lock": threading.Event()}

    def unlock(self, seconds: float) -> None:
        assert seconds > 0
        self._call("unlock")

    def lock(self) -> None:
        self._call("lock")

    def _call(self, what: str) -> None:
        self.begun.append(what)
        self.hangs[what].wait(60)
        self.done.append(what)


def turning(actuator: Actuator, until: float | None, now: float) -> Callable[[], list[object]]:
    """Takes a turn, and says what it gave; for `wait_until`."""
    return lambda: [became] if (became := actuator.turn(until, now)) else []


def test_the_lock_is_locked_first() -> None:
    lock = Lock()
    actuator = Actuator(lock)
    assert actuator.is_open
    assert not actuator.is_locked
    assert actuator.turn(None, 0.0) == "locked"
    assert actuator.is_locked
    assert lock.open == 0.0
    assert actuator.turn(None, 1.0) is None
    assert lock.calls == 1


def test_the_driver_is_told_how_long_the_lock_stays_open() -> None:
    lock = Lock()
    actuator = Actuator(lock)
    actuator.turn(None, 0.0)
    assert actuator.turn(13.0, 10.0) == "unlocked"
    assert lock.open == 3.0
    assert not actuator.is_locked
    # a longer pulse is told, and is no news
    assert actuator.turn(15.0, 11.0) is None
    assert lock.open == 4.0
    assert actuator.turn(None, 15.0) == "locked"


def test_a_lock_that_fails_is_tried_again_with_bounded_pauses_until_it_obeys() -> None:
    lock = Lock(failures=50)
    actuator = Actuator(lock)
    now, became = 0.0, None
    while became is None and now < 1000:
        became = actuator.turn(None, now)
        if became is None:
            assert "could not be locked: no lock there" in str(actuator.fault)
            assert not actuator.is_locked
        now += PAUSES[-1]
    assert became == "locked"
    assert lock.calls == 51
    assert actuator.fault is None


def test_a_lock_that_fails_is_not_called_all_the_time() -> None:
    lock = Lock(failures=10**9)
    actuator = Actuator(lock)
    for turn in range(1000):
        actuator.turn(None, turn / 100)
    assert 3 <= lock.calls <= 8


def test_a_lock_that_could_not_be_opened_is_locked_at_the_end_of_the_pulse() -> None:
    lock = Lock()
    actuator = Actuator(lock)
    actuator.turn(None, 0.0)
    lock.failures = 10**9
    actuator.turn(3.0, 0.0)
    assert "could not be unlocked" in str(actuator.fault)
    lock.failures = 0
    assert actuator.turn(None, 3.0) is None  # it never was anything but locked
    assert actuator.is_locked
    assert lock.open == 0.0


def test_an_order_to_open_that_hangs_does_not_delay_locking_and_is_undone_when_it_ends_late() -> None:
    lock = HangingLock()
    lock.hangs["lock"].set()
    actuator = Actuator(lock)
    wait_until(turning(actuator, None, 0.0))
    actuator.turn(3.0, 0.0)
    wait_until(lambda: "unlock" in lock.begun)
    actuator.turn(None, 3.0)
    wait_until(lambda: lock.done.count("lock") == 2)
    actuator.turn(None, 3.1)
    assert not actuator.is_locked  # the order may still open it
    lock.hangs["unlock"].set()
    wait_until(lambda: "unlock" in lock.done)
    wait_until(lambda: actuator.turn(None, 3.2) or actuator.is_locked)
    assert lock.done[-1] == "lock"
    assert lock.done.index("unlock") < len(lock.done) - 1


def test_calls_that_hang_are_a_fault_and_are_bounded_with_one_left_to_lock() -> None:
    lock = HangingLock()
    actuator = Actuator(lock)
    now = 0.0
    for _ in range(50):
        now += CALL_SECONDS + PAUSES[-1] + 1
        actuator.turn(now + 3, now)
    assert "no answer" in str(actuator.fault)
    wait_until(lambda: len(lock.begun) >= MOST_CALLS - 1)
    assert lock.begun == ["unlock"] * (MOST_CALLS - 1)
    for _ in range(50):
        now += CALL_SECONDS + PAUSES[-1] + 1
        actuator.turn(None, now)
    wait_until(lambda: len(lock.begun) >= MOST_CALLS)
    assert lock.begun[MOST_CALLS - 1 :] == ["lock"]
    assert not actuator.is_locked
    for hang in lock.hangs.values():
        hang.set()

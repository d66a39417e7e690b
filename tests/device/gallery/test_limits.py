from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery.clock import SYSTEM
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource
from edge_oneshot_device.gallery.limits import (
    Limits,
    Refusal,
    count_rejection,
    count_verification,
    refuse_identification,
    refuse_verification,
    restart_delay,
    restart_minute,
    unlock,
)
from edge_oneshot_device.installation import installer
from edge_oneshot_device.installation.options import InstallOptions
from tests.raising import raises
from tests.samples.galleries import MINE, SIZE, Machine

LIMITS = Limits()


class Door:
    """Attempts at a gallery, as `attempts` makes them."""

    def __init__(self, gallery: Gallery, machine: Machine, limits: Limits = LIMITS) -> None:
        self.gallery, self.machine, self.limits = gallery, machine, limits

    def verify(self, person: str, accepted: bool = False) -> Refusal | None:
        """Why an attempt is refused; one that is not is counted."""
        number = self.gallery.number_of(person)
        assert number is not None

        with self.gallery.writing() as transaction:
            refusal = refuse_verification(transaction, self.limits, number)
            restart_delay(transaction, self.limits, number)
            if refusal is None:
                count_verification(transaction, number, accepted=accepted)
            return refusal

    def identify(self, accepted: bool = False) -> Refusal | None:
        with self.gallery.writing() as transaction:
            refusal = refuse_identification(transaction, self.limits)
            restart_minute(transaction, self.limits)
            if refusal is None and not accepted:
                count_rejection(transaction, self.limits)
            return refusal

    def unlock(self, person: str) -> int:
        number = self.gallery.number_of(person)
        assert number is not None
        with self.gallery.writing() as transaction:
            return unlock(transaction, number)


@pytest.fixture
def reopen(path: Path, key: KeySource, machine: Machine) -> Callable[[], Gallery]:
    return lambda: Gallery.open(path, MINE, SIZE, key, machine.clock(), create=True)


@pytest.fixture
def door(reopen: Callable[[], Gallery], machine: Machine) -> Iterator[Door]:
    with reopen() as gallery:
        for name in ("ada", "grace"):
            gallery.enrol(name, np.ones((1, 4), np.float32))
        yield Door(gallery, machine)


def fail(door: Door, times: int, person: str = "ada") -> None:
    """So many failures in a row, each as soon as it is looked at."""
    for _ in range(times):
        while (refusal := door.verify(person)) is not None:
            assert refusal.retry_after is not None
            door.machine.seconds += refusal.retry_after


# 1:1


def test_after_five_failures_in_a_row_an_attempt_waits_for_30_seconds_and_not_before(door: Door) -> None:
    for _ in range(5):
        assert door.verify("ada") is None
    assert door.verify("ada") == Refusal("delayed", 30.0)
    door.machine.seconds += 29.75
    assert door.verify("ada") == Refusal("delayed", 0.25)
    assert door.verify("ada", accepted=True) == Refusal("delayed", 0.25)  # nor is the right face looked at
    assert door.verify("grace") is None
    door.machine.seconds += 0.25
    assert door.verify("ada") is None


def test_every_further_failure_doubles_the_delay_up_to_an_hour(door: Door) -> None:
    fail(door, 5)
    delays = []
    for _ in range(12):
        refusal = door.verify("ada")
        assert refusal is not None
        delays.append(refusal.retry_after)
        fail(door, 1)
    assert delays == [30.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0, 3600.0, 3600.0, 3600.0]


def test_an_attempt_during_a_delay_neither_counts_nor_prolongs_it(door: Door) -> None:
    fail(door, 5)
    for _ in range(10):
        door.machine.seconds += 2.5
        assert door.verify("ada") is not None
    assert door.verify("ada") == Refusal("delayed", 5.0)
    door.machine.seconds += 5.0
    assert door.verify("ada") is None
    assert door.verify("ada") == Refusal("delayed", 60.0)


def test_at_fifty_failures_1_to_1_is_off_until_an_administrator_acts(door: Door) -> None:
    fail(door, 49)
    assert door.verify("ada") == Refusal("delayed", 3600.0)
    door.machine.seconds += 3600.0
    assert door.verify("ada") is None
    for _ in range(3):
        assert door.verify("ada", accepted=True) == Refusal("disabled", None)
        door.machine.seconds += 1e9
    door.machine.restart()
    assert door.verify("ada", accepted=True) == Refusal("disabled", None)
    assert door.verify("grace") is None
    assert door.unlock("ada") == 50
    assert door.verify("ada", accepted=True) is None
    assert door.unlock("ada") == 0


def test_a_success_starts_the_count_anew(door: Door) -> None:
    for _ in range(3):
        fail(door, 4)
        assert door.verify("ada", accepted=True) is None
    fail(door, 5)
    assert door.verify("ada") == Refusal("delayed", 30.0)


def test_a_success_of_another_person_does_not(door: Door) -> None:
    fail(door, 5)
    assert door.verify("grace", accepted=True) is None
    assert door.verify("ada") == Refusal("delayed", 30.0)


def test_a_restart_begins_a_delay_anew_once(door: Door) -> None:
    fail(door, 5)
    door.machine.seconds += 20.0
    door.machine.restart()
    assert door.verify("ada") == Refusal("delayed", 30.0)
    door.machine.seconds += 20.0
    assert door.verify("ada") == Refusal("delayed", 10.0)
    # also where the new boot clock is past the old one by far
    door.machine.boot, door.machine.seconds = "third", 1e6
    assert door.verify("ada") == Refusal("delayed", 30.0)
    door.machine.seconds += 30.0
    assert door.verify("ada") is None
    assert door.verify("ada") == Refusal("delayed", 60.0)


def test_looking_alone_changes_nothing_and_waits_all_the_same_after_a_restart(door: Door) -> None:
    fail(door, 5)
    door.machine.restart()
    number = door.gallery.number_of("ada")
    assert number is not None
    for _ in range(2):
        with door.gallery.reading() as transaction:
            refusal = refuse_verification(transaction, LIMITS, number)
        assert refusal == Refusal("delayed", 30.0)
        door.machine.seconds += 10.0


def test_failures_below_the_limit_are_kept_over_a_restart(door: Door, reopen: Callable[[], Gallery]) -> None:
    fail(door, 4)
    door.machine.restart()
    with reopen() as again:
        other = Door(again, door.machine)
        assert other.verify("ada") is None
        assert other.verify("ada") == Refusal("delayed", 30.0)
    assert door.verify("ada") == Refusal("delayed", 30.0)


def test_adding_and_replacing_templates_and_another_access_leave_the_count(door: Door) -> None:
    fail(door, 5)
    door.gallery.enrol("ada", np.ones((1, 4), np.float32), add=True)
    door.gallery.enrol("ada", np.ones((1, 4), np.float32), replace=True)
    assert door.verify("ada") == Refusal("delayed", 30.0)


def test_limits_are_configurable(door: Door) -> None:
    strict = Door(door.gallery, door.machine, Limits(failures=1, delay=5.0, longest_delay=7.0, most_failures=3))
    assert strict.verify("ada") is None
    assert strict.verify("ada") == Refusal("delayed", 5.0)
    door.machine.seconds += 5.0
    assert strict.verify("ada") is None
    assert strict.verify("ada") == Refusal("delayed", 7.0)
    door.machine.seconds += 7.0
    assert strict.verify("ada") is None
    assert strict.verify("ada") == Refusal("disabled", None)


# 1:N


def test_ten_rejections_a_minute_make_the_door_wait_and_then_it_goes_on(door: Door) -> None:
    for _ in range(10):
        assert door.identify() is None
        door.machine.seconds += 2.0
    assert door.identify() == Refusal("rate_limited", 40.0)
    assert door.identify(accepted=True) == Refusal("rate_limited", 40.0)
    door.machine.seconds += 40.0
    assert door.identify() is None
    assert door.identify() == Refusal("rate_limited", 2.0)  # the second of them is still less than a minute old


def test_in_any_minute_there_are_ten_rejections_at_most_and_it_is_never_off(door: Door) -> None:
    looked_at = []
    for _ in range(150):
        if door.identify() is None:
            looked_at.append(door.machine.seconds)
        door.machine.seconds += 4.0
    assert len(looked_at) == 100
    assert all(later - earlier >= 60.0 for earlier, later in zip(looked_at, looked_at[10:], strict=False))


def test_a_success_does_not_reset_the_rate(door: Door) -> None:
    for _ in range(9):
        assert door.identify() is None
    for _ in range(20):
        assert door.identify(accepted=True) is None
    assert door.identify() is None
    assert door.identify() == Refusal("rate_limited", 60.0)


def test_the_rate_is_kept_over_opening_again_and_begins_anew_after_a_restart(door, reopen):
    for _ in range(10):
        assert door.identify() is None
    door.machine.seconds += 50.0
    with reopen() as again:
        other = Door(again, door.machine)
        assert other.identify() == Refusal("rate_limited", 10.0)
        door.machine.restart()
        assert other.identify() == Refusal("rate_limited", 60.0)
        door.machine.seconds += 45.0
    assert door.identify() == Refusal("rate_limited", 15.0)
    door.machine.seconds += 15.0
    assert door.identify() is None


def test_the_rate_is_the_doors_own_choice(door: Door) -> None:
    slow = Door(door.gallery, door.machine, Limits(rejections_per_minute=1))
    assert slow.identify() is None
    assert slow.identify() == Refusal("rate_limited", 60.0)
    quick = Door(door.gallery, door.machine, Limits(rejections_per_minute=1000))
    for _ in range(20):
        assert quick.identify() is None


def test_rejections_that_count_no_more_are_not_kept(door: Door) -> None:
    for _ in range(30):
        door.identify()
        door.machine.seconds += 60.0
    query = "SELECT count(*) FROM rejection"
    with door.gallery.reading() as transaction:
        assert transaction.value(query) == 10


def test_attempts_at_1_to_1_are_not_those_of_1_to_n(door: Door) -> None:
    fail(door, 5)
    assert door.identify() is None
    for _ in range(9):
        door.identify()
    assert door.identify() == Refusal("rate_limited", 60.0)
    assert door.verify("grace") is None


@pytest.mark.parametrize("rate", [0, -1, 1001, 2**63])
def test_a_rate_that_makes_no_sense_is_refused_before_anything_is_written(make_bundle, tmp_path, rate):
    with raises(InputError, reason="bad_limit"):
        installer.install(make_bundle(), tmp_path / "state", InstallOptions(rejections_per_minute=rate))
    assert not (tmp_path / "state").exists()


# whatever the clock or the file says

ROWS = {"attempts": "UPDATE attempts SET since = ?", "rejection": "UPDATE rejection SET at = ?"}


@pytest.mark.parametrize("back", [99.0, 864_000.0, 1e12])
def test_a_clock_that_goes_back_under_the_same_boot_begins_a_delay_anew_once(door: Door, back: float) -> None:
    door.machine.seconds = back + 100.0
    fail(door, 5)
    for _ in range(10):
        assert door.identify() is None
    door.machine.seconds += 20.0
    door.machine.seconds -= back
    assert (door.verify("ada"), door.identify()) == (Refusal("delayed", 30.0), Refusal("rate_limited", 60.0))
    door.machine.seconds += 10.0
    assert (door.verify("ada"), door.identify()) == (Refusal("delayed", 20.0), Refusal("rate_limited", 50.0))
    door.machine.seconds += 20.0
    assert door.verify("ada") is None
    door.machine.seconds += 30.0
    assert door.identify() is None


@pytest.mark.parametrize("moment", [1e12, 9e999, 1.7e308, 1e9, -1e12, -9e999])
def test_a_moment_that_somebody_wrote_delays_nobody_longer_than_a_delay(door: Door, moment: float) -> None:
    fail(door, 5)
    for _ in range(10):
        assert door.identify() is None
    for statement in ROWS.values():
        with door.gallery.writing() as transaction:
            transaction.execute(statement, (moment,))
    for refusal, most in ((door.verify("ada"), 30.0), (door.identify(), 60.0)):
        assert (refusal is None) == (moment < 0.0)
        assert refusal is None or refusal.retry_after == most
    door.machine.seconds += 60.0
    assert (door.verify("ada", accepted=True), door.identify()) == (None, None)


def test_rejections_that_somebody_wrote_neither_pile_up_nor_lift_the_limit(door: Door) -> None:
    many = [(2**62 + number, door.machine.boot, -1e9) for number in range(2000)] + [(2**63 - 1, "x", 1e12)]
    insert = "INSERT INTO rejection VALUES (?, ?, ?)"
    with door.gallery.writing() as transaction:
        transaction.connection.executemany(insert, many)
    refusals = [door.identify() for _ in range(12)]
    assert [refusal is None for refusal in refusals] == [True] * 9 + [False] * 3
    assert refusals[-1] == Refusal("rate_limited", 60.0)
    with door.gallery.reading() as transaction:
        assert transaction.value("SELECT count(*) FROM rejection") == 10


def test_no_failures_that_somebody_wrote_are_an_internal_error(door: Door) -> None:
    door.verify("ada")
    for failures, refusal in ((2**63 - 1, Refusal("disabled", None)), (-(2**63), None)):
        statement = f"UPDATE attempts SET failures = {failures}"
        with door.gallery.writing() as transaction:
            transaction.execute(statement)
        assert door.verify("ada") == refusal


# the real clock


def test_the_systems_clock_is_that_of_the_boot() -> None:
    first, second = SYSTEM.seconds(), SYSTEM.seconds()
    assert 0.0 < first <= second
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert abs(uptime - second) < 60.0
    assert SYSTEM.boot() == SYSTEM.boot()
    assert len(SYSTEM.boot()) == 36
    assert SYSTEM.now().utcoffset() is not None

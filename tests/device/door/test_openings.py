"""Why the lock is open, and until when."""

from edge_oneshot_device.door.openings import HARD_LIMIT, Openings


def test_a_pulse_lasts_as_long_as_was_asked_for_and_no_longer_than_configured() -> None:
    openings = Openings(pulse=3.0, hold_at_most=100.0)
    openings.unlock(1.0, 10.0)
    assert openings.until(10.5) == 11.0
    openings.unlock(3600.0, 10.5)
    assert openings.until(10.5) == 13.5
    assert openings.until(13.5) is None


def test_no_configuration_makes_a_pulse_longer_than_the_hard_limit() -> None:
    openings = Openings(pulse=1e9, hold_at_most=1.0)
    openings.unlock(1e9, 0.0)
    assert openings.until(0.0) == HARD_LIMIT


def test_a_hold_ends_by_itself_and_is_not_prolonged() -> None:
    openings = Openings(pulse=3.0, hold_at_most=100.0)
    openings.hold(0.0)
    openings.hold(99.0)
    assert openings.is_kept_open(99.0)
    assert openings.until(100.0) is None
    openings.hold(100.0)
    assert openings.until(100.0) == 200.0


def test_the_loop_locks_what_it_opened_and_not_what_lets_people_out() -> None:
    openings = Openings(pulse=3.0, hold_at_most=100.0)
    openings.hold(0.0)
    openings.unlock(3.0, 0.0)
    openings.press_exit(0.0)
    openings.lock()
    assert openings.until(0.0) == 3.0
    assert not openings.is_kept_open(0.0)


def test_the_emergency_release_keeps_open_as_long_as_it_is_closed() -> None:
    openings = Openings(pulse=3.0, hold_at_most=10.0)
    for second in range(1000):
        openings.emergency(True, float(second))
        assert openings.is_kept_open(second + 1.0)
    openings.emergency(False, 1000.0)
    assert openings.until(1000.0) is None

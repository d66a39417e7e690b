"""Contacts, alarms, LEDs and the buzzer, at gpiozero's mock pins."""

from collections.abc import Iterator

import pytest
from gpiozero import Device
from gpiozero.pins.mock import MockFactory

from edge_oneshot_device.door.configuration import InputsSection, RelaySection
from edge_oneshot_device.door.inputs import BLINK_SECONDS, RETRY_SECONDS, TONE_SECONDS, Contacts, DoorWatch, Signals
from edge_oneshot_device.door.lock_drivers import Relay


@pytest.fixture(autouse=True)
def pins() -> Iterator[MockFactory]:
    """Mock pins instead of a board's."""
    factory = Device.pin_factory = MockFactory()
    yield factory
    factory.reset()
    Device.pin_factory = None


@pytest.mark.parametrize("active_high", [True, False])
def test_a_relay_is_locked_from_the_first_moment_and_obeys(active_high: bool, pins: MockFactory) -> None:
    relay = Relay(RelaySection(pin=17, active_high=active_high))
    relay.lock()
    assert pins.pin(17).function == "output"
    assert pins.pin(17).state is not active_high
    relay.unlock(3.0)
    assert pins.pin(17).state is active_high
    relay.lock()
    assert pins.pin(17).state is not active_high
    # locked, opened, locked: it never opened before it was told to
    assert [state.state for state in pins.pin(17).states][-2:] == [active_high, not active_high]


def test_a_relay_at_a_gpio_that_is_taken_is_an_error_and_works_when_it_is_free() -> None:
    other, relay = Relay(RelaySection(pin=17)), Relay(RelaySection(pin=17))
    other.lock()
    with pytest.raises(Exception, match="GPIO17"):
        relay.lock()
    other._device.close()
    relay.lock()


def test_a_contact_counts_when_it_has_kept_its_level(pins: MockFactory) -> None:
    contacts = Contacts(InputsSection(exit_button=5))
    assert contacts.lets_out
    contacts.read(0.0)
    assert contacts.read(1.0).exit_pressed is False
    pins.pin(5).drive_low()
    assert contacts.read(1.01).exit_pressed is False
    pins.pin(5).drive_high()
    assert contacts.read(1.02).exit_pressed is False
    pins.pin(5).drive_low()
    contacts.read(1.03)
    assert contacts.read(1.04).exit_pressed is False
    assert contacts.read(1.1).exit_pressed is True
    assert contacts.read(1.1).door_closed is None


def test_gpios_that_fail_are_a_fault_and_are_opened_again() -> None:
    relay = Relay(RelaySection(pin=5))
    relay.lock()
    contacts = Contacts(InputsSection(emergency_release=5))
    assert contacts.read(0.0).emergency is None
    assert "GPIO5" in str(contacts.fault)
    relay._device.close()
    contacts.read(RETRY_SECONDS / 2)
    assert contacts.fault is not None
    contacts.read(RETRY_SECONDS)
    assert contacts.read(RETRY_SECONDS + 1).emergency is False
    assert contacts.fault is None


def test_without_contacts_no_gpio_is_needed() -> None:
    Device.pin_factory = None
    contacts = Contacts(InputsSection())
    assert contacts.read(0.0).emergency is None
    assert contacts.fault is None
    assert not contacts.lets_out


def kinds(watch: DoorWatch, closed: bool | None, now: float, *, locked: bool = True, kept: bool = False) -> list[str]:
    return [report.kind for report in watch.see(closed, locked=locked, kept_open=kept, now=now)]


def test_a_door_that_opens_while_it_is_locked_was_forced() -> None:
    watch = DoorWatch(30.0)
    assert kinds(watch, True, 0.0) == ["door_closed"]
    assert kinds(watch, False, 100.0) == ["door_opened", "forced"]
    assert kinds(watch, True, 101.0) == ["door_closed"]


def test_a_door_that_opens_while_or_just_after_it_was_unlocked_was_not_forced() -> None:
    watch = DoorWatch(30.0)
    kinds(watch, True, 0.0)
    kinds(watch, True, 100.0, locked=False)
    assert kinds(watch, False, 100.5, locked=False) == ["door_opened"]
    kinds(watch, True, 101.0, locked=False)
    assert kinds(watch, False, 102.0) == ["door_opened"]


def test_a_door_found_open_at_the_start_was_not_forced() -> None:
    assert kinds(DoorWatch(30.0), False, 1000.0) == ["door_opened"]


def test_a_door_that_stays_open_raises_one_alarm_an_opening() -> None:
    watch = DoorWatch(30.0)
    kinds(watch, True, 0.0, locked=False)
    kinds(watch, False, 1.0, locked=False)
    assert kinds(watch, False, 31.0) == []
    assert kinds(watch, False, 31.1) == ["held_open"]
    assert kinds(watch, False, 1000.0) == []


def test_a_door_that_is_held_may_stand_open_and_counts_from_the_end_of_the_hold() -> None:
    watch = DoorWatch(30.0)
    kinds(watch, False, 0.0, locked=False, kept=True)
    assert kinds(watch, False, 1000.0, locked=False, kept=True) == []
    assert kinds(watch, False, 1029.0) == []
    assert kinds(watch, False, 1031.0) == ["held_open"]


def test_a_door_of_which_nothing_is_known_raises_no_alarm() -> None:
    watch = DoorWatch(30.0)
    assert kinds(watch, None, 0.0) == []
    assert kinds(watch, None, 1000.0) == []


def test_leds_show_the_lock_a_refusal_and_a_fault(pins: MockFactory) -> None:
    signals = Signals(InputsSection(green=20, red=21))
    signals.turn(True, 0.0)
    assert (pins.pin(20).state, pins.pin(21).state) == (True, False)
    signals.show("refused", 0.0)
    signals.turn(False, 0.1)
    assert (pins.pin(20).state, pins.pin(21).state) == (False, True)
    signals.show("faulty", 0.2)
    blinks = []
    for step in range(8):
        signals.turn(False, (step + 0.5) * BLINK_SECONDS)
        blinks.append(pins.pin(21).state)
    assert blinks == [True, False] * 4


@pytest.mark.parametrize(("state", "tones"), [("unlocked", 1), ("refused", 2), ("challenged", 3), ("approaching", 0)])
def test_the_buzzer_tells_states_apart(state: str, tones: int, pins: MockFactory) -> None:
    signals = Signals(InputsSection(buzzer=22))
    signals.turn(False, 9.0)
    signals.show(state, 10.0)
    heard = []
    for step in range(40):
        signals.show(state, 10.0 + step)  # again is not anew
        signals.turn(False, 10.0 + (step + 0.5) * TONE_SECONDS)
        heard.append(pins.pin(22).state)
    assert heard == [True, False] * tones + [False] * (40 - 2 * tones)

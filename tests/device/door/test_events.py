"""What the door records, and what is told of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_oneshot_device.door.events import (
    Event,
    event_of,
    is_event,
    record_alarm,
    record_change,
    record_command,
)
from edge_oneshot_device.door.states import Change
from edge_oneshot_device.gallery import audit_trail
from edge_oneshot_device.gallery.audit import parse_head
from tests.device.door.outgoing import OPENED, REFUSED, SECRET_FACTS, Door, a_door
from tests.samples.galleries import Machine, vectors


@pytest.fixture
def door(tmp_path: Path, machine: Machine) -> Iterator[Door]:
    with a_door(tmp_path, machine.clock()) as made:
        yield made


def told(door: Door) -> list[Event]:
    """All events that the audit trail makes."""
    events = []
    for row, entry in zip(door.gallery.rows(), audit_trail.entries(door.gallery), strict=True):
        if is_event(row, entry.detail):
            events.append(event_of(row, entry.detail, entry.person, "Front"))
    return events


def test_a_change_of_state_is_a_row_without_a_name_and_an_event_with_it(door: Door) -> None:
    record_change(door.gallery, OPENED, reason="match", person="ada")
    row = list(door.gallery.rows())[-1]
    assert row.act == "door"
    assert "ada" not in row.detail
    assert row.person == door.gallery.number_of("ada")
    door.gallery.check_audit()
    assert json.loads(told(door)[0].encode()) == {
        "id": str(audit_trail.head(door.gallery)),
        "number": 3,
        "at": "2026-01-05T12:00:00.000Z",
        "door": "Front",
        "kind": "state",
        "person": "ada",
        "reason": "match",
        "state": "unlocked",
        "before": "approaching",
        "signal": "accepted",
    }


def test_the_id_of_an_event_is_a_head_that_the_audit_trail_is_checked_against(door: Door) -> None:
    record_change(door.gallery, OPENED, reason="match", person="ada")
    record_alarm(door.gallery, "forced", "the door was forced")
    event = told(door)[0]
    assert parse_head(event.id).seq == event.number
    audit_trail.check(door.gallery, event.id)


def test_a_change_about_nobody_or_somebody_forgotten_has_no_person(door: Door) -> None:
    record_change(door.gallery, REFUSED, reason="several_faces", person=None)
    record_change(door.gallery, OPENED, reason="match", person="was never enrolled")
    record_change(door.gallery, OPENED, reason="match", person="ada")
    door.gallery.forget("ada")
    assert [event.person for event in told(door)] == [None, None, None, None]
    assert told(door)[-1].kind == "forgotten"


def test_alarms_and_commands_are_events(door: Door) -> None:
    record_alarm(door.gallery, "held_open", "the door stands open")
    record_command(door.gallery, "unlock")
    alarm, command = told(door)
    assert (alarm.kind, alarm.alarm, alarm.text) == ("alarm", "held_open", "the door stands open")
    assert (command.kind, command.command) == ("command", "unlock")


def test_what_is_recorded_is_one_short_line(door: Door) -> None:
    record_alarm(door.gallery, "fault", "a\nb\x1b[2J" + "x" * 5000)
    record_change(door.gallery, Change("idle", "failed", "faulty"), reason="y\n" * 500, person=None)
    alarm, change = told(door)
    assert alarm.text is not None
    assert alarm.text.startswith("a b\\x1b[2Jxxx")
    assert len(alarm.text) == 200
    assert change.reason is not None
    assert len(change.reason) == 200
    assert "\n" not in change.reason


@pytest.mark.parametrize(
    ("act", "detail", "accepted"),
    [
        ("identify", {"accepted": True, "reason": "match"}, True),
        ("identify", {"accepted": False, "reason": "below_threshold"}, False),
        ("verify", {"accepted": False, "reason": "below_threshold"}, False),
        ("challenge", {"passed": True, "reason": "passed"}, True),
        ("challenge", {"passed": False, "reason": "rate_limited"}, False),
    ],
)
def test_a_decision_is_told_without_what_helps_to_pass(
    door: Door, act: str, detail: dict[str, object], accepted: bool
) -> None:
    door.decide(act, detail, "ada")
    (event,) = told(door)
    assert (event.kind, event.act, event.accepted, event.reason) == ("decision", act, accepted, detail["reason"])
    assert event.person == ("ada" if accepted else None)
    content = event.encode().decode()
    for name, value in SECRET_FACTS.items():
        assert f'"{name}"' not in content
        assert str(value) not in content


def test_what_is_no_decision_and_no_deed_of_the_door_is_not_told(door: Door) -> None:
    door.gallery.enrol("grace", vectors())
    door.decide("challenge", {"passed": False, "reason": "begun"})
    assert told(door) == []

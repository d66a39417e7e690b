"""What a door records: in order, once, and later where it cannot be recorded at once."""

import pytest

from edge_oneshot_device.door import journal as module
from edge_oneshot_device.door.journal import Journal
from edge_oneshot_device.door.states import Change
from edge_oneshot_device.errors import IntegrityError, MachineError

UNLOCKED = Change("approaching", "accepted", "unlocked")
IDLE = Change("unlocked", "timeout", "idle")
FAULTS = [MachineError("the disk is full", reason="disk_full"), IntegrityError("altered", reason="audit_altered")]


class Trail:
    """An audit trail that takes rows unless something is wrong."""

    def __init__(self):
        self.rows, self.fault = [], None

    def write(self, row):
        if self.fault is not None:
            raise self.fault
        self.rows.append(row)


@pytest.fixture
def trail(monkeypatch):
    trail = Trail()
    monkeypatch.setattr(
        module, "record_change", lambda _, change, **facts: trail.write((change.after, facts["reason"]))
    )
    monkeypatch.setattr(module, "record_alarm", lambda _, kind, text: trail.write((kind, text)))
    monkeypatch.setattr(module, "record_command", lambda _, command: trail.write(("command", command)))
    return trail


def test_what_decides_nothing_is_not_recorded(trail):
    journal = Journal(None)
    assert journal.change(Change("idle", "appeared", "approaching"), "appeared", None)
    assert journal.change(Change("approaching", "left", "idle"), "left", None)
    assert trail.rows == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.reason)
def test_what_cannot_be_recorded_waits_in_order_and_is_recorded_once(trail, fault):
    journal = Journal(None)
    trail.fault = fault
    assert not journal.change(IDLE, "timeout", None)
    assert not journal.alarm("forced", "the door was opened")
    assert journal.fault == str(fault)
    trail.fault = None
    assert journal.flush()
    assert journal.fault is None
    assert journal.flush()
    assert trail.rows == [("idle", "timeout"), ("forced", "the door was opened")]


def test_what_did_not_happen_is_withdrawn_and_nothing_else(trail):
    journal = Journal(None)
    trail.fault = FAULTS[0]
    journal.alarm("held_open", "for 30 seconds")
    assert not journal.change(UNLOCKED, "match", "ada")
    journal.withdraw()
    assert not journal.command("unlock")
    trail.fault = None
    journal.flush()
    assert trail.rows == [("held_open", "for 30 seconds")]

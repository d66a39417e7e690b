"""The outbox: which rows a receiver is still sent, whatever happens to the audit trail meanwhile."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from edge_oneshot_device.door.events import is_event, record_alarm
from edge_oneshot_device.door.outbox import Outbox
from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_device.gallery import audit_trail
from edge_oneshot_device.gallery.access import ALWAYS
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key
from edge_oneshot_device.gallery.rotation import rotate_key
from edge_oneshot_device.gallery.transfer import back_up, restore
from tests.device.door.outgoing import Door, a_door
from tests.raising import raises
from tests.samples.galleries import Machine, tampering


@pytest.fixture
def door(tmp_path: Path, machine: Machine) -> Iterator[Door]:
    with a_door(tmp_path, machine.clock()) as made:
        yield made


def outbox(door: Door) -> Outbox:
    """As after a start of the program."""
    made = Outbox(door.open, "test", is_event)
    made.left()
    return made


def drain(box: Outbox) -> list[int]:
    """Take and acknowledge all that there is; returns the numbers."""
    taken = []
    while (waiting := box.next()) is not None:
        taken.append(waiting.row.seq)
        box.acknowledge(waiting)
    box.close()
    return taken


def test_it_begins_at_the_end_and_then_gives_each_row_once_in_order(door: Door) -> None:
    door.open_and_close(times=2)
    assert drain(outbox(door)) == []
    door.open_and_close(times=3)
    assert drain(outbox(door)) == door.numbers()[2:]
    assert drain(outbox(door)) == []
    door.open_and_close()
    assert drain(outbox(door)) == door.numbers()[5:]


def test_what_happens_between_the_start_and_the_first_connection_is_not_lost(door: Door) -> None:
    box = outbox(door)
    box.close()  # as a kill
    door.open_and_close()
    assert drain(outbox(door)) == door.numbers()


def test_a_row_that_was_not_acknowledged_comes_again(door: Door) -> None:
    box = outbox(door)
    door.open_and_close(times=2)
    first = box.next()
    assert first is not None
    assert box.next() == first
    box.close()
    assert drain(outbox(door)) == door.numbers()


def test_rows_that_are_no_events_are_passed_over_however_many(door: Door) -> None:
    box = outbox(door)
    for _ in range(121):
        door.gallery.set_access("ada", ALWAYS)
    door.open_and_close()
    assert box.left() == 122
    assert drain(box) == door.numbers()
    assert box.left() == 0
    box.close()


def test_a_name_is_what_it_is_when_the_row_is_sent(door: Door) -> None:
    box = outbox(door)
    door.open_and_close("ada")
    named = box.next()
    assert named is not None
    assert named.person == "ada"
    door.gallery.forget("ada")
    nameless = box.next()
    assert nameless is not None
    assert nameless.person is None
    box.close()


@pytest.mark.parametrize("sent", [0, 1, 3])
def test_pruned_rows_are_neither_waited_for_nor_do_they_bring_others_again(
    door: Door, machine: Machine, sent: int
) -> None:
    box = outbox(door)
    door.open_and_close(times=3)
    for _ in range(sent):
        waiting = box.next()
        assert waiting is not None
        box.acknowledge(waiting)
    box.close()
    machine.now += timedelta(days=10)
    assert audit_trail.prune(door.gallery, 5).rows > 0
    left = door.numbers()
    door.open_and_close(times=2)
    assert left == []
    assert drain(outbox(door)) == door.numbers()
    assert len(door.numbers()) == 2


def test_a_clock_that_stands_still_loses_no_row_to_pruning(door: Door, machine: Machine) -> None:
    box = outbox(door)
    door.open_and_close()
    box.close()
    machine.now += timedelta(days=10)
    door.open_and_close()
    machine.now -= timedelta(days=1)  # rows have the date of the one before from now on
    door.open_and_close(times=2)
    machine.now += timedelta(days=1)
    audit_trail.prune(door.gallery, 5)
    assert drain(outbox(door)) == door.numbers()
    assert len(door.numbers()) == 3


def test_a_restored_backup_repeats_nothing_and_what_follows_is_sent(
    door: Door, machine: Machine, tmp_path: Path
) -> None:
    box = outbox(door)
    door.open_and_close(times=2)
    back_up(door.gallery, tmp_path / "backup.db")
    machine.now += timedelta(hours=1)
    door.open_and_close(times=5)
    drain(box)
    machine.now += timedelta(hours=1)
    restore(door.gallery, tmp_path / "backup.db")
    machine.now += timedelta(seconds=1)
    door.open_and_close()
    assert drain(outbox(door)) == door.numbers()[2:]
    assert len(door.numbers()) == 3


def test_so_does_an_older_file_in_the_place_of_the_gallery(door: Door, machine: Machine) -> None:
    box = outbox(door)
    door.open_and_close(times=2)
    shutil.copy(door.path, door.folder.parent / "older.db")
    machine.now += timedelta(hours=1)
    door.open_and_close(times=2)
    drain(box)
    door.gallery.close()
    shutil.copy(door.folder.parent / "older.db", door.path)
    door.gallery = door.open()
    machine.now += timedelta(hours=1)
    door.open_and_close(times=4)  # as many as to be beyond the old number
    assert drain(outbox(door)) == door.numbers()[2:]


def test_another_key_changes_nothing(door: Door) -> None:
    box = outbox(door)
    door.open_and_close()
    rotate_key(door.gallery)
    door.open_and_close()
    assert drain(box) == door.numbers()
    door.open_and_close()
    assert drain(outbox(door)) == door.numbers()[2:]


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"seq": 1}', b'{"seq": "1", "mac": "", "at": 0}', b"\xff", b"x" * 5000]
)
def test_a_position_that_makes_no_sense_begins_at_the_end(door: Door, content: bytes) -> None:
    door.open_and_close()
    (door.folder / "events-test.json").write_bytes(content)
    box = outbox(door)
    door.open_and_close()
    assert drain(box) == door.numbers()[1:]


def test_where_it_cannot_be_written_down_nothing_comes_twice_while_the_program_runs(door: Door) -> None:
    box = outbox(door)
    door.open_and_close(times=2)
    file = door.folder / "events-test.json"
    file.unlink()
    file.mkdir()  # as good as a full disk
    assert drain(box) == door.numbers()
    assert box.fault is not None
    assert "cannot write" in box.fault
    file.rmdir()
    assert box.next() is None
    assert box.fault is None
    box.close()
    door.open_and_close()
    assert drain(outbox(door)) == door.numbers()[2:]
    assert drain(outbox(door)) == []


@pytest.mark.parametrize(
    "change",
    [
        'UPDATE audit SET detail = \'{"kind":"alarm","alarm":"forged"}\' WHERE seq = {seq}',
        "UPDATE audit SET person = NULL WHERE seq = {seq}",
        "DELETE FROM audit WHERE seq = {seq}",
        "INSERT INTO audit SELECT max(seq) + 1, at, act, person, detail, mac FROM audit",
    ],
)
def test_a_row_that_somebody_wrote_without_the_key_is_not_sent(door: Door, change: str) -> None:
    box = outbox(door)
    door.open_and_close(times=3)
    numbers = door.numbers()
    door.gallery.close()
    with tampering(door.path) as connection:
        connection.execute(change.replace("{seq}", str(numbers[1])))
    with raises(IntegrityError, reason="audit_altered"):
        drain(box)
    box.close()
    door.gallery = door.open()


def test_a_gallery_with_another_key_is_an_error_and_no_end(door: Door, tmp_path: Path) -> None:
    keys = [KeySource(door.key)]

    def opened() -> Gallery:
        return Gallery.open(door.path, key=keys[0], clock=door.clock)

    create_key(tmp_path / "other")
    box = Outbox(opened, "test", is_event)
    box.left()
    box.close()
    record_alarm(door.gallery, "forced", "the door was forced")
    keys[0] = KeySource(tmp_path / "other")
    with raises(IntegrityError, reason="wrong_key"):
        box.next()
    keys[0] = KeySource(door.key)
    assert drain(box) == door.numbers()

"""PINs: who may set which, how they are checked and counted, and that nothing is left of them."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edge_oneshot_device import Recognizer, cli
from edge_oneshot_device.door import pins
from edge_oneshot_device.door.pins import check_number_and_pin, check_pin, set_pin
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.gallery import roster
from edge_oneshot_device.gallery.access import ALWAYS, Access
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key
from edge_oneshot_device.gallery.limits import Limits
from edge_oneshot_device.gallery.rotation import rotate_key
from edge_oneshot_device.gallery.transfer import back_up, export_people, import_people, restore
from tests.raising import raises
from tests.samples.galleries import MINE, SIZE, Machine, vectors
from tests.samples.tiny import MakeBundle, People

PIN, OTHER_PIN = "271828", "314159"
WRONG = "999990"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that cost next to nothing; one test has the real ones."""
    monkeypatch.setattr(pins, "_MEMORY_KIB", 8)
    monkeypatch.setattr(pins, "_PASSES", 1)


@pytest.fixture
def gallery(tmp_path: Path, machine: Machine) -> Iterator[Gallery]:
    (tmp_path / "state").mkdir()
    create_key(tmp_path / "key")
    with open_gallery(tmp_path, machine) as gallery:
        for person in ("ada", "ben"):
            gallery.enrol(person, vectors(seed=len(person)))
        yield gallery


def open_gallery(folder: Path, machine: Machine, name: str = "gallery.db") -> Gallery:
    return Gallery.open(folder / "state" / name, MINE, SIZE, KeySource(folder / "key"), machine.clock(), create=True)


def answer(gallery: Gallery, person: str, pin: str) -> str:
    verdict = check_pin(gallery, person, pin)
    assert verdict.accepted == (verdict.reason == "match") == (verdict.person == person)
    return verdict.reason


def rows(gallery: Gallery) -> list[tuple[str, dict[str, object]]]:
    return [(row.act, json.loads(row.detail)) for row in gallery.rows() if row.act.startswith("pin")]


def test_the_right_pin_is_accepted_and_every_other_is_not(gallery: Gallery) -> None:
    change = set_pin(gallery, "ada", PIN)
    assert (change.person, change.reason) == ("ada", "pin_set")
    assert answer(gallery, "ada", PIN) == "match"
    for other in (WRONG, PIN[:-1], PIN + "0", "", "271828\n", "२७१८२८", "2" * 1000, OTHER_PIN):
        assert answer(gallery, "ada", other) == "wrong_pin"
        assert answer(gallery, "ada", PIN) == "match"
    assert answer(gallery, "ben", PIN) == "no_pin"
    with raises(InputError, reason="not_enrolled"):
        check_pin(gallery, "eve", PIN)


def test_another_pin_replaces_it_and_keeps_the_number(gallery: Gallery) -> None:
    number = set_pin(gallery, "ada", PIN).number
    assert set_pin(gallery, "ada", OTHER_PIN).number == number
    assert answer(gallery, "ada", PIN) == "wrong_pin"
    assert answer(gallery, "ada", OTHER_PIN) == "match"


def test_a_pin_that_is_removed_opens_nothing(gallery: Gallery) -> None:
    set_pin(gallery, "ada", PIN)
    assert set_pin(gallery, "ada", None).reason == "pin_removed"
    assert answer(gallery, "ada", PIN) == "no_pin"
    with raises(InputError, reason="no_pin"):
        set_pin(gallery, "ada", None)


@pytest.mark.parametrize(
    "pin",
    ["", "123", "1" * 13, "12a4", "12 4", "१२३४", "0000", "1234", "7890", "4321", "3210", "999999", "-123", "1٣34"],
)
def test_a_pin_that_anybody_guesses_or_that_is_none_is_refused(pin: str, gallery: Gallery) -> None:
    with raises(InputError, reason="bad_pin"):
        set_pin(gallery, "ada", pin)
    assert rows(gallery) == []


@pytest.mark.parametrize("pin", ["1235", "0072", "271828182845"])
def test_a_pin_of_four_to_twelve_digits_is_taken(pin: str, gallery: Gallery) -> None:
    set_pin(gallery, "ada", pin)
    assert answer(gallery, "ada", pin) == "match"


def test_failures_delay_then_turn_the_pin_off_until_unlock(gallery: Gallery, machine: Machine) -> None:
    set_pin(gallery, "ada", PIN)
    for _ in range(5):
        assert answer(gallery, "ada", WRONG) == "wrong_pin"
    verdict = check_pin(gallery, "ada", PIN)
    assert (verdict.reason, verdict.retry_after) == ("delayed", 30.0)
    machine.seconds += 31
    assert answer(gallery, "ada", WRONG) == "wrong_pin"
    assert check_pin(gallery, "ada", PIN).retry_after == 60.0
    machine.seconds += 61
    assert answer(gallery, "ada", PIN) == "match"
    for _ in range(50):
        assert answer(gallery, "ada", WRONG) == "wrong_pin"
        machine.seconds += 3601
    verdict = check_pin(gallery, "ada", PIN)
    assert (verdict.reason, verdict.retry_after) == ("disabled", None)
    with gallery.writing() as transaction:
        assert roster.reset_pin(transaction, roster.find(transaction, "ada")[0]) == 50
    assert answer(gallery, "ada", PIN) == "match"


def test_a_restart_begins_a_delay_again_and_once_only(gallery: Gallery, machine: Machine) -> None:
    set_pin(gallery, "ada", PIN)
    for _ in range(5):
        answer(gallery, "ada", WRONG)
    machine.seconds += 29
    machine.restart()
    assert check_pin(gallery, "ada", PIN).retry_after == 30.0
    machine.seconds += 31
    assert answer(gallery, "ada", PIN) == "match"


def test_an_attempt_that_has_to_wait_is_neither_compared_nor_counted(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_pin(gallery, "ada", PIN)
    for _ in range(5):
        answer(gallery, "ada", WRONG)
    monkeypatch.setattr(pins, "_matches", lambda *_: pytest.fail("it was compared"))
    for _ in range(100):
        assert check_pin(gallery, "ada", PIN).retry_after == 30.0


def test_a_delay_that_ends_between_reading_and_recording_is_no_wrong_pin(
    gallery: Gallery, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_pin(gallery, "ada", PIN)
    for _ in range(5):
        answer(gallery, "ada", WRONG)
    record, calls = pins._record, []

    def record_late(*arguments: object) -> pins.PinVerdict:
        calls.append(True)
        machine.seconds += 31
        return record(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pins, "_record", record_late)
    assert answer(gallery, "ada", PIN) == "match"
    assert len(calls) == 2


def test_failures_are_one_person_s_own_and_none_of_their_face(gallery: Gallery) -> None:
    set_pin(gallery, "ada", PIN)
    set_pin(gallery, "ben", PIN)
    for _ in range(5):
        answer(gallery, "ada", WRONG)
    assert answer(gallery, "ben", PIN) == "match"
    with gallery.reading() as transaction:
        assert not transaction.value("SELECT count(*) FROM attempts")
        assert not transaction.value("SELECT count(*) FROM rejection")


def test_two_processes_have_no_more_attempts_than_one(tmp_path: Path, gallery: Gallery, machine: Machine) -> None:
    set_pin(gallery, "ada", PIN)
    with open_gallery(tmp_path, machine) as other:
        for _ in range(3):
            answer(gallery, "ada", WRONG)
        for _ in range(2):
            answer(other, "ada", WRONG)
        assert answer(gallery, "ada", PIN) == answer(other, "ada", PIN) == "delayed"


def test_failures_that_another_process_counts_meanwhile_refuse_the_right_pin(
    tmp_path: Path, gallery: Gallery, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_pin(gallery, "ada", PIN)
    compare, nested = pins._matches, []

    def compare_late(*arguments: object) -> bool:
        if not nested:
            nested.append(True)
            with open_gallery(tmp_path, machine) as other:
                for _ in range(5):
                    answer(other, "ada", WRONG)
        return compare(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pins, "_matches", compare_late)
    assert answer(gallery, "ada", PIN) == "delayed"


def test_a_pin_that_is_changed_meanwhile_is_compared_again(
    tmp_path: Path, gallery: Gallery, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_pin(gallery, "ada", PIN)
    compare, nested = pins._matches, []

    def compare_late(*arguments: object) -> bool:
        if not nested:
            nested.append(True)
            with open_gallery(tmp_path, machine) as other:
                set_pin(other, "ada", OTHER_PIN)
        return compare(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pins, "_matches", compare_late)
    assert answer(gallery, "ada", PIN) == "wrong_pin"


def test_outside_of_their_hours_nobody_is_let_in(gallery: Gallery) -> None:
    number = str(set_pin(gallery, "ada", PIN).number)
    gallery.set_access("ada", Access(valid_until="2026-01-01T00:00:00Z"))
    assert answer(gallery, "ada", PIN) == "expired"
    assert check_number_and_pin(gallery, number + PIN, None).reason == "expired"
    gallery.set_access("ada", ALWAYS)
    assert answer(gallery, "ada", PIN) == "match"


def test_number_and_pin_open_alone(gallery: Gallery) -> None:
    ada, ben = (set_pin(gallery, person, PIN).number for person in ("ada", "ben"))
    assert ada != ben
    assert check_number_and_pin(gallery, f"{ada}{PIN}", None).person == "ada"
    assert check_number_and_pin(gallery, f"{ben}{PIN}", None).person == "ben"
    for entered in ("", PIN, f"0999{PIN}", "1" * 100, "٣" * 10, f"{ada} {PIN}", f"{ada}0{PIN}"):
        assert check_number_and_pin(gallery, entered, None).reason == "wrong_pin"


def test_where_short_numbers_are_taken_long_ones_open_too(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "_NUMBERS", (range(1000, 1001), range(90_000_000, 100_000_000)))
    assert set_pin(gallery, "ada", PIN).number == 1000
    number = set_pin(gallery, "ben", OTHER_PIN).number
    assert number is not None
    assert number >= 90_000_000
    assert check_number_and_pin(gallery, f"{number}{OTHER_PIN}", None).person == "ben"
    assert check_number_and_pin(gallery, f"1000{PIN}", None).person == "ada"


def test_a_short_pin_opens_nothing_alone(gallery: Gallery) -> None:
    number = str(set_pin(gallery, "ada", "27182").number)
    assert answer(gallery, "ada", "27182") == "match"
    assert check_number_and_pin(gallery, f"{number}27182", None).reason == "wrong_pin"


def test_alone_failures_slow_the_whole_door_whoever_they_name(gallery: Gallery, machine: Machine) -> None:
    number = str(set_pin(gallery, "ada", PIN).number)
    attempts = Limits(rejections_per_minute=3)
    for named in ("0001", number, "0002"):
        assert check_number_and_pin(gallery, named + WRONG, attempts).reason == "wrong_pin"
    verdict = check_number_and_pin(gallery, number + PIN, attempts)
    assert verdict.reason == "rate_limited"
    assert verdict.retry_after is not None
    machine.seconds += 61
    assert check_number_and_pin(gallery, number + PIN, attempts).accepted


def test_alone_failures_count_for_the_person_too(gallery: Gallery) -> None:
    number = str(set_pin(gallery, "ada", PIN).number)
    for _ in range(5):
        check_number_and_pin(gallery, number + WRONG, None)
    assert check_number_and_pin(gallery, number + PIN, None).reason == "delayed"


def test_every_change_and_check_is_in_the_audit_trail_without_a_digit(gallery: Gallery) -> None:
    number = set_pin(gallery, "ada", PIN).number
    check_pin(gallery, "ada", PIN)
    check_pin(gallery, "ada", WRONG)
    check_number_and_pin(gallery, f"0001{PIN}", None)
    set_pin(gallery, "ada", None)
    assert rows(gallery) == [
        ("pin_set", {}),
        ("pin", {"accepted": True, "reason": "match", "alone": False}),
        ("pin", {"accepted": False, "reason": "wrong_pin", "alone": False}),
        ("pin", {"accepted": False, "reason": "wrong_pin", "alone": True}),
        ("pin_removed", {}),
    ]
    details = "".join(row.detail for row in gallery.rows())
    assert PIN not in details
    assert str(number) not in details
    gallery.check_audit()


def test_an_answer_that_cannot_be_recorded_lets_nobody_in(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    set_pin(gallery, "ada", PIN)

    def full(*_: object) -> None:
        raise MachineError("the disk is full", reason="disk_full")

    monkeypatch.setattr(pins.audit, "append", full)
    verdict = check_pin(gallery, "ada", PIN)
    assert (verdict.accepted, verdict.reason, verdict.person) == (False, "audit_unavailable", None)
    assert "full" in str(verdict.fault)


def test_a_pin_survives_what_it_has_to_and_leaves_with_the_person(tmp_path: Path, gallery: Gallery) -> None:
    number = set_pin(gallery, "ada", PIN).number
    gallery.set_access("ada", Access(hours="mon-sun 00:00-24:00"))
    gallery.enrol("ada", vectors(seed=3), add=True)
    gallery.enrol("ada", vectors(seed=4), replace=True)
    rotate_key(gallery)
    assert answer(gallery, "ada", PIN) == "match"
    back_up(gallery, tmp_path / "copy")
    set_pin(gallery, "ada", OTHER_PIN)
    restore(gallery, tmp_path / "copy")
    assert answer(gallery, "ada", PIN) == "match"
    gallery.forget("ada")
    assert check_number_and_pin(gallery, f"{number}{PIN}", None).reason == "wrong_pin"
    gallery.enrol("ada", vectors(seed=5))
    assert answer(gallery, "ada", PIN) == "no_pin"


def test_a_pin_does_not_travel_to_another_door(tmp_path: Path, gallery: Gallery, machine: Machine) -> None:
    set_pin(gallery, "ada", PIN)
    key = gallery.keyring.vault.key
    export_people(gallery, tmp_path / "people", key)
    with open_gallery(tmp_path, machine, "other.db") as other:
        import_people(other, tmp_path / "people", key)
        assert answer(other, "ada", PIN) == "no_pin"


def test_of_a_pin_nothing_can_be_read_in_the_file(tmp_path: Path, gallery: Gallery) -> None:
    set_pin(gallery, "ada", PIN)
    content = (tmp_path / "state" / "gallery.db").read_bytes()
    assert b"argon2" not in content
    assert PIN.encode() not in content


def test_a_pin_is_hashed_as_the_owasp_cheat_sheet_says(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    set_pin(gallery, "ada", PIN)
    with gallery.reading() as transaction:
        details = roster.details_of(transaction, roster.find(transaction, "ada")[0])
    assert details is not None
    assert details.pin is not None
    assert details.pin.digest.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert answer(gallery, "ada", PIN) == "match"


def test_the_command_reads_the_pin_from_stdin_and_prints_the_number(
    tmp_path: Path,
    make_bundle: MakeBundle,
    people: People,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = ["--state", str(tmp_path / "state"), "--key", str(tmp_path / "key")]
    image = tmp_path / "ada.png"
    image.write_bytes(people["ada"][0])
    assert cli.main(["init", str(make_bundle()), *where]) == 0
    assert cli.main(["enrol", "ada", str(image), *where]) == 0
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PIN}\n"))
    assert cli.main(["pin", "ada", "--json", *where]) == 0
    change = msgspec.json.decode(capsys.readouterr().out)
    assert (change["person"], change["reason"]) == ("ada", "pin_set")
    assert 1000 <= change["number"] <= 8999
    with Recognizer.open(where[1], key=where[3]) as door:
        for _ in range(5):
            check_pin(door.gallery, "ada", WRONG)
        assert check_pin(door.gallery, "ada", PIN).reason == "delayed"
        assert cli.main(["unlock", "ada", *where]) == 0
        assert capsys.readouterr().out == "unlocked  ada  after 0 failures in a row, and 5 of the PIN\n"
        assert check_pin(door.gallery, "ada", PIN).accepted
    assert cli.main(["pin", "ada", "--remove", *where]) == 0
    assert capsys.readouterr().out == "pin removed  ada\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert cli.main(["pin", "ada", *where]) == 2
    assert "there is no PIN" in capsys.readouterr().err


def test_a_pin_that_is_typed_differently_the_second_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    typed = iter([PIN, OTHER_PIN])
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda _: next(typed))
    with raises(InputError, reason="wrong_use", match="not the same"):
        cli.console.read_secret("PIN")

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge_oneshot_device import Decision, Recognizer, cli
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.gallery.access import parse_access
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.limits import Limits
from edge_oneshot_device.installation import installer
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_device.matching.decision import Candidate
from edge_oneshot_device.recognition import recognizer
from edge_oneshot_device.recognition.attempts import Attempt
from tests.samples.galleries import Machine, said
from tests.samples.tiny import MakeBundle, People

Opener = Callable[..., Recognizer]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield Machine()
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def door(opener: Opener, people: People) -> Iterator[Recognizer]:
    """With ada, alan and grace enrolled."""
    with opener() as opened:
        for name in ("ada", "alan", "grace"):
            opened.enrol(name, people[name][0])
        yield opened


def last(door: Recognizer) -> tuple[str, str | None, dict[str, Any]]:
    """Act, person and detail of the newest row of the audit trail."""
    *_, row = door.gallery.rows()
    return row.act, None if row.person is None else door.gallery.name_of(row.person), json.loads(row.detail)


# every decision is a row


def test_what_was_decided_is_in_the_record_with_what_it_rests_on(door: Recognizer, people: People) -> None:
    accepted = door.identify(people["ada"][1])
    detail = {
        "accepted": True, "reason": "match", "score": pytest.approx(accepted.score), "threshold": accepted.threshold,
        "variant": "int8", "runtime": "litert", "fingerprint": accepted.fingerprint,
    }  # fmt: skip
    assert last(door) == ("identify", "ada", detail)
    # of a stranger it is not said whom they resemble
    unknown = door.identify(people["stranger"][0])
    assert last(door)[:2] == ("identify", None)
    assert last(door)[2]["score"] == pytest.approx(unknown.score)
    refused = door.verify("ada", people["grace"][1])
    assert said(refused) == (None, False, "below_threshold")
    assert last(door)[:2] == ("verify", "ada")
    assert last(door)[2]["accepted"] is False
    assert door.gallery.check_audit().rows == 7


# limits


def test_1_to_1_is_delayed_after_five_failures_whoever_comes_and_is_looked_at_after_it(door, people, machine):
    for _ in range(5):
        assert said(door.verify("ada", people["grace"][1])) == (None, False, "below_threshold")
    delayed = door.verify("ada", people["ada"][1])
    assert said(delayed) == (None, False, "delayed")
    assert (delayed.score, delayed.similarity, delayed.candidate, delayed.retry_after) == (None, None, None, 30.0)
    assert last(door)[2]["reason"] == "delayed"
    # an image that shows nothing is not even read
    assert door.verify("ada", b"no image").reason == "delayed"
    assert door.verify("grace", people["grace"][1]).accepted
    assert door.identify(people["ada"][1]).person == "ada"
    machine.seconds += 30.0
    assert said(door.verify("ada", people["ada"][1])) == ("ada", True, "match")
    assert said(door.verify("ada", people["grace"][1])) == (None, False, "below_threshold")


def test_whoever_was_locked_out_is_let_in_after_unlock(door: Recognizer, people: People, machine: Machine) -> None:
    for _ in range(50):
        machine.seconds += 3600.0
        assert door.verify("ada", people["grace"][1]).reason == "below_threshold"
    machine.seconds += 1e9
    disabled = door.verify("ada", people["ada"][1])
    assert (disabled.reason, disabled.retry_after) == ("disabled", None)
    recognized = door.identify(people["ada"][1])
    assert said(recognized) == (None, False, "disabled")
    assert recognized.candidate is not None
    assert recognized.candidate.person == "ada"
    assert door.identify(people["alan"][1]).accepted
    unlocked = door.unlock("ada")
    assert (unlocked.person, unlocked.failures) == ("ada", 50)
    assert last(door) == ("unlocked", "ada", {"failures": 50, "pin_failures": 0})
    assert door.verify("ada", people["ada"][1]).accepted
    assert door.identify(people["ada"][1]).accepted


def test_two_processes_count_the_same_failures(door: Recognizer, opener: Opener, people: People) -> None:
    with opener() as desk:
        for attempt in range(5):
            assert (door, desk)[attempt % 2].verify("ada", people["grace"][1]).reason == "below_threshold"
        assert door.verify("ada", people["ada"][1]).reason == "delayed"
        assert desk.verify("ada", people["ada"][1]).reason == "delayed"


def test_a_failure_of_another_process_between_the_comparison_and_the_decision_counts(door, opener, people, monkeypatch):
    for _ in range(4):
        door.verify("ada", people["grace"][1])
    with opener() as desk:
        embed = Encoder.embed_image

        def meanwhile(encoder: Encoder, image: Any) -> Any:
            monkeypatch.setattr(Encoder, "embed_image", embed)
            assert desk.verify("ada", people["grace"][1]).reason == "below_threshold"
            return embed(encoder, image)

        monkeypatch.setattr(Encoder, "embed_image", meanwhile)
        assert door.verify("ada", people["ada"][1]).reason == "delayed"


def test_the_door_is_slowed_by_strangers_and_never_off(door: Recognizer, people: People, machine: Machine) -> None:
    for _ in range(9):
        assert door.identify(people["stranger"][0]).reason == "below_threshold"
        assert door.identify(people["ada"][1]).accepted
    assert door.identify(people["stranger"][0]).reason == "below_threshold"
    slowed = door.identify(people["ada"][1])
    assert said(slowed) == (None, False, "rate_limited")
    assert (slowed.score, slowed.retry_after) == (None, 60.0)
    assert door.verify("ada", people["ada"][1]).accepted
    machine.seconds += 60.0
    assert door.identify(people["ada"][1]).accepted


def test_without_limits_one_may_try_as_often_as_one_likes(opener: Opener, people: People) -> None:
    with opener(limits=None) as bench:
        bench.enrol("ada", people["ada"][0])
        for _ in range(15):
            assert bench.identify(people["grace"][1]).reason == "below_threshold"
            assert bench.verify("ada", people["grace"][1]).reason == "below_threshold"
        assert bench.verify("ada", people["ada"][1]).accepted
    with opener(limits=Limits(failures=1)) as strict:
        assert strict.verify("ada", people["grace"][1]).reason == "below_threshold"
        assert strict.verify("ada", people["ada"][1]).reason == "delayed"


# hours


def test_outside_their_hours_a_person_is_recognized_and_not_let_in(door, people, machine):
    door.gallery.set_access("ada", parse_access("2026-01-05", "2026-01-06", "mon-fri 09:00-17:00"))
    for hours, reason in ((0, "match"), (5, "outside_hours"), (24, "match"), (36, "expired")):
        machine.now = datetime(2026, 1, 5, 12, tzinfo=UTC) + timedelta(hours=hours)
        for decision in (door.identify(people["ada"][1]), door.verify("ada", people["ada"][1])):
            assert decision.reason == reason
            assert decision.accepted == (reason == "match")
            assert decision.score is not None
            candidate = None if reason == "match" else Candidate("ada", decision.score)
            assert decision.candidate == candidate
            assert decision.person == ("ada" if reason == "match" else None)
        assert last(door)[2]["reason"] == reason
        assert door.identify(people["grace"][1]).accepted


def test_a_clock_that_was_set_back_lets_nobody_in_whose_time_is_over_however_often_they_try(door, people, machine):
    door.gallery.set_access("ada", parse_access(None, "2026-01-05", None))
    machine.now = datetime(2026, 1, 6, 0, 0, tzinfo=UTC)
    assert door.identify(people["ada"][1]).reason == "expired"
    machine.now = datetime(2026, 1, 4, 12, tzinfo=UTC)
    for _ in range(3):
        assert door.identify(people["ada"][1]).reason == "expired"
        assert door.verify("ada", people["ada"][1]).reason == "expired"
        assert door.identify(people["grace"][1]).accepted


def test_a_clock_that_was_set_back_into_the_night_does_not_stay_in_the_hours_of_before(door, people, machine):
    door.gallery.set_access("ada", parse_access(None, None, "mon-fri 09:00-17:00"))
    machine.now = datetime(2026, 1, 6, 12, tzinfo=UTC)
    assert door.identify(people["ada"][1]).accepted
    machine.now = datetime(2026, 1, 5, 20, tzinfo=UTC)
    assert door.identify(people["ada"][1]).reason == "outside_hours"


def test_whoever_is_let_in_no_more_is_no_failure_of_1_to_1(door: Recognizer, people: People) -> None:
    door.gallery.set_access("ada", parse_access(None, "2026-01-01", None))
    for _ in range(8):
        assert door.verify("ada", people["ada"][1]).reason == "expired"


# the gallery changes between the comparison and the decision


def test_whoever_is_forgotten_before_the_decision_is_not_let_in(door, opener, people, monkeypatch):
    record = recognizer.decide_and_record
    with opener() as desk:

        def forgotten_meanwhile(gallery: Gallery, attempt: Attempt) -> Decision:
            monkeypatch.setattr(recognizer, "decide_and_record", record)
            desk.forget("ada")
            return record(gallery, attempt)

        monkeypatch.setattr(recognizer, "decide_and_record", forgotten_meanwhile)
        decision = door.identify(people["ada"][1])
    assert said(decision) == (None, False, "below_threshold")
    assert decision.runner_up is not None
    assert "ada" not in (decision.runner_up.person, last(door)[1])


def test_whoever_is_enrolled_before_the_decision_is_taken_into_account(door, opener, people, monkeypatch):
    record = recognizer.decide_and_record
    with opener() as desk:

        def enrolled_meanwhile(gallery: Gallery, attempt: Attempt) -> Decision:
            monkeypatch.setattr(recognizer, "decide_and_record", record)
            assert desk.enrol("twin", people["ada"][0], even_if_alike=True).resembles is not None
            return record(gallery, attempt)

        monkeypatch.setattr(recognizer, "decide_and_record", enrolled_meanwhile)
        assert said(door.identify(people["ada"][0])) == (None, False, "ambiguous")


def test_whoever_is_replaced_before_the_decision_is_compared_anew(door, opener, people, monkeypatch):
    record = recognizer.decide_and_record
    with opener() as desk:

        def replaced_meanwhile(gallery: Gallery, attempt: Attempt) -> Decision:
            monkeypatch.setattr(recognizer, "decide_and_record", record)
            desk.enrol("ada", people["stranger"][0], replace=True)
            return record(gallery, attempt)

        monkeypatch.setattr(recognizer, "decide_and_record", replaced_meanwhile)
        assert said(door.verify("ada", people["ada"][1])) == (None, False, "below_threshold")
    assert door.verify("ada", people["stranger"][1]).accepted


# what cannot be recorded is not accepted


@pytest.fixture
def read_only(make_bundle: MakeBundle, people: People, tmp_path: Path) -> Iterator[Path]:
    """A state folder on a file system that was turned read-only, with ada enrolled and images of people beside it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    for name in ("ada", "grace"):
        (tmp_path / f"{name}.png").write_bytes(people[name][1])
    mounted = os.geteuid() == 0 and shutil.which("mount") is not None
    if mounted:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], capture_output=True).returncode == 0
    if not mounted:
        pytest.skip("a file system cannot be mounted here")
    try:
        state = disk / "state"
        installer.install(make_bundle(), state, InstallOptions(target_far=0.05))
        with Recognizer.open(state) as recognizer:
            recognizer.enrol("ada", people["ada"][0])
        yield state
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def remount(state: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(state.parent)], check=True)


def test_an_acceptance_that_cannot_be_recorded_is_a_rejection_that_says_who_it_was(read_only, tmp_path, capfd):
    remount(read_only, "ro")
    for command in (["identify"], ["verify", "ada"]):
        words = [*command, str(tmp_path / "ada.png"), "--state", str(read_only), "--json"]
        assert cli.main(words) == 4
        assert "ada" not in capfd.readouterr().out
        assert cli.main([*words, "--scores"]) == 4
        printed = capfd.readouterr()
        decision = json.loads(printed.out)
        assert (decision["accepted"], decision["person"], decision["reason"]) == (False, None, "audit_unavailable")
        assert decision["candidate"] == {"person": "ada", "score": decision["score"]}
        assert decision["score"] > decision["threshold"]
        assert json.loads(printed.err) == {"error": decision["fault"], "reason": "audit_unavailable"}
    assert cli.main(["identify", str(tmp_path / "ada.png"), "--state", str(read_only)]) == 4
    assert capfd.readouterr().out == "unknown  audit_unavailable\n"
    assert cli.main(["identify", str(tmp_path / "ada.png"), "--state", str(read_only), "--scores"]) == 4
    assert capfd.readouterr().out.startswith("unknown  audit_unavailable  likeness ")
    remount(read_only, "rw")
    assert cli.main(["identify", str(tmp_path / "ada.png"), "--state", str(read_only)]) == 0
    assert cli.main(["audit", "--check", "--state", str(read_only)]) == 0


def test_a_failure_that_cannot_be_counted_and_an_empty_gallery_are_told_as_such(read_only, tmp_path, people, capfd):
    with Recognizer.open(read_only) as recognizer:
        for _ in range(5):
            recognizer.verify("ada", people["grace"][1])
    remount(read_only, "ro")
    assert cli.main(["verify", "ada", str(tmp_path / "ada.png"), "--state", str(read_only)]) == 4
    assert capfd.readouterr().out == "rejected  audit_unavailable\n"
    assert cli.main(["identify", str(tmp_path / "grace.png"), "--state", str(read_only), "--json", "--scores"]) == 4
    decision = json.loads(capfd.readouterr().out)
    assert (decision["candidate"], decision["reason"]) == (None, "audit_unavailable")
    remount(read_only, "rw")
    assert cli.main(["forget", "ada", "--state", str(read_only)]) == 0
    remount(read_only, "ro")
    capfd.readouterr()
    assert cli.main(["identify", str(tmp_path / "ada.png"), "--state", str(read_only)]) == 4
    assert capfd.readouterr().out == "unknown  audit_unavailable\n"


def test_waiting_is_told_in_plain_words(make_bundle, people, tmp_path, capfd):
    state, image = tmp_path / "state", tmp_path / "ada.png"
    image.write_bytes(people["ada"][1])
    installer.install(make_bundle(), state, InstallOptions(target_far=0.05, rejections_per_minute=1))
    with Recognizer.open(state) as recognizer:
        recognizer.enrol("grace", people["grace"][0])
    assert cli.main(["identify", str(image), "--state", str(state)]) == 1
    capfd.readouterr()
    assert cli.main(["identify", str(image), "--state", str(state)]) == 1
    assert capfd.readouterr().out == "unknown  rate_limited  wait 60 s\n"
    assert cli.main(["unlock", "grace", "--state", str(state)]) == 0
    assert capfd.readouterr().out == "unlocked  grace  after 0 failures in a row\n"
    assert cli.main(["unlock", "ada", "--state", str(state)]) == 2

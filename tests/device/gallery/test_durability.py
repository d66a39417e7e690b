"""A share of the campaigns against a gallery's file; whole they are part of `make soak`."""

import json
import random
import sqlite3
import subprocess
from contextlib import ExitStack, closing

import pytest

pytest.importorskip("rich", reason="the campaigns show their progress with rich")

from tests.campaigns import durable
from tests.campaigns.durability import (
    acts,
    campaign,
    children,
    contention,
    cuts,
    devices,
    disks,
    faults,
    filesystem,
    kills,
    media,
    mounts,
    tracing,
)

NEVER = ("FAILED", "not reached")
SEEN = ("identify", "person 0")


@pytest.fixture(scope="module", autouse=True)
def tracing_works():
    why = tracing.why_not()
    if why is not None:
        pytest.skip(why)


@pytest.fixture
def server():
    with closing(children.Server()) as started:
        yield started


@pytest.fixture
def subject(tmp_path):
    return acts.prepare(tmp_path / "ready")


@pytest.fixture
def mounting(tmp_path):
    """Skips where nothing can be mounted."""
    why = mounts.why_not(tmp_path)
    if why is not None:
        pytest.skip(why)


def of_part(parts, name):
    tally = parts[name][1](lambda: None)
    assert tally.failures == []
    assert not set(tally.outcomes) & set(NEVER)
    return tally


# kills


def test_a_process_killed_at_a_system_call_or_an_instant_leaves_all_or_nothing(tmp_path):
    out = tmp_path / "counts.json"
    code = durable.main(["kills", "--cases", "4", "--kills", "10", "--seed", "1", "--out", str(out)])
    counts = json.loads(out.read_bytes())
    assert (code, counts["failed"]) == (0, 0)
    assert set(counts["parts"]) == {*kills.COMMANDS, *kills.OPENINGS, "random instants"}
    for name in kills.COMMANDS:
        part = counts["parts"][name]
        assert part["calls"] > 50, name
        assert part["outcomes"].pop("not killed") == 1
        assert sum(part["outcomes"].values()) == 4
        assert set(part["outcomes"]) <= {"before", "after"}
    assert counts["parts"]["random instants"]["cases"] == 10


def test_a_campaign_goes_on_after_the_parts_that_are_done(tmp_path):
    out, ran = tmp_path / "counts.json", []

    def part(name, outcome):
        def run(progress):
            ran.append(name)
            progress()
            return campaign.Tally(campaign.Counter([outcome]))

        return 1, run

    def run(parts, command="as it was called"):
        return campaign.run(parts, command, out, resume=True, skipped={"a third": "no right to mount"})

    assert run({"one": part("one", "fine")}) == 0
    assert run({"one": part("one", "fine"), "two": part("two", "FAILED")}) == 1
    assert ran == ["one", "two"]
    counts = json.loads(out.read_bytes())
    assert (counts["cases"], counts["failed"], counts["skipped"]) == (2, 1, {"a third": "no right to mount"})
    with pytest.raises(SystemExit, match="is of another command"):
        run({}, "otherwise")


# power cuts


def test_disks_that_a_power_cut_may_leave_hold_all_that_was_acknowledged(server, tmp_path):
    parts = disks.parts(tmp_path, server, seed=1, runs=2, cases=60)
    for name in ("mixed run 0", "mixed run 1"):
        tally = of_part(parts, name)
        assert sum(tally.outcomes.values()) == 60
        assert tally.facts["different"] > 30
    assert dict(of_part(parts, "first opening").outcomes) == {"opened": 60}


def test_disks_that_lie_about_syncs_are_seen_to_lose(server, tmp_path):
    for name in (parts := disks.controls(tmp_path, server, seed=1, cases=60)):
        assert of_part(parts, name).outcomes["loss or damage seen"] > 0


@pytest.mark.usefixtures("mounting")
def test_a_real_ext4_that_is_cut_holds_all_that_was_acknowledged(server, tmp_path):
    parts = cuts.parts(tmp_path, server, seed=1, cases=8)
    assert sum(of_part(parts, "cuts of a real ext4").outcomes.values()) == 8


@pytest.mark.usefixtures("mounting")
def test_a_disk_is_read_anew_though_another_process_keeps_a_copy_of_its_mount(tmp_path):
    image = tmp_path / "disk.img"
    mounts.make_image(image)
    with ExitStack() as copies:

        def keep_a_copy():
            words = ["unshare", "--mount", "sh", "-c", "echo copied; read _"]
            keeper = copies.enter_context(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            assert keeper.stdout.readline() == b"copied\n"

        with mounts.mounted(image, tmp_path / "mounted") as disk:
            (disk / "kept").write_bytes(b"before the cut")
            keep_a_copy()
        with mounts.mounted(image, tmp_path / "mounted") as disk:
            keep_a_copy()
            cuts.stop(disk)
        with mounts.mounted(image, tmp_path / "mounted") as disk:
            (disk / "more").touch()
            assert (disk / "kept").read_bytes() == b"before the cut"


def test_what_was_synced_is_left_and_the_rest_may_go(tmp_path):
    event = filesystem.Event
    events = [
        event("create", 1, "a"),
        event("write", 1, content=b"synced "),
        event("sync", 1),
        event("sync_folder", name="."),
        event("write", 1, offset=7, content=b"or not"),
        event("rename", name="a", to="b"),
    ]
    recording = filesystem.Recording(tmp_path, {}, {}, {"."}, events)
    found = set()
    for number in range(200):
        how = filesystem.Manner(ordered=True, keep=0.5, sector=None, garbage=False)
        folders, files = filesystem.cut(recording, len(events), how, random.Random(number))
        assert folders == {"."}
        found |= set(files.items())
    empty = b"\0" * 6
    contents = {b"synced ", b"synced or not", b"synced " + empty}
    assert found == {(name, content) for name in "ab" for content in contents}
    how = filesystem.Manner(ordered=False, keep=0.0, sector=512, garbage=False)
    assert filesystem.cut(recording, 3, how, random.Random(0))[1] == {}
    assert filesystem.cut(recording, 4, how, random.Random(0))[1] == {"a": b"synced "}


# faults


@pytest.mark.parametrize("fault", ["fdatasync EIO", "pwrite64 ENOSPC", "rename EIO"])
def test_a_call_that_fails_is_told_and_nothing_is_lost(server, tmp_path, fault):
    tally = faults.parts(tmp_path, server, seed=1, cases=1)[fault][1](lambda: None)
    assert tally.failures == []
    assert tally.facts["injected"] >= sum(tally.outcomes.values()) > 0


@pytest.mark.parametrize("fault", ["fdatasync:error=EIO:when=4+", "pwrite64:error=ENOSPC:when=10+"])
def test_who_was_seen_is_told_where_a_disk_goes_on_failing(server, subject, tmp_path, fault):
    request = children.Request(str(subject.place.root), str(tmp_path / "told"), [SEEN])
    options = ("-e", f"trace={fault.partition(':')[0]}", "-e", f"inject={fault}")
    outcome = tracing.traced(server, request, tmp_path / "log", *options)
    assert "(INJECTED)" in (tmp_path / "log").read_text()
    assert outcome.error is None
    (decision,) = outcome.done
    assert faults.reported(decision, SEEN, "before") == "nobody let in, who was seen is told"
    states = {"before": subject.state}
    assert devices.judge(subject.place, states) == "before"


def test_a_rotation_whose_key_file_cannot_be_renamed_is_told_as_done_but_not_confirmed(server, subject, tmp_path):
    request = children.Request(str(subject.place.root), str(tmp_path / "told"), [("rotate",)])
    options = ("-e", "trace=rename", "-e", "inject=rename:error=EIO:when=2")
    outcome = tracing.traced(server, request, tmp_path / "log", *options)
    assert "(INJECTED)" in (tmp_path / "log").read_text()
    after = acts.expected(subject.state, ("rotate",), subject.backup)
    assert devices.judge(subject.place, {"after": after}) == "after"
    assert outcome.error is not None
    assert outcome.error["reason"] == "not_confirmed"


@pytest.mark.usefixtures("mounting")
def test_a_full_disk_and_a_read_only_one_let_nobody_in_and_lose_nothing(server, tmp_path, make_bundle):
    parts = media.parts(tmp_path, server, make_bundle(variants=("int8",), counts=(1,)))
    for name in parts:
        assert set(of_part(parts, name).outcomes) == {"as it should be"}


# contention


def test_writers_and_readers_side_by_side_lose_no_update(tmp_path):
    parts = contention.parts(tmp_path, seed=1, seconds=2.0, patience=600.0)
    tally = parts["writers, readers and a rotated key"][1](lambda: None)
    # how long somebody waited is for a machine that does nothing else
    assert [one for one in tally.failures if "waited" not in one["outcome"]] == []
    assert tally.outcomes["no error"] == 9
    assert tally.facts["counts"]["identify"] > 0
    assert tally.facts["counts"]["read"] > 0


# what the campaigns would notice


def test_half_a_change_is_noticed(subject):
    judge = devices.judge
    assert judge(subject.place, {"whole": subject.state}, go_on=False) == "whole"
    with closing(sqlite3.connect(subject.place.gallery, isolation_level=None)) as connection:
        connection.execute("DELETE FROM template WHERE id = 1")
    assert judge(subject.place, {"whole": subject.state}).startswith("FAILED to open: audit_altered")


def test_a_lost_change_is_noticed(subject):
    after = acts.expected(subject.state, ("forget", "person 0"), subject.backup)
    found = devices.judge(subject.place, {"after": after})
    assert found.startswith("FAILED: not after: people {'person 0': 3, ")


def test_a_decision_without_its_row_that_lets_somebody_in_is_noticed():
    reported = faults.reported
    told = {"accepted": False, "person": None, "reason": "audit_unavailable", "candidate": {"person": "ada"}}
    assert reported(told, ("identify", "ada"), "before") == "nobody let in, who was seen is told"
    for change in ({"accepted": True}, {"person": "ada"}, {"reason": "match"}, {"candidate": None}):
        assert reported(told | change, ("identify", "ada"), "before").startswith("FAILED")

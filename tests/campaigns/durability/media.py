"""Disks that are full or read-only, in earnest: a tmpfs of 1 MiB, and an ext4 that an error turns read-only.

The program runs on them as it is, and so does a process that had the gallery open before. Needs the right to mount.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.errors import OneShotError
from edge_oneshot_device.gallery.reserve import RESERVE
from tests.campaigns.durability.acts import PreparedDevice, expected, prepare
from tests.campaigns.durability.campaign import Part, Tally, fresh
from tests.campaigns.durability.children import WAIT, Request, Server
from tests.campaigns.durability.devices import FAILED, Place, State, judge
from tests.campaigns.durability.faults import reported
from tests.campaigns.durability.kills import COMMANDS
from tests.campaigns.durability.mounts import break_it, make_image, mounted, remount, tmpfs
from tests.campaigns.durability.tracing import traced

DECISIONS_OF_RESERVE = 100  # that are still recorded after the disk is full


def parts(folder: Path, server: Server, bundle: Path) -> dict[str, tuple[int, Part]]:
    """The parts of the campaign.

    Args:
        folder: For mount points and devices.
        server: Starts the processes.
        bundle: What the program recognizes with; small enough for the tmpfs, and calibrated.
    """
    subject = prepare(folder / "for media")
    return {
        "full disk, open gallery": (10, partial(_full, folder, server, subject)),
        "full disk, the program": (10, partial(_full_program, folder, bundle)),
        "read-only disk, open gallery": (10, partial(_read_only, folder, server, subject)),
        "read-only disk, the program": (10, partial(_read_only_program, folder, bundle)),
        "read-only disk after a cut commit": (3, partial(_cut_commit, folder, server, subject)),
    }


class _Steps:
    """Counts what was as it should be, and what was not."""

    def __init__(self, progress: Callable[[], None]) -> None:
        self.tally = Tally()
        self._progress = progress

    def see(self, what: str, holds: object, told: object = None) -> None:
        """Count whether it holds."""
        self.tally.add("as it should be" if holds else f"{FAILED}: {what}: {told}", step=what)
        self._progress()

    def refused(self, what: str, error: Mapping[str, Any] | None, *reasons: str) -> None:
        """Count whether it was refused with one of the reasons, by a machine that failed."""
        self.see(what, error is not None and error["reason"] in reasons and error["code"] == 4, error)

    def told(self, what: str, decision: Any, person: str | None) -> None:
        """Count whether a decision without its row lets nobody in and says who was seen."""
        verdict = reported(decision, ("identify", person), "before") if isinstance(decision, dict) else FAILED
        self.see(what, not verdict.startswith(FAILED) and decision["fault"], decision)


def _full(folder: Path, server: Server, subject: PreparedDevice, progress: Callable[[], None]) -> Tally:
    steps = _Steps(progress)
    before, reserve = ("identify", "person 0"), [("identify", "person 0")] * DECISIONS_OF_RESERVE
    failing = [("identify", "person 0"), ("identify", None), ("verify", "person 1", True), ("enrol", "person 9", 1, 9)]
    with tmpfs(folder / "full") as disk:
        place = Place(disk / "device")
        fresh(subject.place.root, place.root)
        server.start(Request(str(place.root), str(folder / "told"), [before, WAIT, *reserve, WAIT, *failing]))
        _await(folder / "told", 2)
        fill(disk)
        server.go()
        _await(folder / "told", 3 + len(reserve))
        steps.see("the reserve is given up", not (place.gallery.parent / RESERVE).exists())
        fill(disk)
        server.go()
        outcome = server.finish()
        decisions = [one for one in outcome.done if one is not None]
        accepted = [one for one in decisions if one["accepted"]]
        steps.see("decisions are recorded out of the reserve", len(accepted) == 1 + len(reserve), len(accepted))
        for (_, person, *_), decision in zip(failing, decisions[1 + len(reserve) :], strict=False):
            steps.told("the decision is told", decision, person)
        steps.see("three of them", len(decisions) == 4 + len(reserve), len(decisions))
        steps.refused("enrolling is refused", outcome.error, "disk_full")
        state = subject.state
        for act in (before, *reserve):
            state = expected(state, act, subject.backup)
        (disk / "filler").unlink()
        steps.see("nothing is lost, and it goes on", *_judged(place, state))
    return steps.tally


def _full_program(folder: Path, bundle: Path, progress: Callable[[], None]) -> Tally:
    steps = _Steps(progress)
    with tmpfs(folder / "full") as disk:
        call, image = _installed(folder, disk / "state", bundle, steps)
        fill(disk)
        code, decision, _ = call("identify", str(image))
        steps.see("it lets in out of the reserve", code == 0 and decision["accepted"], decision)
        steps.see("the reserve is given up", not (disk / "state" / RESERVE).exists())
        fill(disk)
        _refuses(call, image, steps, "disk_full")
        code, diagnosis, _ = call("doctor")
        levels = {one["what"]: (one["level"], one["text"]) for one in diagnosis["findings"]}
        steps.see("doctor warns", levels["disk"][0] == "warning" and "reserve" in levels["disk"][1], levels)
        (disk / "filler").unlink()
        _recovers(call, image, steps, accepted=3)
    return steps.tally


def _read_only(folder: Path, server: Server, subject: PreparedDevice, progress: Callable[[], None]) -> Tally:
    steps = _Steps(progress)
    before = ("identify", "person 0")
    failing = [("identify", "person 0"), ("identify", None), ("verify", "person 1", True), ("enrol", "person 9", 1, 9)]
    make_image(folder / "read-only.img")
    with mounted(folder / "read-only.img", folder / "read-only") as disk:
        place = Place(disk / "device")
        fresh(subject.place.root, place.root)
        os.sync()  # the copy, which nobody else has synced
        server.start(Request(str(place.root), str(folder / "told"), [before, WAIT, *failing]))
        _await(folder / "told", 2)
        break_it(disk)
        with suppress(OSError):
            (disk / "probe").touch()
        steps.see("the disk is read-only", not (disk / "probe").exists())
        server.go()
        outcome = server.finish()
        decisions = [one for one in outcome.done if one is not None]
        for (_, person, *_), decision in zip(failing, decisions[1:], strict=False):
            steps.told("the decision is told", decision, person)
        steps.see("three of them", len(decisions) == 4, len(decisions))
        steps.refused("enrolling is refused", outcome.error, "cannot_write", "gallery_failed")
    with mounted(folder / "read-only.img", folder / "read-only") as disk:
        state = expected(subject.state, before, subject.backup)
        steps.see("nothing is lost, and it goes on", *_judged(Place(disk / "device"), state))
    return steps.tally


def _read_only_program(folder: Path, bundle: Path, progress: Callable[[], None]) -> Tally:
    steps = _Steps(progress)
    make_image(folder / "read-only.img")
    with mounted(folder / "read-only.img", folder / "read-only") as disk:
        call, image = _installed(folder, disk / "state", bundle, steps)
        remount(disk, "ro")
        _refuses(call, image, steps, "cannot_write")
        for command in (("people",), ("audit", "--check")):
            code, _, error = call(*command)
            steps.see(f"{command} reads", code == 0, error)
        remount(disk, "rw")
        _recovers(call, image, steps, accepted=2)
    return steps.tally


def _cut_commit(folder: Path, server: Server, subject: PreparedDevice, progress: Callable[[], None]) -> Tally:
    steps = _Steps(progress)
    make_image(folder / "read-only.img")
    with mounted(folder / "read-only.img", folder / "read-only") as disk:
        place = Place(disk / "device")
        fresh(subject.place.root, place.root)
        request = Request(str(place.root), str(folder / "told"), [COMMANDS["enrol"]])
        traced(server, request, folder / "trace", "-e", "trace=unlink", "-e", "inject=unlink:signal=KILL:when=1")
        steps.see("a journal is left", place.gallery.with_name(place.gallery.name + "-journal").exists())
        remount(disk, "ro")
        error = None
        try:
            place.open().close()
        except OneShotError as found:
            error = {"error": str(found), "reason": found.reason, "code": found.exit_code}
        steps.refused("what cannot be rolled back is not read", error, "cannot_write", "gallery_failed")
        remount(disk, "rw")
        steps.see("nothing is lost, and it goes on", *_judged(place, subject.state))
    return steps.tally


def fill(disk: Path) -> None:
    """Leave no room on a disk."""
    descriptor = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        with suppress(OSError):
            while os.write(descriptor, bytes(4096)):
                pass
    finally:
        os.close(descriptor)


def _await(told: Path, lines: int) -> None:
    """Until a process has said so much, the opening included."""
    while not told.exists() or told.read_bytes().count(b"\n") < lines:
        pass


def _judged(place: Place, state: State) -> tuple[bool, str]:
    verdict = judge(place, {"as expected": state})
    return not verdict.startswith(FAILED), verdict


Call = Callable[..., tuple[int, Any, Any]]
"""Runs the program: its exit code, and what it said on stdout and on stderr."""


def _installed(folder: Path, state: Path, bundle: Path, steps: _Steps) -> tuple[Call, Path]:
    """The program with a person enrolled, and the image that shows them."""
    key, image = folder / "key", folder / "image.png"
    opened = Bundle.open(bundle)
    image.write_bytes(opened.read(opened.manifest.self_test.images[0]))

    def call(command: str, *arguments: str) -> tuple[int, Any, Any]:
        words = [sys.executable, "-m", "edge_oneshot_device.cli", command, *arguments]
        options = ["--state", str(state), "--key", str(key), "--json"]
        done = subprocess.run([*words, *options], capture_output=True, text=True, check=False)
        said = [json.loads(stream) if stream.strip() else None for stream in (done.stdout, done.stderr)]
        return done.returncode, *said

    for command in (("init", str(bundle)), ("enrol", "ada", str(image)), ("identify", str(image))):
        code, told, error = call(*command)
        steps.see(f"{command[0]} works", code == 0, error or told)
    return call, image


def _refuses(call: Call, image: Path, steps: _Steps, reason: str) -> None:
    code, decision, error = call("identify", str(image), "--scores")
    steps.told("the decision is told", decision, "ada")
    steps.see("the program ends with 4", code == 4 and error["reason"] == "audit_unavailable", error)
    for command in (("enrol", "grace", str(image)), ("forget", "ada")):
        code, _, error = call(*command)
        # she who looks like somebody enrolled is refused before anything is written
        allowed = {reason, "fits_another", "already_known"} if command[0] == "enrol" else {reason}
        steps.see(f"{command[0]} is refused", code in (2, 4) and error["reason"] in allowed, (code, error))


def _recovers(call: Call, image: Path, steps: _Steps, accepted: int) -> None:
    code, decision, error = call("identify", str(image))
    steps.see("it lets in again", code == 0 and decision["accepted"], error or decision)
    code, rows, error = call("audit", "--last", "1000")
    let_in = [one for one in rows if one["act"] == "identify" and one["detail"]["accepted"]]
    steps.see("as many acceptances in the audit trail as were told", len(let_in) == accepted, rows)
    code, report, error = call("audit", "--check")
    steps.see("the audit trail holds", code == 0 and report["people"] == 1, error or report)

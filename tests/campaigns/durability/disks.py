"""Power cuts: the disks that a run may leave, built from its recorded writes and syncs."""

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.recognition.recognizer import Recognizer
from tests.campaigns.durability.acts import Act, PreparedDevice, draw, expected, prepare
from tests.campaigns.durability.campaign import Part, Tally, fresh
from tests.campaigns.durability.children import Request, Server
from tests.campaigns.durability.devices import FAILED, Place, State, judge
from tests.campaigns.durability.filesystem import TRACED, Recording, cut, lay_out, manner, record, replay
from tests.campaigns.durability.tracing import traced

MIX = 30  # acts of a run


class Run(NamedTuple):
    """A run that was recorded.

    Attributes:
        recording: Its writes and syncs.
        judge: What is left, given the disk and how much was acknowledged; see `devices.judge`.
    """

    recording: Recording
    judge: Callable[[Place, int], str]


def parts(folder: Path, server: Server, seed: int, runs: int, cases: int) -> dict[str, tuple[int, Part]]:
    """The parts of the campaign.

    Args:
        folder: For the devices.
        server: Starts the processes.
        seed: Of what is drawn.
        runs: Mixed runs that are recorded.
        cases: Disks of each run.
    """
    subject = prepare(folder / "ready")
    found: dict[str, tuple[int, Part]] = {}
    for number in range(runs):
        make = partial(_mixed, folder, server, subject, f"{seed} {number}")
        found[f"mixed run {number}"] = (cases, partial(_disks, folder, make, f"{seed} {number}", cases))
    name = "first opening"
    found[name] = (cases, partial(_disks, folder, partial(_first, folder, server), f"{seed} {name}", cases))
    return found


def program_parts(folder: Path, seed: int, cases: int, bundle: Path) -> dict[str, tuple[int, Part]]:
    """The part that records the program's own `init`, which makes all folders and files there are."""
    return {"init": (cases, partial(_disks, folder, partial(_init, folder, bundle), f"{seed} init", cases))}


def controls(folder: Path, server: Server, seed: int, cases: int) -> dict[str, tuple[int, Part]]:
    """The same on disks that make nothing of a sync: losses have to be seen, or the campaign sees nothing."""
    subject = prepare(folder / "ready for control")
    make = partial(_mixed, folder, server, subject, f"{seed} 0")
    lies = {"control: syncs of files are lies": "sync", "control: syncs of folders are lies": "sync_folder"}
    return {
        name: (
            cases,
            partial(_control, partial(_disks, folder, make, f"{seed} {name}", cases, ignored=frozenset([lie]))),
        )
        for name, lie in lies.items()
    }


def _control(part: Part, progress: Callable[[], None]) -> Tally:
    found = part(progress)
    noticed = found.outcomes[FAILED]
    tally = Tally(facts={"events": found.facts["events"]})
    tally.outcomes.update({"loss or damage seen": noticed, "nothing lost": found.outcomes.total() - noticed})
    if not noticed:
        tally.add(f"{FAILED}: nothing was seen where there is something to see")
    return tally


def _disks(
    folder: Path,
    make: Callable[[], Run],
    seed: str,
    cases: int,
    progress: Callable[[], None],
    ignored: frozenset[str] = frozenset(),
) -> Tally:
    run = make()
    events = run.recording.events
    tally = Tally(facts={"events": len(events), "different": 0, "manners": {}})
    different = set()
    # beside any instant: just before and just after a sync, or that something was acknowledged
    points = [place for place, event in enumerate(events) if event.what in ("sync", "sync_folder", "told")]
    edges = [*points, *(place + 1 for place in points)]
    for number in range(cases):
        numbers = random.Random(f"{seed} disk {number}")
        how, stop = manner(numbers), numbers.choice((numbers.randint(0, len(events)), numbers.choice(edges)))
        folders, files = cut(run.recording, stop, how, numbers, ignored)
        place = Place(folder / "disk")
        shutil.rmtree(place.root, ignore_errors=True)
        lay_out(place.root, folders, files)
        different.add(hash((tuple(sorted(folders)), tuple(sorted(files.items())))))
        try:
            verdict = run.judge(place, sum(event.what == "told" for event in events[:stop]))
        except Exception as error:
            verdict = f"{FAILED}: {type(error).__name__}: {error}"
        counts = tally.facts["manners"].setdefault(str(how), [0, 0])
        counts[0] += 1
        counts[1] += verdict.startswith(FAILED)
        tally.add(verdict, disk=number, stop=stop, before=str(events[stop : stop + 1])[:120], manner=str(how))
        progress()
    tally.facts["different"] = len(different)
    return tally


def _mixed(folder: Path, server: Server, subject: PreparedDevice, seed: str) -> Run:
    place = Place(folder / "recorded")
    fresh(subject.place.root, place.root)
    numbers = random.Random(f"{seed} mix")
    states: list[State] = [subject.state]
    acts: list[Act] = []
    for _ in range(MIX):
        acts.append(draw(numbers, states[-1]))
        states.append(expected(states[-1], acts[-1], subject.backup))
    recording, _ = _recorded(folder, server, place, acts, create=False)

    def left(place: Place, told: int) -> str:
        done = max(0, told - 1)  # the opening is told too
        allowed = {"all that was acknowledged": states[done]}
        if done < MIX:
            allowed["and the one under way"] = states[done + 1]
        return judge(place, allowed)

    return Run(recording, left)


def _first(folder: Path, server: Server) -> Run:
    place = Place(folder / "recorded")
    shutil.rmtree(place.root, ignore_errors=True)
    for one in ("state", "keys"):
        (place.root / one).mkdir(parents=True, mode=0o700)
    recording, created = _recorded(folder, server, place, (), create=True)

    def left(place: Place, told: int) -> str:
        place.create()
        verdict = judge(place, {"opened": State()}, go_on=False)
        if told and not verdict.startswith(FAILED):
            with place.open() as gallery:
                if next(gallery.rows()).detail != created:
                    return f"{FAILED}: another gallery is in the place of the one that was opened"
        return verdict

    return Run(recording, left)


def _init(folder: Path, bundle: Path) -> Run:
    place, log = Place(folder / "recorded"), folder / "trace"
    shutil.rmtree(place.root, ignore_errors=True)
    place.root.mkdir()
    recording = record(place.root)
    options = ["--state", str(place.gallery.parent), "--key", str(place.key.path), "--json"]
    program = [sys.executable, "-m", "edge_oneshot_device.cli", "init", str(bundle), *options]
    trace = ["strace", "-f", "-o", str(log), "-e", f"trace={TRACED}", "-xx", "-s", str(1 << 24)]
    subprocess.run([*trace, *program], check=True, stdout=subprocess.PIPE)
    replay(recording, log)

    def left(place: Place, told: int) -> str:
        """Once `init` has said so, the device opens; before, it opens or `init` does it again."""
        key = place.key.path
        if not told:
            install(bundle, place.gallery.parent, key=key)
        with Recognizer.open(place.gallery.parent, key=key) as recognizer:
            recognizer.gallery.check_audit()
        return "opened" if told else "opened after another init"

    return Run(recording, left)


def _recorded(
    folder: Path, server: Server, place: Place, acts: list[Act] | tuple[Act, ...], *, create: bool
) -> tuple[Recording, str | None]:
    log = folder / "trace"
    recording = record(place.root)
    request = Request(str(place.root), str(folder / "told"), acts, create)
    outcome = traced(server, request, log, "-e", f"trace={TRACED}", "-xx", "-s", str(1 << 22))
    assert (outcome.code, outcome.error, len(outcome.done)) == (0, None, len(acts)), outcome
    replay(recording, log)
    assert sum(event.what == "told" for event in recording.events) == len(acts) + 1
    return recording, outcome.opened

r"""Whatever fails at a door: nothing opens that was not decided, it locks in time, no event is lost, it works again.

    python -m tests.campaigns.door_faults build/faces.oneshot --out benchmarks/results/door-faults.json

Camera, broker, disk, clock, program and runtime of doors are made to fail (`tests.campaigns.faulty_doors`). After each
case somebody enrolled is let in, and lock, audit trail and events are held against each other. The parts that are done
stand in the file of --out; --resume goes on after them. Needs mosquitto, a C compiler and the right to mount; a part
that this machine cannot do is skipped.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.campaigns.durability import mounts
from tests.campaigns.durability.campaign import Part, Tally, run
from tests.campaigns.durability.devices import FAILED
from tests.campaigns.faulty_doors.cases import KINDS, Done, Kind, a_rig
from tests.campaigns.faulty_doors.judging import judge
from tests.campaigns.faulty_doors.rig import Device, Rig, prepare
from tests.device.door.outgoing import MOSQUITTO


def let_in(rig: Rig) -> None:
    """Somebody enrolled comes and goes; where more than the face is asked, it is asked for."""
    rig.clear()
    rig.show("known", "unlocked" if rig.setting.mode == "off" else "challenged")
    if rig.setting.mode == "off":
        rig.wait("the lock to open", lambda: rig.level == 1)
    rig.clear()
    rig.wait("the lock at rest", lambda: rig.level == 0)


class Counts:
    """What became of the cases of a part, counted by several threads."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._lock = threading.Lock()
        self._backs: list[float] = []
        self._most: dict[str, float] = {}
        self._sums: dict[str, int] = {}

    def add(self, number: int, done: Done, faults: Sequence[str], times: dict[str, float]) -> None:
        """A case."""
        with self._lock:
            self.tally.add(f"{FAILED}: {'; '.join(faults)}" if faults else done.what, number=number)
            self._backs.append(done.back)
            for name, seconds in times.items():
                self._most[name] = round(max(seconds, self._most.get(name, 0.0)), 3)
            self.tally.facts["seconds until at work again"] = {
                "median": round(statistics.median(self._backs), 2),
                "most": round(max(self._backs), 2),
            }
            self.tally.facts["most seconds"] = self._most

    def sum(self, facts: dict[str, int]) -> None:
        """Counts of a door."""
        with self._lock:
            for name, count in facts.items():
                self._sums[name] = self._sums.get(name, 0) + count
            self.tally.facts |= self._sums


def part(
    kind: Kind, device: Device, folder: Path, numbers: Sequence[int], rigs: int, progress: Callable[[], None]
) -> Tally:
    """The cases of a kind, at so many doors side by side; a door where a case failed is made anew."""
    counts = Counts()

    def cases(share: int) -> None:
        left = list(numbers[share::rigs])
        while left:
            with a_rig(kind, device, folder / f"door-{share}", (share, len(left))) as rig:
                facts: dict[str, int] = {}
                while left:
                    number, done, faults, times = left.pop(0), Done("", 0.0), [], {}
                    rig.seen.clear()
                    try:
                        done = kind.case(rig, number)
                        let_in(rig)
                        faults, facts, times = judge(rig, dated=kind.dated)
                        if done.what.startswith(FAILED):
                            faults.insert(0, done.what)
                    except Exception as error:  # whatever a case meets is its outcome
                        faults = [f"{type(error).__name__}: {error}"]
                    counts.add(number, done, faults, times)
                    progress()
                    if faults:
                        break
                counts.sum(facts)

    with ThreadPoolExecutor(rigs) as pool:
        list(pool.map(cases, range(rigs)))
    return counts.tally


def parts_of(device: Device, folder: Path, cases: int, rigs: int) -> tuple[dict[str, tuple[int, Part]], dict[str, str]]:
    """The parts of the campaign, and which of them this machine cannot do."""
    skipped = {}
    if (why := mounts.why_not(folder)) is not None:
        skipped["disk full"] = why
    if shutil.which("cc") is None:
        skipped["clock set back"] = "there is no C compiler"
    found: dict[str, tuple[int, Part]] = {
        name: (cases, partial(part, kind, device, folder, range(cases), min(rigs, cases)))
        for name, kind in KINDS.items()
        if name not in skipped
    }
    return found, skipped


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; returns 1 when a case failed, 2 when this machine cannot do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="faces.oneshot")
    parser.add_argument("--cases", type=int, default=20, metavar="N", help="of each kind (20)")
    parser.add_argument("--doors", type=int, default=2, metavar="N", help="side by side (2)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="the counts as JSON")
    parser.add_argument("--resume", action="store_true", help="go on with what is in the file of --out")
    given = parser.parse_args(argv)
    if MOSQUITTO is None:
        print("no broker is installed: install mosquitto", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "device").mkdir()
        device = prepare(folder / "device", given.bundle)
        parts, skipped = parts_of(device, folder, given.cases, given.doors)
        command = (
            f"python -m tests.campaigns.door_faults {given.bundle.name} --cases {given.cases} --doors {given.doors}"
        )
        return run(parts, command, given.out, resume=given.resume, skipped=skipped)


if __name__ == "__main__":
    sys.exit(main())

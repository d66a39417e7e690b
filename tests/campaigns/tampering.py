"""Attack the state folder of a running door without its key: who is let in, and what breaks?

    python -m tests.campaigns.tampering --out benchmarks/results/tampering.json
    python -m tests.campaigns.tampering --case 17

Each case begins with the same door: people enrolled, one expired, one forgotten, two bundles, a rotated key, backups.
One act is drawn: SQL without the key, changed bytes of the gallery's file, an operation on any file of the state
folder, or a link in its place. It happens before an administrator's command, during one, or before root runs one.
Then everybody stands before the door that was running and before one that is opened anew. When the campaign runs as
root, the door and the attacker are another user. docs/experiments/tampering.md says what must hold.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests import ROOT
from tests.campaigns.durability.campaign import Part, Tally, run
from tests.campaigns.durability.devices import FAILED
from tests.campaigns.intrusion.cases import KINDS
from tests.campaigns.intrusion.judge import SEPARATOR
from tests.campaigns.intrusion.processes import USER, can_become
from tests.campaigns.workers import SILENT, Worker, spread

CASES = 2000
MOST_SECONDS = 900.0  # of a case; a child hangs long before
_PRIVILEGED = "links"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; returns 1 when a case failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=CASES, metavar="N", help=f"({CASES:,})")
    parser.add_argument("--case", type=int, metavar="N", help="this one alone, told")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), metavar="N", help="processes (one a core)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="the counts as JSON")
    parser.add_argument("--resume", action="store_true", help="go on with what is in the file of --out")
    arguments = parser.parse_args(argv)
    if arguments.out is not None and not arguments.out.parent.is_dir():
        parser.error(f"{arguments.out.parent} is no folder; make it first")
    memory = Path("/dev/shm")  # a sync costs nothing there, and nothing here asks what a disk does
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        Path(folder).chmod(0o711)
        make = partial(_worker, Path(folder), arguments.seed)
        subprocess.run([*_command(Path(folder), 0), "--prepare"], cwd=ROOT, check=True)
        if arguments.case is not None:
            (told,) = spread(make, _asked, [arguments.case], 1)
            print(json.dumps(told, indent=1))
            return int(told["outcome"].startswith(FAILED))
        return _campaign(make, arguments)


def _campaign(make: Callable[[], Worker], arguments: argparse.Namespace) -> int:
    why = can_become(USER)
    skipped = {} if why is None else {_PRIVILEGED: why}
    parts: dict[str, tuple[int, Part]] = {}
    for kind in dict.fromkeys(KINDS):
        numbers = [number for number in range(arguments.cases) if KINDS[number % len(KINDS)] == kind]
        if numbers and kind not in skipped:
            parts[kind] = len(numbers), partial(_part, make, numbers, arguments.workers)
    command = f"python -m tests.campaigns.tampering --cases {arguments.cases} --seed {arguments.seed}"
    return run(parts, command, arguments.out, resume=arguments.resume, skipped=skipped)


def _command(folder: Path, seed: int) -> list[str]:
    place = Path(tempfile.mkdtemp(dir=folder))
    place.chmod(0o711)  # as the folder around it, for the door's user
    words = [str(folder / "ground"), str(place / "place"), "--seed", str(seed)]
    return [sys.executable, "-m", "tests.campaigns.intrusion.worker", *words]


def _worker(folder: Path, seed: int) -> Worker:
    return Worker(_command(folder, seed), MOST_SECONDS, ROOT)


def _asked(worker: Worker, number: int) -> dict[str, Any]:
    told = worker.ask(str(number))
    if isinstance(told, str):
        how = f"no answer within {MOST_SECONDS:.0f} s" if told == SILENT else f"it ended with {told}"
        return {"number": number, "act": "", "commands": "", "outcome": f"{FAILED}: the campaign itself: {how}"}
    return {"number": number, **told}


def _part(make: Callable[[], Worker], numbers: Sequence[int], workers: int, progress: Callable[[], None]) -> Tally:
    tally = Tally()
    failed: Counter[str] = Counter()
    for told in spread(make, _asked, numbers, workers):
        tally.add(told["outcome"], case=told["number"], act=told["act"], commands=told["commands"])
        if told["outcome"].startswith(FAILED):
            faults = told["outcome"][len(FAILED) + 2 :].split(SEPARATOR)
            failed.update({fault.partition(":")[0] for fault in faults})
        progress()
    if failed:
        tally.facts["faults"] = dict(failed.most_common())
    return tally


if __name__ == "__main__":
    sys.exit(main())

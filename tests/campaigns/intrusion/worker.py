"""A process that has imported everything and forks: it prepares the ground, or runs cases whose numbers it reads.

    python -m tests.campaigns.intrusion.worker GROUND PLACE --seed 0

Each number is a line on stdin; the outcome of the case is a line of JSON on stdout.
"""

import argparse
import gc
import importlib
import json
import os
import sys
import tempfile
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path

from edge_oneshot_device import cli
from tests.campaigns.durability.devices import FAILED
from tests.campaigns.intrusion.cases import Case, count_events
from tests.campaigns.intrusion.commands import COMMANDS
from tests.campaigns.intrusion.ground import prepare, remove
from tests.campaigns.intrusion.judge import judge
from tests.campaigns.intrusion.processes import USER, can_become, once, told


def main() -> None:
    """Prepare, or run cases until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("ground", type=Path)
    parser.add_argument("place", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prepare", action="store_true", help="make the ground, and leave")
    arguments = parser.parse_args()
    warm()
    user = USER if can_become(USER) is None else None
    if arguments.prepare:
        begin(arguments.ground, arguments.place, user)
        return
    facts = json.loads((arguments.ground / "facts.json").read_text())
    case = Case(arguments.ground, arguments.place, user, facts["head"], facts["events"])
    for line in sys.stdin:
        print(json.dumps(of_case(case, arguments.seed, int(line), arguments.place)), flush=True)


def warm() -> None:
    """Import whatever children need, who may not be allowed to read it: what a child needed that did everything."""
    for name in [name for name in os.environ if name.startswith("EDGE_ONESHOT_")] + ["CREDENTIALS_DIRECTORY"]:
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        needed = once(partial(_all_at_work, Path(folder) / "ground"))
    if needed.fault is not None:
        raise RuntimeError(needed.fault)
    for name in needed.value:
        with suppress(Exception):  # some are there only as part of another
            importlib.import_module(name)
    gc.freeze()  # what is forked then copies less


def _all_at_work(ground: Path) -> list[str]:
    prepare(ground)
    for does in COMMANDS.values():
        told(partial(cli.main, does.argv(ground, ground / "keys" / "key")))
    return sorted(sys.modules)


def begin(ground: Path, place: Path, user: int | None) -> None:
    """Make the ground and count the instants of each command."""
    made = once(lambda: prepare(ground))
    if made.fault is not None:
        raise RuntimeError(made.fault)
    facts = json.loads((ground / "facts.json").read_text())
    facts["events"] = count_events(ground, place, user)
    (ground / "facts.json").write_text(json.dumps(facts))


def of_case(case: Case, seed: int, number: int, place: Path) -> dict[str, str]:
    """What became of a case, and what it was."""
    try:
        seen = case.run(seed, number)
    except Exception:
        remove(place)
        outcome = f"{FAILED}: the campaign itself: {traceback.format_exc()[-800:]}"
        return {"kind": "", "act": "", "commands": "", "outcome": outcome}
    commands = [f"{name}: {answer.value['code'] if answer.value else answer.fault}" for name, answer in seen.commands]
    return {"kind": seen.kind, "act": seen.act, "commands": "; ".join(commands), "outcome": judge(seen)}


if __name__ == "__main__":
    main()

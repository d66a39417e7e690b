"""Nothing that was acknowledged is lost, and nothing is half done: campaigns against a gallery's file.

    python -m tests.campaigns.durable kills --out benchmarks/results/durability-kills.json
    python -m tests.campaigns.durable disks --out benchmarks/results/durability-disks.json
    python -m tests.campaigns.durable faults --out benchmarks/results/durability-faults.json
    python -m tests.campaigns.durable contention --out benchmarks/results/durability-contention.json

The parts that are done stand in the file of --out; --resume goes on after them. Needs strace and the right to trace;
a part that needs the right to mount is skipped without it.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from tests.campaigns.durability import contention, cuts, disks, faults, kills, media, mounts, tracing
from tests.campaigns.durability.campaign import Part, run
from tests.campaigns.durability.children import Server


def main(argv: Sequence[str] | None = None) -> int:
    """Run a campaign; returns 1 when a case failed, 2 when this machine cannot do it."""
    arguments = _parser().parse_args(argv)
    if arguments.out is not None and not arguments.out.parent.is_dir():
        print(f"{arguments.out.parent} is no folder; make it first", file=sys.stderr)
        return 2
    if (why := tracing.why_not()) is not None:
        print(f"{why}: install strace, or run it where tracing is allowed", file=sys.stderr)
        return 2
    words = {name: value for name, value in vars(arguments).items() if name not in ("campaign", "out", "resume")}
    told = "".join(f" --{name} {value}" for name, value in words.items() if value is not None)
    command = f"python -m tests.campaigns.durable {arguments.campaign}{told}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(closing(Server()))
        parts, skipped = _parts(folder, server, arguments)
        return run(parts, command, arguments.out, resume=arguments.resume, skipped=skipped)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    campaigns = parser.add_subparsers(required=True, dest="campaign", metavar="CAMPAIGN")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        added = campaigns.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")
        added.add_argument("--out", type=Path, metavar="FILE.json", help="the counts as JSON")
        added.add_argument("--resume", action="store_true", help="go on with what is in the file of --out")
        return added

    killed = add("kills", "SIGKILL before every system call of each command, and at random instants")
    killed.add_argument("--cases", type=int, metavar="N", help="calls of each command, drawn (every one)")
    killed.add_argument("--kills", type=int, default=1000, metavar="N", help="at random instants (1,000)")
    cut = add("disks", "power cuts: disks that recorded runs may leave, and a real ext4 whose log is stopped")
    cut.add_argument("--runs", type=int, default=10, metavar="N", help="mixed runs that are recorded (10)")
    cut.add_argument("--cases", type=int, default=1000, metavar="N", help="disks of each (1,000)")
    cut.add_argument("--bundle", type=Path, metavar="NAME.oneshot", help="for init, small and calibrated (untrained)")
    cut.add_argument("--cuts", type=int, default=300, metavar="N", help="of a real ext4 (300)")
    failing = add("faults", "errors of single system calls, a full disk and a read-only one")
    failing.add_argument("--cases", type=int, metavar="N", help="of each command and error, drawn (every one)")
    failing.add_argument("--bundle", type=Path, metavar="NAME.oneshot", help="small and calibrated (untrained)")
    contended = add("contention", "four writers and four readers side by side")
    contended.add_argument("--seconds", type=float, default=60.0, metavar="S", help="(60)")
    return parser


def _parts(
    folder: Path, server: Server, arguments: argparse.Namespace
) -> tuple[dict[str, tuple[int, Part]], dict[str, str]]:
    """The parts of a campaign, and which of them this machine cannot do."""
    seed: int = arguments.seed
    if arguments.campaign == "kills":
        return kills.parts(folder, server, seed, arguments.cases, arguments.kills), {}
    if arguments.campaign == "contention":
        return contention.parts(folder, seed, arguments.seconds), {}
    why = mounts.why_not(folder)
    if arguments.campaign == "disks":
        found = disks.parts(folder, server, seed, arguments.runs, arguments.cases)
        found |= disks.controls(folder, server, seed, arguments.cases)
        found |= disks.program_parts(folder, seed, arguments.cases, _bundle(folder, arguments.bundle))
        mounting = cuts.parts(folder, server, seed, arguments.cuts)
    else:
        found = faults.parts(folder, server, seed, arguments.cases)
        mounting = {} if why is not None else media.parts(folder, server, _bundle(folder, arguments.bundle))
    if why is not None:
        return found, {"what needs a mount": why}
    return found | mounting, {}


def _bundle(folder: Path, given: Path | None) -> Path:
    if given is not None:
        return given
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from tests.samples.untrained import export_untrained

    return export_untrained(folder / "untrained.oneshot", ("int8",))


if __name__ == "__main__":
    sys.exit(main())

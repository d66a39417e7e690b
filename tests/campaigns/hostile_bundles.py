"""Open thousands of hostile bundles in separate processes: none may crash one, none may pass.

    python -m tests.campaigns.hostile_bundles --cases 14000 --out benchmarks/results/hostile-bundles.json

Every file of `attacks` is opened twice: by a device that trusts no key, and by one that trusts the maker's. Either it
is refused with a reason before an interpreter sees a byte, or all its members are those of the original, byte for
byte. A bundle that was rewritten as a whole, digests included, opens where no key is trusted (counted separately),
and nowhere else.
"""

import argparse
import hashlib
import io
import json
import os
import random
import resource
import sys
import tempfile
import time
import types
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding import runtimes
from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.inspection.bundle_summary import summarise
from edge_oneshot_device.presentation.bundles import describe
from tests import ROOT
from tests.campaigns.attacks import ATTACKS, RARE, REWRITES, Subject, public, subject_of
from tests.campaigns.workers import SILENT, Worker, spread

MAX_SECONDS = 20.0  # of the processor
HANGS_SECONDS = 900.0  # a busy machine gives a case less than a processor
MAX_MIB = 768
MAX_MESSAGE = 1000
ADDRESS_SPACE = 3 << 30
RARE_SHARE = 0.1  # of as many cases as another attack has

# what became of a file
REFUSED, IDENTICAL, REWRITTEN = "refused", "identical", "rewritten"
ALTERED, CRASHED, SLOW, LARGE, RAISED = "altered", "crashed", "too slow", "too large", "raised"
FAILURES = frozenset({ALTERED, CRASHED, SLOW, LARGE, RAISED})


@dataclass
class Tally:
    """What became of the cases of one attack.

    Attributes:
        untrusting, trusting: Per outcome, with the reason of a refusal, how many, where nobody is trusted
            and where the maker is.
        seconds, mib: The most that opening one took.
    """

    attack: str
    cases: int = 0
    untrusting: Counter[str] = field(default_factory=Counter)
    trusting: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    mib: float = 0.0


# in the process that opens them


def judge(content: bytes, subject: Subject, *, trust: str | None, rewrites: bool) -> str:
    """Open a file as a device does, up to the interpreter; what became of it.

    Args:
        content: The hostile file.
        subject: What it was made of.
        trust: The key that the device trusts.
        rewrites: Whether it may be whole in itself, and so open where nobody is trusted.
    """
    seen: list[tuple[str, bytes]] = []
    runtimes._import = _recorder(seen)
    bundle = _opened(content, trust)
    if isinstance(bundle, IntegrityError):
        assert not seen
        assert str(bundle).isprintable()
        assert len(str(bundle)) < MAX_MESSAGE
        return f"{REFUSED}: {bundle.reason}"
    assert describe(summarise(bundle)).replace("\n", "").isprintable()
    for variant in bundle.manifest.variants:
        try:
            with suppress(_ReachedError):
                Encoder.open(bundle, variant.name)
        except IntegrityError as error:
            assert (variant.format, bundle.read(variant.file)) not in seen
            return f"{REFUSED}: {error.reason}"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    if files == subject.files and dict(bundle.members) == subject.members and bundle.signed_by == public(subject.key):
        assert {content for _, content in seen} <= set(subject.members.values())
        return IDENTICAL
    return REWRITTEN if rewrites and trust is None else ALTERED


def _opened(content: bytes, trust: str | None) -> Bundle | IntegrityError:
    try:
        return Bundle.open(content, trust=trust)
    except IntegrityError as error:
        return error


class _ReachedError(Exception):
    """An interpreter would have been given the model now."""


def _recorder(seen: list[tuple[str, bytes]]) -> Any:
    """In place of what imports a runtime: one that keeps what it is given."""

    def interpreter(*told: Any, model_content: bytes = b"", **_how: Any) -> None:
        seen.append(("onnx", told[0]) if told else ("tflite", model_content))
        raise _ReachedError

    options = types.SimpleNamespace(add_session_config_entry=lambda *_: None)
    runtime = types.SimpleNamespace(
        Interpreter=interpreter, InferenceSession=interpreter, SessionOptions=lambda: options
    )
    return lambda _module, _name: runtime


def work(path: Path, seed: int) -> None:
    """Read the names and numbers of cases from stdin, write what became of each to stdout."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    subject = subject_of(path.read_bytes(), seed)
    for trust in (None, public(subject.key)):
        assert judge(subject.content, subject, trust=trust, rewrites=False) == IDENTICAL
    for line in sys.stdin:
        attack, number = line.split()
        content = ATTACKS[attack](subject, random.Random(f"{seed} {attack} {number}"))
        told: dict[str, Any] = {"sha256": hashlib.sha256(content).hexdigest(), "seconds": 0.0, "mib": 0.0}
        for who, trust in (("untrusting", None), ("trusting", public(subject.key))):
            before, started = _peak(), time.process_time()
            try:
                told[who] = judge(content, subject, trust=trust, rewrites=attack in REWRITES)
            except MemoryError:
                told[who] = LARGE
            except Exception as error:
                told[who] = f"{RAISED}: {type(error).__name__}: {error}"[:300]
            told["seconds"] = max(told["seconds"], time.process_time() - started)
            told["mib"] = max(told["mib"], (_peak(reset=False) - before) / 1024)
        print(json.dumps(told), flush=True)


def _peak(*, reset: bool = True) -> int:
    """The most memory resident since the last reset, KiB."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


# in the process that counts


def opened(worker: Worker, case: tuple[str, int]) -> tuple[str, int, dict[str, Any]]:
    """What became of a case, on a device that trusts nobody in particular and on one that does."""
    attack, number = case
    started = time.monotonic()
    told = worker.ask(f"{attack} {number}")
    if isinstance(told, str):
        outcome = SLOW if told == SILENT else f"{CRASHED}: {told}"
        told = {"untrusting": outcome, "trusting": outcome, "seconds": time.monotonic() - started, "mib": 0.0}
    else:
        for limit, value, outcome in ((MAX_SECONDS, told["seconds"], SLOW), (MAX_MIB, told["mib"], LARGE)):
            if value > limit:
                told["untrusting"] = told["trusting"] = outcome
    return attack, number, told


def plan(cases: int) -> list[tuple[str, int]]:
    """At least so many cases: (attack, number), every attack at least once."""
    weights = {attack: RARE_SHARE if attack in RARE else 1.0 for attack in ATTACKS}
    share = cases / sum(weights.values())
    return [(attack, number) for attack, weight in weights.items() for number in range(int(share * weight) + 1)]


def worker_of(bundle: Path, seed: int) -> Worker:
    """A process that opens hostile files."""
    words = ["--bundle", str(bundle.absolute()), "--seed", str(seed), "--work"]
    return Worker([sys.executable, "-m", "tests.campaigns.hostile_bundles", *words], HANGS_SECONDS, ROOT)


def run(bundle: Path, seed: int, planned: Sequence[tuple[str, int]], workers: int) -> Iterator[tuple[str, int, dict]]:
    """Open the planned cases; yields each with what became of it."""
    return spread(partial(worker_of, bundle, seed), opened, planned, workers)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; returns 1 when a case failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=14_000, metavar="N", help="at least so many (14,000)")
    parser.add_argument("--seed", type=int, default=0, help="of the cases (0)")
    parser.add_argument("--bundle", type=Path, metavar="NAME.oneshot", help="what to attack (an untrained export)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (1)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="the counts as JSON")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.work:
        work(arguments.bundle, arguments.seed)
        return 0
    if arguments.out is not None and not arguments.out.parent.is_dir():
        parser.error(f"{arguments.out.parent} is no folder; make it first")
    with tempfile.TemporaryDirectory() as folder:
        bundle = arguments.bundle
        if bundle is None:
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
            from tests.samples.untrained import export_untrained

            bundle = export_untrained(Path(folder) / "untrained.oneshot")
        return _campaign(bundle, arguments)


def _campaign(bundle: Path, arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    planned = plan(arguments.cases)
    tallies = {attack: Tally(attack) for attack in ATTACKS}
    failures = []
    different = set()
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("opening", total=len(planned))
        for attack, number, told in run(bundle, arguments.seed, planned, arguments.workers):
            tally = tallies[attack]
            tally.cases += 1
            tally.seconds = max(tally.seconds, round(told["seconds"], 3))
            tally.mib = max(tally.mib, round(told["mib"], 1))
            tally.untrusting[told["untrusting"]] += 1
            tally.trusting[told["trusting"]] += 1
            different.add(told.get("sha256"))
            if {told[who].partition(":")[0] for who in ("untrusting", "trusting")} & FAILURES:
                failures.append({"attack": attack, "number": number, **told})
            bar.advance(task)
    Console().print(_table(list(tallies.values())))
    if arguments.out is not None:
        whole = {
            "command": f"python -m tests.campaigns.hostile_bundles --cases {arguments.cases} --seed {arguments.seed}",
            "seconds": round(time.monotonic() - started),
            "cases": len(planned),
            "different": len(different),
            "bundle_bytes": bundle.stat().st_size,
            "failures": failures,
            "attacks": [vars(tally) for tally in tallies.values()],
        }
        write_atomically(arguments.out, json.dumps(whole, indent=1).encode() + b"\n")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def _table(tallies: Sequence[Tally]) -> Table:
    drawn = Table("attack", "cases", "nobody trusted", "the maker trusted", "most s", "most MiB")
    for one in tallies:
        told = [
            "\n".join(f"{count:,} {what}" for what, count in counts.most_common())
            for counts in (one.untrusting, one.trusting)
        ]
        drawn.add_row(one.attack, f"{one.cases:,}", *told, f"{one.seconds:g}", f"{one.mib:g}")
    return drawn


if __name__ == "__main__":
    sys.exit(main())

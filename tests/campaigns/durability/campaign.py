"""A campaign in parts: each is counted, kept as soon as it is done, and not done again when it goes on."""

import json
import os
import platform
import shutil
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from edge_oneshot_device.files import write_atomically
from tests.campaigns.durability.devices import FAILED

MOST_FAILURES = 20  # kept of a part; all are counted


@dataclass
class Tally:
    """What became of the cases of a part.

    Attributes:
        outcomes: How many had each outcome.
        failures: The first that failed, each with what it takes to repeat it.
        facts: What else was counted or measured.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, outcome: str, **case: Any) -> None:
        """Count a case; one whose outcome begins with `FAILED` is kept."""
        failed = outcome.startswith(FAILED)
        self.outcomes[FAILED if failed else outcome] += 1
        if failed and len(self.failures) < MOST_FAILURES:
            self.failures.append({**case, "outcome": outcome[:600]})


Part = Callable[[Callable[[], None]], Tally]
"""Runs, calling after each case."""


def run(
    parts: Mapping[str, tuple[int, Part]], command: str, out: Path | None, *, resume: bool, skipped: Mapping[str, str]
) -> int:
    """Run the parts that are not in the file yet.

    Args:
        parts: By name, about how many cases it has, and the part.
        command: As it was called.
        out: Where the counts go as JSON, after each part.
        resume: Go on with what is in the file; else all is done anew.
        skipped: Parts that this machine cannot do, and why.

    Returns:
        1 when a case failed, else 0.
    """
    whole: dict[str, Any] = {"command": command, **machine(), "skipped": dict(skipped), "parts": {}}
    if resume and out is not None and out.exists():
        former = json.loads(out.read_bytes())
        if former["command"] != command:
            raise SystemExit(f"{out} is of another command, {former['command']}: name another file")
        whole["parts"] = former["parts"]
    done: dict[str, Any] = whole["parts"]
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=Console(stderr=True)) as bar:
        for name, (cases, part) in parts.items():
            if name in done:
                continue
            task = bar.add_task(name, total=cases)
            started = time.monotonic()
            tally = part(lambda task=task: bar.advance(task))
            done[name] = {
                "seconds": round(time.monotonic() - started, 1),
                "cases": tally.outcomes.total(),
                "failed": tally.outcomes[FAILED],
                "outcomes": dict(tally.outcomes),
                **tally.facts,
                "failures": tally.failures,
            }
            whole["cases"] = sum(one["cases"] for one in done.values())
            whole["failed"] = sum(one["failed"] for one in done.values())
            if out is not None:
                write_atomically(out, json.dumps(whole, indent=1).encode() + b"\n")
    Console().print(_table(done))
    for name, why in skipped.items():
        print(f"{name} skipped: {why}", file=sys.stderr)
    for name, one in done.items():
        for failure in one["failures"]:
            print(name, failure, file=sys.stderr)
    return 1 if any(one["failed"] for one in done.values()) else 0


def machine() -> dict[str, Any]:
    """What it runs on."""
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    return {"cores": os.cpu_count(), "system": platform.platform(), **versions}


def fresh(source: Path, target: Path) -> None:
    """A copy of a device in the place of another."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def _table(done: Mapping[str, Mapping[str, Any]]) -> Table:
    drawn = Table("part", "cases", "what became of them", "failed", "s")
    for name, one in done.items():
        told = "\n".join(f"{count:,} {what}" for what, count in one["outcomes"].items())
        drawn.add_row(name, f"{one['cases']:,}", told, str(one["failed"]), f"{one['seconds']:g}")
    return drawn

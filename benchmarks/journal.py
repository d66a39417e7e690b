"""Compare a synced decision with a rollback journal and with WAL, by turns in one run, on the disk of --folder.

    python benchmarks/journal.py --folder . --json

WAL is faster. The gallery does not use it: the SQLite of today's Raspberry Pi OS has the WAL-reset fault, and what
`forget` deletes would stay in the log until a checkpoint, which readers can delay.
"""

import argparse
import os
import sqlite3
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_oneshot_device import console
from edge_oneshot_device.formatting import align

MODES = (("DELETE", "EXTRA"), ("TRUNCATE", "EXTRA"), ("PERSIST", "FULL"), ("WAL", "FULL"))
ROUND = 20


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one transaction: an audit row, and the last rejection, written and synced."""

    journal: str
    synchronous: str
    transactions: int
    median_ms: float
    p95_ms: float
    most_ms: float


def measure(folder: Path, transactions: int) -> list[Timing]:
    """Time so many transactions in each mode, some of each by turns."""
    times: dict[tuple[str, str], list[float]] = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory(dir=folder) as made, ExitStack() as stack:
        connections = {mode: stack.enter_context(closing(_open(Path(made) / "-".join(mode), *mode))) for mode in MODES}
        for _ in range(0, transactions, ROUND):
            for mode, connection in connections.items():
                times[mode] += [_time(connection) for _ in range(ROUND)]
    return [
        Timing(*mode, len(ms), float(np.median(ms)), float(np.percentile(ms, 95)), max(ms))
        for mode, ms in times.items()
    ]


def _open(path: Path, journal: str, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for setting in (f"journal_mode = {journal}", f"synchronous = {synchronous}", "secure_delete = ON"):
        connection.execute(f"PRAGMA {setting}")
    connection.execute("CREATE TABLE audit (seq INTEGER PRIMARY KEY, at INTEGER, detail TEXT, mac BLOB)")
    connection.execute("CREATE TABLE rejection (id INTEGER PRIMARY KEY, at REAL)")
    return connection


def _time(connection: sqlite3.Connection) -> float:
    start = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO audit (at, detail, mac) VALUES (?, ?, ?)", (1, "x" * 250, os.urandom(32)))
    connection.execute("INSERT OR REPLACE INTO rejection VALUES (1, ?)", (start,))
    connection.execute("COMMIT")
    return 1e3 * (time.perf_counter() - start)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to measure (here)")
    parser.add_argument("--transactions", type=int, default=400)
    console.add_json(parser)
    arguments = parser.parse_args()
    timings = measure(arguments.folder, arguments.transactions)
    rows = [("journal", "synchronous", "median ms", "95 %", "most")]
    rows += [
        (one.journal, one.synchronous, f"{one.median_ms:.2f}", f"{one.p95_ms:.2f}", f"{one.most_ms:.2f}")
        for one in timings
    ]
    console.print_result(timings, arguments.json, f"SQLite {sqlite3.sqlite_version}\n{align(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

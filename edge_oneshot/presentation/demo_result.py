"""The result of the demo as text."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from edge_oneshot.demo.demo import DemoResult
from edge_oneshot.demo.subject import Subject
from edge_oneshot.report.report import slower_than_float
from edge_oneshot_device.formatting import align


def demo_text(result: DemoResult, subject: Subject) -> str:
    """A table of the variants, the path of the report, and commands to try next.

    Args:
        result: Of the demo.
        subject: Of the demo.
    """
    first, best = result.accuracy[0], result.variants[0]
    head = ("variant", "size", "drift (cosine)", f"{best.accuracy.ways}-way accuracy", "95 % interval", "median")
    rows = [
        (
            row.variant,
            f"{row.bytes / 1000:,.0f} KB",
            f"{row.drift.cosine_mean:.4f}",
            f"{row.accuracy.accuracy:.1%}",
            f"{row.accuracy.interval[0]:.1%} to {row.accuracy.interval[1]:.1%}",
            f"{row.latency.median_ms:.3f} ms",
        )
        for row in result.variants
    ]
    lines = [
        align([head, *rows]),
        *(
            f"slower than {one.variant} here: {row.variant}, {row.latency.median_ms / one.latency.median_ms:.1f} times"
            for row, one in slower_than_float(result.variants)
        ),
        *(f"left out: {left.variant}: {left.reason}" for left in result.left_out),
        "",
        f"{first.episodes:,} tasks from {len(first.alphabets)} {subject.terms.group}s held out; "
        f"chance {best.accuracy.chance:.0%}, pixels {best.accuracy.pixel_accuracy:.1%}; "
        f"{sum(result.seconds.values()) / 60:.1f} min on {best.latency.board}",
        f"report: {result.report}",
        "",
        "try next:",
    ]
    return "\n".join([*lines, *(f"  {command}" for command in _next_commands(result, subject))])


def _next_commands(result: DemoResult, subject: Subject) -> list[str]:
    bundle, at = shlex.quote(result.bundle), f"--state {shlex.quote(result.state)} --key {shlex.quote(result.key)}"
    commands = [
        f"edge-oneshot-device identify {shlex.quote(result.known)} {at}",
        f"edge-oneshot-device enrol {Path(result.stranger).stem} {shlex.quote(result.stranger)} {at}",
        f"edge-oneshot-device bench {bundle}",
        f"edge-oneshot evaluate {bundle} --data {subject.data} --protocol verification",
        subject.further,
    ]
    if shutil.which("edge-oneshot-device") is None:
        commands.insert(0, f"source {shlex.quote(os.path.relpath(sys.prefix))}/bin/activate")
    return commands

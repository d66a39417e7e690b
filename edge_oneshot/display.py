"""What the workstation's commands show: progress on stderr, results as text."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from edge_oneshot.judging import handful
from edge_oneshot_device.bundle.manifest import Drift
from edge_oneshot_device.formatting import align, percent
from edge_oneshot_device.image_files import PassedOver, passed_over_text
from edge_oneshot_device.inspection.bundle_summary import Operation, Summary
from edge_oneshot_device.matching.thresholds import LOOSE_FAR
from edge_oneshot_device.presentation.bundles import describe
from edge_oneshot_export.assembling import ExportReport, LeftOut
from edge_oneshot_export.judging.evaluation import OneShotResult, VerificationResult
from edge_oneshot_export.judging.folds import FoldsResult

if TYPE_CHECKING:  # training imports TensorFlow, which evaluate has no need of
    from edge_oneshot.training.loop import TrainingProgress
    from edge_oneshot.training.results import TrainingSummary

_PLAIN_EVERY_SECONDS = 15.0


@contextmanager
def training_progress() -> Iterator[Callable[["TrainingProgress"], None]]:
    """A bar with loss, images/s and time left; a line now and then where there is no terminal."""
    with _console() as console:
        if not console.is_terminal:
            yield _plain_reporter(console)
            return
        # on a narrow terminal the bar is short, and the line is cut instead of broken
        narrow = console.width < 100
        bar = Progress(
            TextColumn("training", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=8 if narrow else 40),
            TaskProgressColumn(table_column=Column(no_wrap=True)),
            _text("{task.fields[line]}"),
            console=console,
            expand=True,
        )
        with bar:
            task = bar.add_task("training", total=1.0, line="loading the data")

            def report(now: "TrainingProgress") -> None:
                bar.update(task, completed=now.done, line=_progress_line(now))

            yield report


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """The name of the step at hand, with a spinner; a line each where there is no terminal."""
    with _console() as console:
        if not console.is_terminal:
            yield lambda step: console.print(step, highlight=False, soft_wrap=True)
            return
        with Progress(
            SpinnerColumn(), _text("{task.description}"), TimeElapsedColumn(), console=console, transient=True
        ) as spinner:
            task = spinner.add_task("starting", total=None)
            yield lambda step: spinner.update(task, description=step)


@contextmanager
def evaluation_progress(*, as_json: bool = False) -> Iterator[Callable[[str, int], None]]:
    """The step at hand and a count within it, with a spinner; lines now and then where there is no terminal.

    Args:
        as_json: A program reads along, which wants no lines.
    """
    with _console() as console:
        if not console.is_terminal:
            yield (lambda _step, _count: None) if as_json else _plain_steps(console)
            return
        with Progress(
            SpinnerColumn(), _text("{task.description}"), TimeElapsedColumn(), console=console, transient=True
        ) as spinner:
            task = spinner.add_task("starting", total=None)
            yield lambda step, count: spinner.update(task, description=_counted(step, count))


def training_text(summary: "TrainingSummary") -> str:
    """A finished training in two lines."""
    return (
        f"{summary.run}: {summary.images:,} images in {summary.seconds / 60:.1f} min "
        f"({summary.images_per_second:.0f} images/s, {summary.compiler}), loss {summary.loss:.3f}\n"
        f"held-out {summary.ways}-way one-shot accuracy {summary.accuracy:.1%} "
        f"[{summary.interval[0]:.1%}, {summary.interval[1]:.1%}] "
        f"({', '.join(summary.held_out[:6])}{', ...' if len(summary.held_out) > 6 else ''}); "
        f"next: edge-oneshot export {summary.run} --out NAME.oneshot"
        + (f"\nwarning: {summary.warning}" if summary.warning else "")
    )


@dataclass(frozen=True, slots=True)
class BundleSummary:
    """What ``export --json`` and ``calibrate --json`` print.

    Attributes:
        left_out: Variants that failed.
        trained_on_left_out: Groups of images that the encoder was trained on, so that they calibrate nothing.
        drift: Of each variant.
        passed_over: What in the folder of images was not used.
    """

    name: str
    format: int
    variants: list[str]
    fingerprints: dict[str, str]
    calibration: list[Operation]
    signed_by: str | None
    bytes: int
    path: str
    left_out: list[LeftOut]
    trained_on_left_out: list[str]
    drift: dict[str, Drift | None]
    seconds: float
    passed_over: list[PassedOver]


def bundle_summary(
    report: ExportReport, summary: Summary, seen: Sequence[str], passed: Sequence[PassedOver]
) -> BundleSummary:
    """What was written, in brief; `seen` are groups left out because the encoder was trained on them."""
    return BundleSummary(
        name=summary.name,
        format=summary.format,
        variants=summary.variants,
        fingerprints=summary.fingerprints,
        calibration=summary.calibration,
        signed_by=summary.signed_by,
        bytes=summary.bytes,
        path=str(report.path),
        left_out=list(report.left_out),
        trained_on_left_out=list(seen),
        drift={file.variant: file.drift for file in summary.files},
        seconds=report.seconds,
        passed_over=list(passed),
    )


def with_passed_over(text: str, passed: Sequence[PassedOver]) -> str:
    """What a command came to, and a line on what it left out of the folder of images."""
    return f"{text}\n{passed_over_text(passed)}" if passed else text


def export_text(report: ExportReport, summary: Summary, seen: Sequence[str]) -> str:
    """What is in the new bundle, what was left out, and what to do next; `seen` as for `bundle_summary`."""
    lines = [describe(summary), ""]
    if summary.calibration:
        lines += _lost("not acquired", summary.calibration[0].failures_by_reason)
    if seen:
        some = ", ".join(seen[:4]) + (", ..." if len(seen) > 4 else "")
        lines.append(f"not calibrated on {len(seen)} groups that the encoder was trained on: {some}")
    lines += [f"left out: {left.reason}" for left in report.left_out]
    target = max((one.target_far for one in summary.calibration), default=0.0)
    asked = ""
    if target > LOOSE_FAR:
        asked = f" --target-far {target:g}"
        lines.append(
            f"unfit for a door: with so few people and images the false accept rate is {percent(target)} at best; "
            "calibrate it with more (edge-oneshot calibrate), or init asks for an explicit --target-far"
        )
    lines.append(f"{report.path} in {report.seconds:.0f} s; next: edge-oneshot-device init {report.path}{asked}")
    return "\n".join(lines)


def evaluation_text(result: Sequence[OneShotResult] | VerificationResult | FoldsResult) -> str:
    """One line an N, a handful of many, or the verification rates."""
    if isinstance(result, VerificationResult):
        return _verification_text(result)
    if isinstance(result, FoldsResult):
        return _folds_text(result)
    head = ("protocol", "ways", "tasks", "accuracy", "95 % interval", "error", "pixels", "chance")
    rows = [
        (
            one.protocol,
            str(one.ways),
            f"{one.episodes:,}",
            f"{one.accuracy:.2%}",
            f"{one.interval[0]:.2%} to {one.interval[1]:.2%}",
            f"{one.error:.2%}",
            f"{one.pixel_accuracy:.1%}",
            f"{one.chance:.1%}",
        )
        for one in handful(result)
    ]
    first = result[0]
    drawn = "the official runs" if first.seed is None else f"{len(first.alphabets)} groups, seed {first.seed}"
    judged = f"{first.variant} on {first.runtime}, {drawn}"
    return f"{align([head, *rows])}\n{judged}"


def _verification_text(result: VerificationResult) -> str:
    rows = [("", "measured", "95 % interval", "true FAR at most")]
    rows.append(("EER", f"{result.eer:.2%}", _interval(result.intervals.get("eer")), ""))
    rows += [
        (f"TPR at FPR {rate}", f"{tpr:.2%}", _interval(result.intervals.get(rate)), _bound(result.far_upper_95[rate]))
        for rate, tpr in result.tpr_at_fpr.items()
    ]
    judged = (
        f"{result.variant} on {result.runtime}, {result.people} identities, "
        f"{result.genuine:,} genuine and {result.impostor:,} impostor pairs"
    )
    return "\n".join([align(rows), judged, *_lost("not acquired", result.failures_by_reason)])


def _folds_text(result: FoldsResult) -> str:
    spread = f"standard error {result.standard_error:.2%}, {len(result.folds)} folds"
    lost = f"{result.pairs_lost:,} others count as errors above"
    rows = [
        ("accuracy", f"{result.accuracy:.2%}", spread),
        ("of acquired pairs", f"{result.accuracy_acquired:.2%}", lost),
        ("EER", f"{result.eer:.2%}", ""),
        *((f"TPR at FPR {rate}", f"{tpr:.2%}", "") for rate, tpr in result.tpr_at_fpr.items()),
    ]
    judged = (
        f"{result.variant} on {result.runtime}, {result.people:,} people, {result.genuine:,} genuine and "
        f"{result.impostor:,} impostor pairs; {result.failures_to_acquire:,} photos show no face"
    )
    return "\n".join([align(rows), judged, *_lost("the gate would refuse", result.refused)])


def _lost(what: str, reasons: Mapping[str, int]) -> list[str]:
    counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
    return [f"{what}: {counts}"] if reasons else []


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.2%} to {interval[1]:.2%}"


def _bound(bound: float | None) -> str:
    return "too few people" if bound is None else f"{bound:.2g}"


@contextmanager
def _console() -> Iterator[Console]:
    """A console on a duplicate of stderr, which stays while converters are kept off the original."""
    stream = os.fdopen(os.dup(2), "w", errors="backslashreplace")
    try:
        yield Console(file=stream)
    finally:
        with suppress(OSError):  # nobody reads it any more, which is no failure of the command
            stream.close()


def _plain_reporter(console: Console) -> Callable[["TrainingProgress"], None]:
    last = 0.0

    def report(now: "TrainingProgress") -> None:
        nonlocal last
        if time.monotonic() - last >= _PLAIN_EVERY_SECONDS or now.done >= 1.0 or now.activity:
            last = time.monotonic()
            console.print(f"{now.done:4.0%}  {_progress_line(now)}", highlight=False, soft_wrap=True)

    return report


def _plain_steps(console: Console) -> Callable[[str, int], None]:
    latest, last = "", 0.0

    def report(step: str, count: int) -> None:
        nonlocal latest, last
        if step != latest or time.monotonic() - last >= _PLAIN_EVERY_SECONDS:
            latest, last = step, time.monotonic()
            console.print(_counted(step, count), highlight=False, soft_wrap=True, markup=False)

    return report


def _counted(step: str, count: int) -> str:
    return f"{step}: {count:,} image{'s' * (count != 1)}" if count else step


def _text(field: str) -> TextColumn:
    """A column that takes what room is left, in one line whatever the width; words in brackets are no markup."""
    return TextColumn(field, markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))


def _progress_line(now: "TrainingProgress") -> str:
    if now.activity:
        return now.activity
    held_out = "" if now.accuracy is None else f"  held-out {now.accuracy:.1%}"
    minutes, seconds = divmod(round(min(now.seconds_left, 359_999)), 60)
    return (
        f"{minutes}:{seconds:02} left  loss {now.loss:.3f}{held_out}  {now.images_per_second:.0f} images/s"
        f"  {now.images:,} images"
    )

"""Progress on stderr: bars and spinners on a terminal, a line now and then elsewhere.

Without a terminal `as_json` prints nothing, because a program reads stderr.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

if TYPE_CHECKING:  # training imports TensorFlow, which not every command needs
    from edge_oneshot.demo.stages import DemoStage
    from edge_oneshot.training.loop import TrainingProgress

_PLAIN_EVERY_SECONDS = 15.0


@contextmanager
def training_progress(*, as_json: bool = False) -> Iterator[Callable[["TrainingProgress"], None]]:
    """A bar with loss, images/s and time left; without a terminal a line now and then."""
    with _console(as_json) as console:
        if not console.is_terminal:
            yield _plain_reporter(console)
            return
        # on a narrow terminal the bar is short, and the line is cut off instead of wrapped
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
def step_progress(*, as_json: bool = False) -> Iterator[Callable[[str], None]]:
    """The name of the current step with a spinner; without a terminal one line per step."""
    with _console(as_json) as console:
        if not console.is_terminal:
            yield lambda step: console.print(step, highlight=False, soft_wrap=True)
            return
        with _spinner(console) as show:
            yield show


@contextmanager
def evaluation_progress(*, as_json: bool = False) -> Iterator[Callable[[str, int], None]]:
    """The current step and a count within it, with a spinner; without a terminal a line now and then."""
    with _console(as_json) as console:
        if not console.is_terminal:
            yield _plain_steps(console)
            return
        with _spinner(console) as show:
            yield lambda step, count: show(_counted(step, count))


@contextmanager
def demo_progress(names: Sequence[str], *, as_json: bool = False) -> Iterator[Callable[["DemoStage"], None]]:
    """The stages of a demo: a bar for each on a terminal, lines elsewhere.

    Args:
        names: Of the stages, in their order.
        as_json: Print nothing without a terminal.
    """
    quiet = as_json and not sys.stderr.isatty()
    console = Console(file=sys.stderr, quiet=quiet)  # not by name: the demo captures sys.stderr while the bars go on
    if not console.is_terminal:
        yield _plain_stages(console, names)
        return
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=8 if console.width < 80 else 24),
        TimeElapsedColumn(),
        # in one line whatever the width
        TextColumn(
            "{task.fields[detail]}",
            style="dim",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
        console=console,
    )
    width = max(len(name) for name in names)
    tasks: dict[str, TaskID] = {}

    def show(stage: "DemoStage") -> None:
        if stage.name not in tasks:
            tasks[stage.name] = bars.add_task(stage.name.ljust(width), total=None, detail="")
        if stage.done is not None:
            bars.update(tasks[stage.name], total=1.0, completed=stage.done)
        bars.update(tasks[stage.name], detail=stage.detail)
        if stage.done == 1.0:
            bars.stop_task(tasks[stage.name])

    with bars:
        yield show


@contextmanager
def _console(as_json: bool) -> Iterator[Console]:
    """A console on a duplicate of stderr, which still shows while the converters' own output is suppressed."""
    stream = os.fdopen(os.dup(2), "w", errors="backslashreplace")
    try:
        yield Console(file=stream, quiet=as_json and not stream.isatty())
    finally:
        with suppress(OSError):  # the reader has gone, which is no failure of the command
            stream.close()


@contextmanager
def _spinner(console: Console) -> Iterator[Callable[[str], None]]:
    columns = SpinnerColumn(), _text("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as spinner:
        task = spinner.add_task("starting", total=None)
        yield lambda text: spinner.update(task, description=text)


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
    """A column that fills the rest of the line and never wraps; text in brackets is not taken as markup."""
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


def _plain_stages(console: Console, names: Sequence[str]) -> Callable[["DemoStage"], None]:
    """A line when a stage begins and ends, and at times in between."""
    last, latest = 0.0, ""

    def show(stage: "DemoStage") -> None:
        nonlocal last, latest
        now = time.monotonic()
        if stage.name == latest and stage.done != 1.0 and now - last < _PLAIN_EVERY_SECONDS:
            return
        last, latest = now, stage.name
        share = "" if stage.done is None or stage.done == 1.0 else f"{stage.done:.0%}, "
        line = f"[{names.index(stage.name) + 1}/{len(names)}] {stage.name}: {share}{stage.detail}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    return show

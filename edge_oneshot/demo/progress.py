"""Where a demo is: its stages, their times, and how they are shown on stderr."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

if TYPE_CHECKING:  # training imports TensorFlow
    from edge_oneshot.training.loop import TrainingProgress

_PLAIN_EVERY_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class DemoStage:
    """Where a demo is.

    Attributes:
        name: Of the stage.
        done: Share of the stage, 0..1, or None where it is not known.
        detail: What it is at.
    """

    name: str
    done: float | None
    detail: str


Watch = Callable[[DemoStage], None]


class StageClock:
    """Tells a watcher where the demo is, and how long each stage took."""

    def __init__(self, watch: Watch) -> None:
        self.seconds: dict[str, float] = {}
        self._watch = watch
        self._stage = ""
        self._began = 0.0

    def start(self, stage: str, detail: str) -> None:
        """End the stage before and begin one."""
        self.stop()
        self._stage, self._began = stage, time.monotonic()
        self.say(detail)

    def stop(self) -> None:
        """End the stage."""
        if self._stage:
            self.seconds[self._stage] = round(time.monotonic() - self._began, 1)
            self._watch(DemoStage(self._stage, 1.0, "done"))
            self._stage = ""

    def say(self, detail: str) -> None:
        """Tell what the stage is at."""
        self._watch(DemoStage(self._stage, None, detail))

    def training(self, now: "TrainingProgress") -> None:
        """Tell how far the training is."""
        if now.activity:
            self.say(now.activity)
            return
        held_out = "" if now.accuracy is None else f", held-out {now.accuracy:.1%}"
        detail = f"loss {now.loss:.2f}{held_out}, {now.images_per_second:.0f} images/s"
        self._watch(DemoStage(self._stage, min(now.done, 0.999), detail))


@contextmanager
def shown(names: Sequence[str]) -> Iterator[Watch]:
    """Show stages on stderr: a bar each on a terminal, plain lines elsewhere."""
    console = Console(file=sys.stderr)  # this very stream: while others are captured, the bars are not
    if not console.is_terminal:
        yield _lines(console, names)
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

    def show(stage: DemoStage) -> None:
        if stage.name not in tasks:
            tasks[stage.name] = bars.add_task(stage.name.ljust(width), total=None, detail="")
        if stage.done is not None:
            bars.update(tasks[stage.name], total=1.0, completed=stage.done)
        bars.update(tasks[stage.name], detail=stage.detail)
        if stage.done == 1.0:
            bars.stop_task(tasks[stage.name])

    with bars:
        yield show


def _lines(console: Console, names: Sequence[str]) -> Watch:
    """A line when a stage begins and ends, and now and then in a long one."""
    last, latest = 0.0, ""

    def show(stage: DemoStage) -> None:
        nonlocal last, latest
        now = time.monotonic()
        if stage.name == latest and stage.done != 1.0 and now - last < _PLAIN_EVERY_SECONDS:
            return
        last, latest = now, stage.name
        share = "" if stage.done is None or stage.done == 1.0 else f"{stage.done:.0%}, "
        line = f"[{names.index(stage.name) + 1}/{len(names)}] {stage.name}: {share}{stage.detail}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    return show

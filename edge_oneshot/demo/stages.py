"""The stages of a demo, and how long each takes."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # training imports TensorFlow
    from edge_oneshot.training.loop import TrainingProgress


@dataclass(frozen=True, slots=True)
class DemoStage:
    """The current stage of a demo.

    Attributes:
        name: Of the stage.
        done: Share of the stage, 0..1, or None where it is not known.
        detail: What is being done.
    """

    name: str
    done: float | None
    detail: str


Watch = Callable[[DemoStage], None]


class StageClock:
    """Reports the current stage to a watcher, and measures how long each stage takes."""

    def __init__(self, watch: Watch) -> None:
        self.seconds: dict[str, float] = {}
        self._watch = watch
        self._stage = ""
        self._began = 0.0

    def start(self, stage: str, detail: str) -> None:
        """End the current stage and begin another.

        Args:
            stage: Name of the stage.
            detail: What is done first.
        """
        self.stop()
        self._stage, self._began = stage, time.monotonic()
        self.say(detail)

    def stop(self) -> None:
        """End the current stage."""
        if self._stage:
            self.seconds[self._stage] = round(time.monotonic() - self._began, 1)
            self._watch(DemoStage(self._stage, 1.0, "done"))
            self._stage = ""

    def say(self, detail: str) -> None:
        """Report what is being done."""
        self._watch(DemoStage(self._stage, None, detail))

    def training(self, now: "TrainingProgress") -> None:
        """Report the progress of the training."""
        if now.activity:
            self.say(now.activity)
            return
        held_out = "" if now.accuracy is None else f", held-out {now.accuracy:.1%}"
        detail = f"loss {now.loss:.2f}{held_out}, {now.images_per_second:.0f} images/s"
        self._watch(DemoStage(self._stage, min(now.done, 0.999), detail))

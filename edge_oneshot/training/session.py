"""One sitting of a training: from its beginning or its last checkpoint to the end, or to an interruption."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import keras
import msgspec
import numpy as np
import numpy.typing as npt

from edge_oneshot.data.dataset import Dataset
from edge_oneshot.errors import TrainingError
from edge_oneshot.training.augmentation import preset
from edge_oneshot.training.batches import Source, batches
from edge_oneshot.training.encoders import first_view
from edge_oneshot.training.logs import Log
from edge_oneshot.training.runs import Moment, Run, save_checkpoint
from edge_oneshot.training.start import begin_with
from edge_oneshot.training.strategies import Devices
from edge_oneshot.training.trainer import Trainer, compile_step, faster_compiler, imprint
from edge_oneshot.training.validation import Validation
from edge_oneshot.training.whitening import whiten

_CHECKPOINTS = 20
_CHECKPOINT_SECONDS = 4.0  # at least, between two: validation and saving cost about a second
_WARM_UP = 0.03


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is.

    Attributes:
        done: Share of its length, 0..1.
        images: Seen so far.
        loss: Mean over the last steps.
        images_per_second: Since the last checkpoint.
        seconds_left: About.
        accuracy: Of the last checkpoint, or None before it.
        at: What is done before the first step or after the last, where the other figures stand still; "" between.
    """

    done: float
    images: int
    loss: float
    images_per_second: float
    seconds_left: float
    accuracy: float | None
    at: str = ""


class Session:
    """One sitting of a training: its place in the run, and what it reports and keeps on the way."""

    def __init__(
        self,
        run: Run,
        training: Dataset,
        held_out: Dataset,
        devices: Devices,
        log: Log,
        report: Callable[[Progress], None] | None,
    ) -> None:
        record, settings = run.record, run.record.settings
        self.path, self.record, self.devices, self.log, self.report = run.path, record, devices, log, report
        self.trainer = Trainer(record, devices)
        self.judge = Validation(held_out, record)
        self.source = Source(
            training,
            record.input,
            preset(settings.augment, settings.orientations),
            size=settings.batch,
            seed=settings.seed,
            images_a_class=self.trainer.objective.images_a_class,
            part=(devices.worker, devices.workers),
        )
        self.history: list[Moment] = []
        self.images, self.seconds, self.loss, self.rate = 0, 0.0, 0.0, 0.0

    def run(self, stored: list[npt.NDArray[np.generic]] | None) -> Run:
        """Train to the end, from a checkpoint's variables or from the beginning."""
        if stored is None:
            self._begin()
        else:
            self._go_on(stored)
        settings = self.record.settings
        self._say("compiling the training step")
        step = self.trainer.step(self.record.compiler)
        compile_step(self.trainer, step, self.source)
        losses: list[float] = []
        marked, marked_images, marked_seconds = self._done, self.images, self.seconds
        source = batches(self.source, first=self.images // settings.batch)
        with closing(source), _interruptible() as interrupted:
            before = time.monotonic()
            while self._done < 1.0:
                self.trainer.optimizer.learning_rate = settings.learning_rate * _schedule(self._done)
                losses.append(step(next(source)))
                self.images += settings.batch
                before = self._count_time(before)
                if not math.isfinite(losses[-1]):
                    message = f"{self.path}: the loss ran away after {self.images} images; lower --learning-rate"
                    raise TrainingError(message, reason="diverged")
                self.rate = (self.images - marked_images) / max(self.seconds - marked_seconds, 1e-9)
                self._tell(float(np.mean(losses[-50:])))
                due = self._done - marked >= 1.0 / _CHECKPOINTS and self.seconds - marked_seconds >= _CHECKPOINT_SECONDS
                if interrupted.is_set() or due or self._done >= 1.0:
                    self.loss = float(np.mean(losses))
                if self._done < 1.0 and (interrupted.is_set() or due):
                    self._keep(self.trainer.encoder)
                    losses.clear()
                    before = self._count_time(before)
                    marked, marked_images, marked_seconds = self._done, self.images, self.seconds
                if interrupted.is_set() and self._done < 1.0:
                    raise KeyboardInterrupt
        self._say("finishing the encoder")
        encoder = self.trainer.encoder
        # nothing is whitened that was learned from other people than these few
        if self.trainer.objective.metric == "cosine" and not self.trainer.tuned and not self.devices.worker:
            whiten(first_view(encoder), self.source.data, self.record.input)
        return self._keep(encoder, finished=True)

    def _begin(self) -> None:
        self._say("finding out how the step runs faster")
        compiler = faster_compiler(self.trainer, self.source, self.record.settings.minutes)
        self.record = msgspec.structs.replace(self.record, compiler=compiler)
        start = self.record.settings.start
        if start is not None and not self.trainer.tuned:
            begin_with(self.trainer, Run.open(start), self.record, self.source)
        if self.record.settings.objective == "cosine":
            self._say("a first look at each class")
            imprint(self.trainer, self.source, trained=start is not None)

    def _go_on(self, stored: list[npt.NDArray[np.generic]]) -> None:
        try:
            self.images, self.seconds, self.loss, self.rate = (value.item() for value in stored[:4])
            self.trainer.restore(stored[4:])
        except ValueError as error:
            raise TrainingError(f"{self.path}: the checkpoint does not fit: {error}", reason="run_damaged") from None
        self.history = [moment for moment in Run(self.path, self.record).history() if moment.images <= self.images]

    @property
    def _done(self) -> float:
        """Share of the training that is done: 1 and above at its end."""
        settings = self.record.settings
        if settings.images is not None:
            return self.images / settings.images
        assert settings.minutes is not None
        return self.seconds / (settings.minutes * 60.0)

    def _count_time(self, before: float) -> float:
        now = time.monotonic()
        self.seconds += now - before
        return now

    def _tell(self, loss: float) -> None:
        if self.report:
            done = self._done
            left = self.seconds * (1.0 - done) / done if done else math.inf
            self.report(Progress(min(done, 1.0), self.images, loss, self.rate, max(left, 0.0), self.judge.last))

    def _say(self, at: str) -> None:
        """Tell what it is at before the first step, and after the last; none of it counts as training time."""
        if self.report:
            done = min(self._done, 1.0)
            self.report(Progress(done, self.images, math.nan, self.rate, math.inf, self.judge.last, at))

    def _keep(self, encoder: keras.Model, *, finished: bool = False) -> Run:
        """Judge, and write a checkpoint; the last one with the curve of similarity."""
        if self.devices.worker:
            return Run(self.path, self.record)
        now = msgspec.structs.replace(
            self.record,
            images_seen=self.images,
            seconds=self.seconds,
            finished=finished,
            similarity=self.judge.similarity(encoder) if finished else None,
        )
        accuracy, interval = self.judge.accuracy(encoder)
        moment = Moment(
            images=self.images,
            seconds=self.seconds,
            loss=self.loss,
            images_per_second=self.rate,
            accuracy=accuracy,
            interval=interval,
            ways=self.judge.ways,
        )
        # after a kill amid the last checkpoint the history may have it already
        self.history = [*(past for past in self.history if past.images < self.images), moment]
        self.log(moment)
        place = [np.array(value) for value in (self.images, self.seconds, self.loss, self.rate)]
        return save_checkpoint(self.path, now, encoder, [*place, *self.trainer.state()], self.history)


def _schedule(done: float) -> float:
    """Learning rate relative to the highest: linear warm-up, then a cosine to 0 (Loshchilov 2017)."""
    if done < _WARM_UP:
        return max(done, 1e-3) / _WARM_UP
    return 0.5 * (1.0 + math.cos(math.pi * (done - _WARM_UP) / (1.0 - _WARM_UP)))


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that the step and a checkpoint come to their end."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def stop(*_: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)

"""The training loop: steps, checkpoints and progress, from the beginning or from a checkpoint to the end."""

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
from edge_oneshot.training.batches import Source, batches
from edge_oneshot.training.logs import Log
from edge_oneshot.training.nets import first_view
from edge_oneshot.training.presets import preset
from edge_oneshot.training.runs import HistoryEntry, Run, save_checkpoint
from edge_oneshot.training.strategies import Devices
from edge_oneshot.training.trainer import Step, Trainer, compile_step, faster_compiler, imprint
from edge_oneshot.training.validation import Validation
from edge_oneshot.training.warm_start import warm_start
from edge_oneshot.training.whitening import whiten

_CHECKPOINTS = 20
_CHECKPOINT_SECONDS = 4.0  # least time between two; validation and saving take about a second
_WARM_UP = 0.03


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How far a training is.

    Attributes:
        done: Share of its length, 0..1.
        images: Images seen so far.
        loss: Mean over the last steps.
        images_per_second: Since the last checkpoint.
        seconds_left: An estimate.
        accuracy: At the last checkpoint, or None before the first.
        activity: What is done before the first step or after the last, where the other figures stay the same; ""
            during the steps.
    """

    done: float
    images: int
    loss: float
    images_per_second: float
    seconds_left: float
    accuracy: float | None
    activity: str = ""


class TrainingLoop:
    """The steps of a training, from its beginning or a checkpoint to its end or an interruption.

    Args:
        run: Its record says what to train.
        training: The images to train on, oversampled.
        held_out: The images to validate with.
        devices: The devices that share each step.
        log: Called with each checkpoint's figures.
        report: Called with the progress.
    """

    def __init__(
        self,
        run: Run,
        training: Dataset,
        held_out: Dataset,
        devices: Devices,
        log: Log,
        report: Callable[[TrainingProgress], None] | None,
    ) -> None:
        record, settings = run.record, run.record.settings
        self.path, self.record, self.devices, self.log, self.report = run.path, record, devices, log, report
        self.trainer = Trainer(record, devices)
        self.validation = Validation(held_out, record)
        self.source = Source(
            training,
            record.input,
            preset(settings.augment, settings.orientations),
            size=settings.batch,
            seed=settings.seed,
            images_per_class=self.trainer.objective.images_per_class,
            part=(devices.worker, devices.workers),
        )
        self.history: list[HistoryEntry] = []
        self.images, self.seconds, self.loss, self.rate = 0, 0.0, 0.0, 0.0

    def run(self, stored: list[npt.NDArray[np.generic]] | None) -> Run:
        """Train to the end.

        Args:
            stored: The variables of a checkpoint to resume from; None begins the training.

        Returns:
            The run, finished.

        Raises:
            TrainingError: The loss diverged, or the checkpoint is of another net.
            KeyboardInterrupt: After Ctrl-C, once a checkpoint is written.
        """
        if stored is None:
            self._begin()
        else:
            self._restore(stored)
        self._tell_activity("compiling the training step")
        step = self.trainer.step(self.record.compiler)
        compile_step(self.trainer, step, self.source)
        with _interruptible() as interrupted:
            self._train(step, interrupted)
        self._tell_activity("finishing the encoder")
        encoder = self.trainer.encoder
        ridge = self.trainer.trainable.ridge
        if ridge is not None and self.trainer.objective.metric == "cosine" and not self.devices.worker:
            whiten(first_view(encoder), self.source.data, self.record.input, ridge)
        return self._save(encoder, finished=True)

    def _train(self, step: Step, interrupted: threading.Event) -> None:
        """Take steps until the training is done, with a checkpoint now and then."""
        settings = self.record.settings
        losses: list[float] = []
        last_done, last_images, last_seconds = self._done, self.images, self.seconds  # at the last checkpoint
        with closing(batches(self.source, first=self.images // settings.batch)) as source:
            before = time.monotonic()
            while self._done < 1.0:
                self.trainer.optimizer.learning_rate = settings.learning_rate * _schedule(self._done)
                losses.append(step(next(source)))
                self.images += settings.batch
                before = self._count_time(before)
                if not math.isfinite(losses[-1]):
                    message = f"{self.path}: the loss diverged after {self.images} images; lower --learning-rate"
                    raise TrainingError(message, reason="diverged")
                self.rate = (self.images - last_images) / max(self.seconds - last_seconds, 1e-9)
                self._tell(float(np.mean(losses[-50:])))
                stopped, waited = interrupted.is_set(), self.seconds - last_seconds
                due = self._done - last_done >= 1.0 / _CHECKPOINTS and waited >= _CHECKPOINT_SECONDS
                if stopped or due or self._done >= 1.0:
                    self.loss = float(np.mean(losses))
                if self._done < 1.0 and (stopped or due):
                    self._save(self.trainer.encoder)
                    losses.clear()
                    before = self._count_time(before)
                    last_done, last_images, last_seconds = self._done, self.images, self.seconds
                if stopped and self._done < 1.0:
                    raise KeyboardInterrupt

    def _begin(self) -> None:
        settings = self.record.settings
        self._tell_activity("finding the faster compiler")
        compiler = faster_compiler(self.trainer, self.source, settings.minutes)
        self.record = msgspec.structs.replace(self.record, compiler=compiler)
        if settings.start is not None and self.trainer.trainable.origin is None:
            warm_start(self.trainer, Run.open(settings.start), self.record, self.source)
        if self.trainer.objective.imprinted:
            self._tell_activity("setting the prototypes")
            imprint(self.trainer, self.source, trained=settings.start is not None)

    def _restore(self, stored: list[npt.NDArray[np.generic]]) -> None:
        try:
            self.images, self.seconds, self.loss, self.rate = (value.item() for value in stored[:4])
            self.trainer.restore(stored[4:])
        except ValueError as error:
            raise TrainingError(f"{self.path}: the checkpoint does not fit: {error}", reason="run_damaged") from None
        self.history = [entry for entry in Run(self.path, self.record).history() if entry.images <= self.images]

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
            accuracy = self.validation.last
            self.report(TrainingProgress(min(done, 1.0), self.images, loss, self.rate, max(left, 0.0), accuracy))

    def _tell_activity(self, activity: str) -> None:
        """Report work before the first step or after the last, none of which counts as training time."""
        if self.report:
            done, accuracy = min(self._done, 1.0), self.validation.last
            self.report(TrainingProgress(done, self.images, math.nan, self.rate, math.inf, accuracy, activity))

    def _save(self, encoder: keras.Model, *, finished: bool = False) -> Run:
        """Validate, and write a checkpoint; the last one holds the curve of similarity."""
        if self.devices.worker:
            return Run(self.path, self.record)
        record = msgspec.structs.replace(
            self.record,
            images_seen=self.images,
            seconds=self.seconds,
            finished=finished,
            similarity=self.validation.similarity(encoder) if finished else None,
        )
        accuracy, interval = self.validation.accuracy(encoder)
        entry = HistoryEntry(
            images=self.images,
            seconds=self.seconds,
            loss=self.loss,
            images_per_second=self.rate,
            accuracy=accuracy,
            interval=interval,
            ways=self.validation.ways,
        )
        # after a kill during the last checkpoint the history may hold this entry already
        self.history = [*(past for past in self.history if past.images < self.images), entry]
        self.log(entry)
        progress = [np.array(value) for value in (self.images, self.seconds, self.loss, self.rate)]
        return save_checkpoint(self.path, record, encoder, [*progress, *self.trainer.state()], self.history)


def _schedule(done: float) -> float:
    """Learning rate relative to its peak: linear warm-up, then a cosine to 0 (Loshchilov & Hutter 2017)."""
    if done < _WARM_UP:
        return max(done, 1e-3) / _WARM_UP
    return 0.5 * (1.0 + math.cos(math.pi * (done - _WARM_UP) / (1.0 - _WARM_UP)))


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that the current step and a checkpoint can finish."""
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

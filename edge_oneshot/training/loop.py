"""Training a siamese encoder: from a data set to a run folder, resumable at every checkpoint."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import keras
import msgspec
import numpy as np
import numpy.typing as npt

from edge_oneshot import __version__
from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.loading import default_input, is_named, load_data
from edge_oneshot.errors import DataError, TrainingError
from edge_oneshot.training.augmentation import OVERSAMPLING, preset
from edge_oneshot.training.batches import Source, batches
from edge_oneshot.training.encoders import Precision
from edge_oneshot.training.logs import Log, no_log, open_log
from edge_oneshot.training.objectives import ObjectiveName
from edge_oneshot.training.runs import RECORD_FORMAT, Moment, Record, Run, Settings, save_checkpoint
from edge_oneshot.training.strategies import Devices, StrategyName, open_devices
from edge_oneshot.training.trainer import Trainer, faster_compiler, imprint
from edge_oneshot.training.validation import Validation, require_enough
from edge_oneshot.training.whitening import whiten
from edge_oneshot_device.manifest import InputSection

_CHECKPOINTS = 20
_CHECKPOINT_SECONDS = 4.0  # at least, between two: validation and saving cost about a second
_WARM_UP = 0.03
_SPLIT_SEED = 0  # not the run's: runs of several seeds are judged on the same groups


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is; `accuracy` is that of the last checkpoint, or None before it."""

    done: float
    images: int
    loss: float
    images_per_second: float
    seconds_left: float
    accuracy: float | None


def train(
    data: str,
    out: str | Path,
    *,
    minutes: float | None = None,
    images: int | None = None,
    seed: int = 0,
    size: int = 48,
    embedding: int = 128,
    batch: int = 64,
    held_out: int | None = None,
    augment: str | None = None,
    orientations: Literal[1, 4, 8] | None = None,
    framing: Literal["whole", "ink"] | None = None,
    learning_rate: float = 2e-3,
    net: str = "base",
    objective: ObjectiveName = "cosine",
    precision: Precision = "float32",
    strategy: StrategyName = "one",
    tensorboard: bool = False,
    data_dir: Path | None = None,
    report: Callable[[Progress], None] | None = None,
) -> Run:
    """Train an encoder and leave it in a run folder.

    Args:
        data: ``glyphs``, ``omniglot``, both as ``glyphs+omniglot``, or a folder with one folder of
            images an identity.
        out: The run folder; made, and refused when it holds a run already.
        minutes: Length by the clock; the learning rate falls with the time.
        images: Length in images seen instead; such a run is the same for the same seed.
        seed: Of everything random but what is held out.
        size: Side of the encoder's square input in pixels.
        embedding: Size of the embedding.
        batch: Images a step.
        held_out: Groups (alphabets, people) kept for validation and calibration; by default a
            sixth, and four at least where there are as many again to train on.
        augment: How images vary, a preset of `edge_oneshot.training.augmentation`; drawings for
            the named data sets, photos for a folder.
        orientations: 1, 4 or 8 in which each identity is a class of its own; the preset's, unless
            given. 8 pays in long trainings.
        framing: What of an image is seen; the ink of drawings, the whole of photos.
        learning_rate: The highest; warmed up to, then falling as a cosine.
        net: The encoder: ``base``, ``tiny``, or layers as in `edge_oneshot.training.encoders.NETS`.
        objective: See `edge_oneshot.training.objectives`.
        precision: See `edge_oneshot.training.encoders.build_trainee`.
        strategy: See `edge_oneshot.training.strategies`. Of several workers the first alone
            writes the run.
        tensorboard: Keep logs for TensorBoard in the run folder.
        data_dir: Where Omniglot lies.
        report: Called after each step.

    Returns:
        The run, finished.

    Raises:
        DataError: The data is missing, broken or too little.
        TrainingError: The folder holds a run, or the loss ran away.
        KeyboardInterrupt: After Ctrl-C, once a checkpoint is written.
    """
    out = Path(out)
    if (out / "run.json").exists():
        raise TrainingError(f"{out}: holds a run already; add --resume, or name another folder", reason="run_exists")
    if (minutes is None) == (images is None):
        raise TrainingError("give either minutes or images", reason="bad_length")
    devices = _open_devices(strategy, batch, minutes)
    section = default_input(data, size, framing)
    drawn = is_named(data)
    everything = load_data(data, oversampled(section), data_dir=data_dir)
    groups = len(everything.group_names)
    variation = augment or ("drawings" if drawn else "photos")
    settings = Settings(
        data=data if drawn else str(Path(data).resolve()),
        minutes=minutes,
        images=images,
        seed=seed,
        augment=variation,
        orientations=orientations or preset(variation).orientations,
        held_out=held_out or max(min(4, groups // 2), groups // 6),
        batch=batch,
        embedding=embedding,
        learning_rate=learning_rate,
        net=net,
        objective=objective,
        precision=precision,
    )
    training, validation = everything.split(settings.held_out, _SPLIT_SEED)
    require_enough(training, validation)
    record = Record(
        format=RECORD_FORMAT,
        version=__version__,
        settings=settings,
        input=section,
        classes=len(training.identities) * preset(settings.augment, settings.orientations).orientations,
        trained_on=training.group_names,
        held_out=validation.group_names,
        compiler="graph",
        images_seen=0,
        seconds=0.0,
        finished=False,
        similarity=None,
    )
    log = open_log(out) if tensorboard and not devices.worker else no_log
    out.mkdir(parents=True, exist_ok=True)
    session = _Session(Run(out, record), training, load_held_out(record, data_dir), devices, log, report)
    return session.run(None)


def resume(
    out: str | Path,
    *,
    strategy: StrategyName = "one",
    tensorboard: bool = False,
    data_dir: Path | None = None,
    report: Callable[[Progress], None] | None = None,
) -> Run:
    """Go on with a run from its last checkpoint, as if it had never stopped.

    Returns:
        The run, finished; at once when it was finished before.

    Raises:
        DataError: The data is missing, or is not what the run was trained on.
        TrainingError: There is no run, or it is damaged or of another version.
    """
    run = Run.open(out)
    if run.record.finished:
        return run
    settings = run.record.settings
    devices = _open_devices(strategy, settings.batch, settings.minutes)
    everything = load_data(settings.data, oversampled(run.record.input), data_dir=data_dir)
    if set(everything.group_names) != {*run.record.trained_on, *run.record.held_out}:
        raise DataError(f"{settings.data}: not the data that {out} was trained on", reason="other_data")
    training = everything.only(run.record.trained_on)
    if len(training.identities) * preset(settings.augment, settings.orientations).orientations != run.record.classes:
        raise DataError(f"{settings.data}: not the identities that {out} was trained on", reason="other_data")
    log = open_log(run.path) if tensorboard and not devices.worker else no_log
    session = _Session(run, training, load_held_out(run.record, data_dir), devices, log, report)
    return session.run(run.variables())


def require_same(out: str | Path, data: str, given: Mapping[str, object]) -> None:
    """Refuse to resume a run under other settings than its own.

    Raises:
        TrainingError: There is no run, or a given setting differs.
    """
    record = Run.open(out).record
    own = {**msgspec.structs.asdict(record.settings), "size": record.input.width, "framing": record.input.framing}
    asked = {"data": data if is_named(data) else str(Path(data).resolve()), **given}
    for name, value in asked.items():
        if own[name] != value:
            raise TrainingError(
                f"{out}: was begun with {name.replace('_', '-')} {own[name]}, not {value}; "
                "resume it as it was, or train anew into another folder",
                reason="other_settings",
            )


def load_held_out(record: Record, data_dir: Path | None = None) -> Dataset:
    """The groups that a run was not trained on, at the encoder's own resolution."""
    return load_data(record.settings.data, record.input, data_dir=data_dir).only(record.held_out)


def oversampled(section: InputSection) -> InputSection:
    """The section at the resolution that augmentation starts from."""
    return msgspec.structs.replace(section, height=section.height * OVERSAMPLING, width=section.width * OVERSAMPLING)


def _open_devices(strategy: StrategyName, batch: int, minutes: float | None) -> Devices:
    devices = open_devices(strategy, batch)
    if devices.workers > 1 and minutes is not None:
        message = "several workers have several clocks: give the length as --images"
        raise TrainingError(message, reason="bad_length")
    return devices


class _Session:
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
        step = self.trainer.step(self.record.compiler)
        settings = self.record.settings
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
                self.loss = float(np.mean(losses))
                self.rate = (self.images - marked_images) / max(self.seconds - marked_seconds, 1e-9)
                self._tell(float(np.mean(losses[-50:])))
                due = self._done - marked >= 1.0 / _CHECKPOINTS and self.seconds - marked_seconds >= _CHECKPOINT_SECONDS
                if self._done < 1.0 and (interrupted.is_set() or due):
                    self._keep(self.trainer.encoder)
                    losses.clear()
                    before = self._count_time(before)
                    marked, marked_images, marked_seconds = self._done, self.images, self.seconds
                if interrupted.is_set() and self._done < 1.0:
                    raise KeyboardInterrupt
        encoder = self.trainer.encoder
        if self.trainer.objective.metric == "cosine" and not self.devices.worker:
            whiten(encoder, self.source.data, self.record.input)
        return self._keep(encoder, finished=True)

    def _begin(self) -> None:
        before = time.monotonic()
        compiler = faster_compiler(self.trainer, self.source, self.record.settings.minutes)
        self.record = msgspec.structs.replace(self.record, compiler=compiler)
        if self.record.settings.objective == "cosine":
            imprint(self.trainer, self.source)
        self._count_time(before)

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

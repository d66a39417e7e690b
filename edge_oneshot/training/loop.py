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

import msgspec
import numpy as np
import numpy.typing as npt

from edge_oneshot import __version__
from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.loading import default_input, is_named, load_data
from edge_oneshot.errors import DataError, TrainingError
from edge_oneshot.training.augmentation import OVERSAMPLING, PRESETS
from edge_oneshot.training.batches import batches, classes_of
from edge_oneshot.training.runs import RECORD_FORMAT, Moment, Record, Run, Settings, save_checkpoint
from edge_oneshot.training.trainer import Trainer, faster_compiler, imprint, tensors
from edge_oneshot.training.validation import Validation, require_enough
from edge_oneshot_device.manifest import InputSection

_CHECKPOINTS = 20
_CHECKPOINT_SECONDS = 4.0  # at least, between two: validation and saving cost about a second
_WARM_UP = 0.03


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is; `accuracy` is that of the last checkpoint, or None before it."""

    done: float
    images: int
    loss: float
    images_per_second: float
    seconds_left: float
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """What a run came to; what ``train --json`` prints.

    Attributes:
        seconds: Of training, validation included.
        accuracy: One-shot accuracy of the Keras encoder on held-out groups, 0..1, `ways`-way;
            within an alphabet where there are alphabets, by random pairs of drawers.
    """

    run: str
    data: str
    finished: bool
    images: int
    seconds: float
    images_per_second: float
    loss: float
    ways: int
    accuracy: float
    held_out: tuple[str, ...]
    compiler: str
    seed: int


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
    augment: Literal["drawings", "photos"] | None = None,
    learning_rate: float = 2e-3,
    data_dir: Path | None = None,
    report: Callable[[Progress], None] | None = None,
) -> Run:
    """Train an encoder and leave it in a run folder.

    Args:
        data: ``glyphs``, ``omniglot``, or a folder with one folder of images an identity.
        out: The run folder; made, and refused when it holds a run already.
        minutes: Length by the clock; the learning rate falls with the time.
        images: Length in images seen instead; such a run is the same for the same seed.
        seed: Of everything random.
        size: Side of the encoder's square input in pixels.
        embedding: Size of the embedding.
        batch: Images a step.
        held_out: Groups (alphabets, people) kept for validation and calibration; by default a
            sixth, and four at least where there are as many again to train on.
        augment: How images vary; drawings for the named data sets, photos for a folder.
        learning_rate: The highest; warmed up to, then falling as a cosine.
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
    section = default_input(data, size)
    drawn = is_named(data)
    everything = load_data(data, oversampled(section), data_dir=data_dir)
    groups = len(everything.group_names)
    settings = Settings(
        data=data if drawn else str(Path(data).resolve()),
        minutes=minutes,
        images=images,
        seed=seed,
        augment=augment or ("drawings" if drawn else "photos"),
        held_out=held_out or max(min(4, groups // 2), groups // 6),
        batch=batch,
        embedding=embedding,
        learning_rate=learning_rate,
    )
    training, validation = everything.split(settings.held_out, seed)
    require_enough(training, validation)
    record = Record(
        format=RECORD_FORMAT,
        version=__version__,
        settings=settings,
        input=section,
        classes=classes_of(training, PRESETS[settings.augment]),
        trained_on=training.group_names,
        held_out=validation.group_names,
        compiler="graph",
        images_seen=0,
        seconds=0.0,
        finished=False,
        similarity=None,
    )
    out.mkdir(parents=True, exist_ok=True)
    return _run(Run(out, record), training, load_held_out(record, data_dir), None, report)


def resume(out: str | Path, *, data_dir: Path | None = None, report: Callable[[Progress], None] | None = None) -> Run:
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
    everything = load_data(settings.data, oversampled(run.record.input), data_dir=data_dir)
    if set(everything.group_names) != {*run.record.trained_on, *run.record.held_out}:
        raise DataError(f"{settings.data}: not the data that {out} was trained on", reason="other_data")
    training = everything.only(run.record.trained_on)
    if classes_of(training, PRESETS[settings.augment]) != run.record.classes:
        raise DataError(f"{settings.data}: not the identities that {out} was trained on", reason="other_data")
    return _run(run, training, load_held_out(run.record, data_dir), run.variables(), report)


def require_same(out: str | Path, data: str, given: Mapping[str, object]) -> None:
    """Refuse to resume a run under other settings than its own.

    Raises:
        TrainingError: There is no run, or a given setting differs.
    """
    record = Run.open(out).record
    own = {**msgspec.structs.asdict(record.settings), "size": record.input.width}
    asked = {"data": data if is_named(data) else str(Path(data).resolve()), **given}
    for name, value in asked.items():
        if own[name] != value:
            raise TrainingError(
                f"{out}: was begun with {name.replace('_', '-')} {own[name]}, not {value}; "
                "resume it as it was, or train anew into another folder",
                reason="other_settings",
            )


def summarise(run: Run) -> TrainingSummary:
    """What a run came to."""
    record = run.record
    history = run.history()
    if not history:
        raise TrainingError(f"{run.path}: no checkpoint yet; go on with --resume", reason="run_unfinished")
    return TrainingSummary(
        run=str(run.path),
        data=record.settings.data,
        finished=record.finished,
        images=record.images_seen,
        seconds=record.seconds,
        images_per_second=record.images_seen / record.seconds,
        loss=history[-1].loss,
        ways=history[-1].ways,
        accuracy=history[-1].accuracy,
        held_out=record.held_out,
        compiler=record.compiler,
        seed=record.settings.seed,
    )


def load_held_out(record: Record, data_dir: Path | None = None) -> Dataset:
    """The groups that a run was not trained on, at the encoder's own resolution."""
    return load_data(record.settings.data, record.input, data_dir=data_dir).only(record.held_out)


def oversampled(section: InputSection) -> InputSection:
    """The section at the resolution that augmentation starts from."""
    return msgspec.structs.replace(section, height=section.height * OVERSAMPLING, width=section.width * OVERSAMPLING)


def _run(
    run: Run,
    training: Dataset,
    held_out: Dataset,
    stored: list[npt.NDArray[np.generic]] | None,
    report: Callable[[Progress], None] | None,
) -> Run:
    record, settings = run.record, run.record.settings
    trainer = Trainer(record)
    history: list[Moment] = []
    images, seconds = 0, 0.0
    if stored is None:
        began = time.monotonic()
        record = msgspec.structs.replace(record, compiler=faster_compiler(trainer, training, record))
        imprint(trainer, training, record)
        seconds = time.monotonic() - began
    else:
        try:
            trainer.restore(stored[2:])
        except ValueError as error:
            raise TrainingError(f"{run.path}: the checkpoint does not fit: {error}", reason="run_damaged") from None
        images, seconds = int(stored[0]), float(stored[1])
        history = [moment for moment in run.history() if moment.images <= images]
    step = trainer.step(record.compiler)
    judge = Validation(held_out, record)
    how = PRESETS[settings.augment]

    def store(**changes: object) -> Run:
        now = msgspec.structs.replace(record, images_seen=images, seconds=seconds, **changes)
        state = [np.array(images), np.array(seconds), *trainer.state()]
        return save_checkpoint(run.path, now, trainer.encoder, state, history)

    def save(loss: float, rate: float) -> None:
        accuracy = judge.accuracy(trainer.encoder)
        history.append(
            Moment(
                images=images, seconds=seconds, loss=loss, images_per_second=rate, accuracy=accuracy, ways=judge.ways
            )
        )
        store()

    source = batches(
        training, record.input, how, size=settings.batch, seed=settings.seed, first=images // settings.batch
    )
    losses: list[float] = []
    marked, marked_images, marked_seconds = _share(settings, images, seconds), images, seconds
    with closing(source), _interruptible() as interrupted:
        before = time.monotonic()
        while (done := _share(settings, images, seconds)) < 1.0:
            trainer.optimizer.learning_rate = settings.learning_rate * _schedule(done)
            losses.append(float(step(*tensors(next(source)))))
            images += settings.batch
            now = time.monotonic()
            seconds, before = seconds + now - before, now
            if not math.isfinite(losses[-1]):
                raise TrainingError(
                    f"{run.path}: the loss ran away after {images} images; lower --learning-rate", reason="diverged"
                )
            done = _share(settings, images, seconds)
            rate = (images - marked_images) / max(seconds - marked_seconds, 1e-9)
            if report:
                left = seconds * (1.0 - done) / done if done else math.inf
                report(Progress(min(done, 1.0), images, float(np.mean(losses[-50:])), rate, max(left, 0.0), judge.last))
            due = done - marked >= 1.0 / _CHECKPOINTS and seconds - marked_seconds >= _CHECKPOINT_SECONDS
            if interrupted.is_set() or done >= 1.0 or due:
                save(float(np.mean(losses)), rate)
                losses.clear()
                now = time.monotonic()
                seconds, before = seconds + now - before, now
                marked, marked_images, marked_seconds = done, images, seconds
            if interrupted.is_set() and done < 1.0:
                raise KeyboardInterrupt
    return store(finished=True, similarity=judge.similarity(trainer.encoder))


def _share(settings: Settings, images: int, seconds: float) -> float:
    """Share of the training that is done: 1 and above at its end."""
    if settings.images is not None:
        return images / settings.images
    assert settings.minutes is not None
    return seconds / (settings.minutes * 60.0)


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

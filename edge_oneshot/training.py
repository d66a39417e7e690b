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
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

from edge_oneshot import __version__
from edge_oneshot.augmentation import OVERSAMPLING, PRESETS
from edge_oneshot.batches import Batch, batches, classes_of
from edge_oneshot.datasets import Dataset, default_input, is_named, load_data
from edge_oneshot.encoders import build_encoder
from edge_oneshot.errors import DataError, TrainingError
from edge_oneshot.objectives import cosine_softmax
from edge_oneshot.runs import (
    RECORD_FORMAT,
    Moment,
    Record,
    Run,
    Settings,
    Similarity,
    save_checkpoint,
)
from edge_oneshot_device.manifest import InputSection
from edge_oneshot_device.preprocessing import scale
from edge_oneshot_export.protocols import genuine_and_impostor, one_shot, one_shot_episodes

VALIDATION_WAYS = 20
VALIDATION_EPISODES = 1000
_CHECKPOINTS = 20
_CHECKPOINT_SECONDS = 4.0  # at least, between two: validation and saving cost about a second
_WARM_UP = 0.03
_WEIGHT_DECAY = 1e-4
_IMPRINTED = 5
_TRIAL_STEPS = 6
_TRIAL_WORTH_SECONDS = 120.0

Compiler = Literal["graph", "xla"]
Step = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


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
    _require_enough(training, validation)
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


def embed_all(encoder: keras.Model, images: npt.NDArray[np.uint8], section: InputSection) -> npt.NDArray[np.float32]:
    """Embeddings by the Keras encoder: uint8 (n, h, w, c) to float32 (n, d), not normalised."""
    parts = [
        np.asarray(encoder(scale(images[start : start + 256], section), training=False), np.float32)
        for start in range(0, len(images), 256)
    ]
    return np.concatenate(parts)


def _require_enough(training: Dataset, validation: Dataset) -> None:
    for part, name in ((training, "to train on"), (validation, "held out")):
        people, images = len(part.identities), np.bincount(part.labels)
        if people < 2:
            message = f"{part.name}: {people} identities {name}, at least 2 are needed; add some"
            raise DataError(message, reason="too_little_data")
        if images.min() < 2:
            message = f"{part.name}: {part.identities[int(images.argmin())]} has 1 image, at least 2 are needed"
            raise DataError(message, reason="too_little_data")


class _Trainer:
    """Encoder, prototypes and optimizer, and the step that moves them."""

    def __init__(self, record: Record) -> None:
        settings = record.settings
        keras.utils.set_random_seed(settings.seed)
        self.encoder = build_encoder(*record.input.shape, embedding=settings.embedding)
        first = np.random.default_rng((settings.seed, 2)).normal(0.0, 0.05, (settings.embedding, record.classes))
        self.prototypes = keras.Variable(first.astype(np.float32), name="prototypes")
        self.optimizer = keras.optimizers.AdamW(weight_decay=_WEIGHT_DECAY)
        self.optimizer.exclude_from_weight_decay(var_names=["gamma", "beta"])
        self.trained = [*self.encoder.trainable_variables, self.prototypes]
        self.optimizer.build(self.trained)

    def step(self, compiler: Compiler) -> Step:
        """The compiled training step: images and classes to the loss."""

        @tf.function(jit_compile=compiler == "xla")  # type: ignore[untyped-decorator]
        def step(images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = cosine_softmax(self.encoder(images, training=True), self.prototypes.value, classes)
            self.optimizer.apply_gradients(zip(tape.gradient(loss, self.values), self.trained, strict=True))
            return loss

        return step  # type: ignore[no-any-return]

    @property
    def values(self) -> list[tf.Variable]:
        return [variable.value for variable in self.trained]

    def state(self) -> list[npt.NDArray[np.generic]]:
        return [keras.ops.convert_to_numpy(variable) for variable in self._variables()]

    def restore(self, state: list[npt.NDArray[np.generic]]) -> None:
        for variable, value in zip(self._variables(), state, strict=True):
            variable.assign(value)

    def _variables(self) -> list[keras.Variable]:
        return [*self.encoder.weights, self.prototypes, *self.optimizer.variables]


def _run(
    run: Run,
    training: Dataset,
    validation: Dataset,
    stored: list[npt.NDArray[np.generic]] | None,
    report: Callable[[Progress], None] | None,
) -> Run:
    record, settings = run.record, run.record.settings
    trainer = _Trainer(record)
    history: list[Moment] = []
    images, seconds = 0, 0.0
    if stored is None:
        began = time.monotonic()
        record = msgspec.structs.replace(record, compiler=_faster_compiler(trainer, training, record))
        _imprint(trainer, training, record)
        seconds = time.monotonic() - began
    else:
        try:
            trainer.restore(stored[2:])
        except ValueError as error:
            raise TrainingError(f"{run.path}: the checkpoint does not fit: {error}", reason="run_damaged") from None
        images, seconds = int(stored[0]), float(stored[1])
        history = [moment for moment in run.history() if moment.images <= images]
    step = trainer.step(record.compiler)
    judge = _Judge(validation, record, settings.seed)
    how = PRESETS[settings.augment]

    def save(loss: float, rate: float) -> None:
        accuracy = judge.accuracy(trainer.encoder)
        history.append(
            Moment(
                images=images, seconds=seconds, loss=loss, images_per_second=rate, accuracy=accuracy, ways=judge.ways
            )
        )
        now = msgspec.structs.replace(record, images_seen=images, seconds=seconds)
        state = [np.array(images), np.array(seconds), *trainer.state()]
        save_checkpoint(run.path, now, trainer.encoder, state, history)

    source = batches(
        training, record.input, how, size=settings.batch, seed=settings.seed, first=images // settings.batch
    )
    losses: list[float] = []
    marked, marked_images, marked_seconds = _share(settings, images, seconds), images, seconds
    with closing(source), _interruptible() as interrupted:
        before = time.monotonic()
        while (done := _share(settings, images, seconds)) < 1.0:
            trainer.optimizer.learning_rate = settings.learning_rate * _schedule(done)
            losses.append(float(step(*_tensors(next(source)))))
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
    finished = msgspec.structs.replace(
        record,
        images_seen=images,
        seconds=seconds,
        finished=True,
        similarity=judge.similarity(trainer.encoder),
    )
    state = [np.array(images), np.array(seconds), *trainer.state()]
    return save_checkpoint(run.path, finished, trainer.encoder, state, history)


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


def _tensors(batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.constant(batch[0]), tf.constant(batch[1])


def _imprint(trainer: _Trainer, training: Dataset, record: Record) -> None:
    """Start each prototype at the mean of its class's embeddings (Qi et al. 2018).

    Untrained convolutions tell characters apart already; from random prototypes the training
    would first unlearn that. Classes that are not met keep their random start.
    """
    settings, how = record.settings, PRESETS[record.settings.augment]
    images = min(len(training.labels), _IMPRINTED * record.classes)
    untouched = trainer.state()
    embed = tf.function(lambda batch: tf.math.l2_normalize(trainer.encoder(batch, training=True), -1))
    sums = np.zeros((record.classes, settings.embedding), np.float32)
    with closing(batches(training, record.input, how, size=settings.batch, seed=settings.seed, first=0)) as source:
        for _ in range(max(images // settings.batch, 1)):
            pixels, classes = next(source)
            np.add.at(sums, classes, embed(tf.constant(pixels)).numpy())
    trainer.restore(untouched)  # the passes moved the averages of batch normalisation
    prototypes = trainer.prototypes.numpy()
    lengths = np.linalg.norm(sums, axis=1)
    met = lengths > 0.0
    prototypes[:, met] = (sums[met] / lengths[met, None]).T * np.linalg.norm(prototypes, axis=0).mean()
    trainer.prototypes.assign(prototypes)


def _faster_compiler(trainer: _Trainer, training: Dataset, record: Record) -> Compiler:
    """Which way runs the step faster here: it depends on processor and net by a factor of two.

    Not tried for short trainings, where compiling twice would cost more than it brings.
    """
    settings = record.settings
    if settings.images is not None or (settings.minutes or 0.0) * 60.0 < _TRIAL_WORTH_SECONDS:
        return "graph"
    before = trainer.state()
    how = PRESETS[settings.augment]
    with closing(batches(training, record.input, how, size=settings.batch, seed=settings.seed, first=0)) as source:
        batch = _tensors(next(source))
    times: dict[Compiler, float] = {}
    for compiler in ("graph", "xla"):
        step = trainer.step(compiler)
        float(step(*batch))
        began = time.monotonic()
        for _ in range(_TRIAL_STEPS):
            float(step(*batch))
        times[compiler] = time.monotonic() - began
    trainer.restore(before)
    return min(times, key=lambda compiler: times[compiler])


class _Judge:
    """Held-out images and the one-shot episodes over them, drawn once."""

    def __init__(self, held_out: Dataset, record: Record, seed: int) -> None:
        self.held_out, self.section = held_out, record.input
        self.last: float | None = None
        alphabets = held_out.drawers is not None
        sizes = [len(np.unique(held_out.labels[held_out.groups == g])) for g in range(len(held_out.group_names))]
        self.ways = min(VALIDATION_WAYS, max(sizes) if alphabets else len(held_out.identities))
        self.episodes = one_shot_episodes(
            held_out.labels,
            self.ways,
            VALIDATION_EPISODES,
            seed,
            groups=held_out.groups if alphabets else None,
            drawers=held_out.drawers,
        )

    def accuracy(self, encoder: keras.Model) -> float:
        """One-shot accuracy of the Keras encoder, 0..1."""
        correct = one_shot(self._embeddings(encoder), self.episodes, "cosine")
        self.last = float(np.mean(correct))
        return self.last

    def similarity(self, encoder: keras.Model) -> Similarity:
        """Logistic curve over genuine and impostor cosines at equal priors (Platt 1999)."""
        pairs = genuine_and_impostor(self._embeddings(encoder), self.held_out.labels, "cosine")
        cosines = np.concatenate([pairs.genuine, pairs.impostor])[:, None]
        same = np.repeat([1, 0], [len(pairs.genuine), len(pairs.impostor)])
        fit = LogisticRegression(class_weight="balanced").fit(cosines, same)
        return Similarity(slope=float(fit.coef_[0, 0]), offset=float(fit.intercept_[0]))

    def _embeddings(self, encoder: keras.Model) -> npt.NDArray[np.float32]:
        raw = embed_all(encoder, self.held_out.images, self.section)
        lengths = np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-12)
        return (raw / lengths).astype(np.float32)


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

"""The encoder in training: its variables, the step that moves them, and where they begin."""

import time
from collections.abc import Callable
from contextlib import closing
from typing import Literal

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edge_oneshot.data.dataset import Dataset
from edge_oneshot.training.augmentation import PRESETS
from edge_oneshot.training.batches import Batch, batches
from edge_oneshot.training.encoders import build_encoder
from edge_oneshot.training.objectives import cosine_softmax
from edge_oneshot.training.runs import Record

_WEIGHT_DECAY = 1e-4
_IMPRINTED = 5  # images a class that its prototype begins with
_TRIAL_STEPS = 6
_TRIAL_WORTH_SECONDS = 120.0

Compiler = Literal["graph", "xla"]
Step = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Trainer:
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
            gradients = tape.gradient(loss, [variable.value for variable in self.trained])
            self.optimizer.apply_gradients(zip(gradients, self.trained, strict=True))
            return loss

        return step  # type: ignore[no-any-return]

    def state(self) -> list[npt.NDArray[np.generic]]:
        """Every variable's value, the optimizer's included, in a fixed order."""
        return [keras.ops.convert_to_numpy(variable) for variable in self._variables()]

    def restore(self, state: list[npt.NDArray[np.generic]]) -> None:
        """Put back what `state` gave.

        Raises:
            ValueError: It is the state of another net.
        """
        for variable, value in zip(self._variables(), state, strict=True):
            variable.assign(value)

    def _variables(self) -> list[keras.Variable]:
        return [*self.encoder.weights, self.prototypes, *self.optimizer.variables]


def imprint(trainer: Trainer, training: Dataset, record: Record) -> None:
    """Start each prototype at the mean of its class's embeddings (Qi et al. 2018).

    Untrained convolutions tell characters apart already; from random prototypes the training
    would first unlearn that. Classes that are not met keep their random start. The same passes
    give batch normalisation its averages, which a short training would not come to by itself.
    """
    settings, how = record.settings, PRESETS[record.settings.augment]
    images = min(len(training.labels), _IMPRINTED * record.classes)
    embed = tf.function(lambda batch: tf.math.l2_normalize(trainer.encoder(batch, training=True), -1))
    sums = np.zeros((record.classes, settings.embedding), np.float32)
    with closing(batches(training, record.input, how, size=settings.batch, seed=settings.seed, first=0)) as source:
        for _ in range(max(images // settings.batch, 1)):
            pixels, classes = next(source)
            np.add.at(sums, classes, embed(tf.constant(pixels)).numpy())
    prototypes = trainer.prototypes.numpy()
    lengths = np.linalg.norm(sums, axis=1)
    met = lengths > 0.0
    prototypes[:, met] = (sums[met] / lengths[met, None]).T * np.linalg.norm(prototypes, axis=0).mean()
    trainer.prototypes.assign(prototypes)


def faster_compiler(trainer: Trainer, training: Dataset, record: Record) -> Compiler:
    """Which way runs the step faster here: it depends on processor and net by a factor of two.

    Not tried for short trainings, where compiling twice would cost more than it brings.
    """
    settings = record.settings
    if settings.images is not None or (settings.minutes or 0.0) * 60.0 < _TRIAL_WORTH_SECONDS:
        return "graph"
    before = trainer.state()
    how = PRESETS[settings.augment]
    with closing(batches(training, record.input, how, size=settings.batch, seed=settings.seed, first=0)) as source:
        batch = tensors(next(source))
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


def tensors(batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
    """A batch as the step takes it."""
    return tf.constant(batch[0]), tf.constant(batch[1])

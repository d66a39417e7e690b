"""The encoder in training: its variables, their initial values, and the step that updates them."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Literal

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edge_oneshot.training.batches import Batch, Source, batches
from edge_oneshot.training.nets import beside_turned
from edge_oneshot.training.objectives import OBJECTIVES
from edge_oneshot.training.runs import RunRecord
from edge_oneshot.training.strategies import Devices
from edge_oneshot.training.trainable import encoder_of

WEIGHT_DECAY = 0.05
_IMPRINTED = 5  # images per class whose mean is its first prototype
_TRIAL_STEPS = 6
_TRIAL_WORTH_SECONDS = 120.0

Compiler = Literal["graph", "xla"]
Step = Callable[[Batch], float]


class Trainer:
    """Encoder, head and optimizer, and the step that updates them, on one device or on several.

    Args:
        record: Of the run.
        devices: The devices that share each step.
    """

    def __init__(self, record: RunRecord, devices: Devices) -> None:
        settings = record.settings
        self.devices = devices
        self.objective = OBJECTIVES[settings.objective]
        self.trainable = encoder_of(record)
        keras.utils.set_random_seed(settings.seed)
        self._view = self.trainable.build()
        self._encoder = beside_turned(self._view) if settings.views == 2 else self._view
        head = self.objective.head(settings.embedding, record.classes, np.random.default_rng((settings.seed, 2)))
        with devices.strategy.scope():
            self.trainee = self.trainable.build_trainee()
            self.trainee.set_weights(self._view.get_weights())
            self.head = [keras.Variable(first, name=f"head{number}") for number, first in enumerate(head)]
            self.optimizer = keras.optimizers.AdamW(weight_decay=WEIGHT_DECAY)
            self.optimizer.exclude_from_weight_decay(var_names=["gamma", "beta"])
            self.trained = [*self.trainee.trainable_variables, *self.head]
            self.optimizer.build(self.trained)

    @property
    def encoder(self) -> keras.Model:
        """The encoder with its current weights, in float32 from stock layers: for validation, saving and export."""
        self._view.set_weights(self.trainee.get_weights())
        return self._encoder

    def embed(self, images: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Embeddings of a view: float32 (n, h, w, c) to float32 (n, embedding).

        Args:
            images: Scaled for the encoder.
            training: Whether batch normalisation uses the batch's statistics.
        """
        return tf.cast(self.trainee(images, training=training), tf.float32)

    def step(self, compiler: Compiler) -> Step:
        """The compiled training step: from this process's part of a batch to the mean loss over the whole batch."""
        replicas, strategy = self.devices.replicas, self.devices.strategy

        def update(images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                head = [variable.value for variable in self.head]
                loss = self.objective.loss(self.embed(images, training=True), head, classes) / replicas
            gradients = tape.gradient(loss, [variable.value for variable in self.trained])
            self.optimizer.apply_gradients(zip(gradients, self.trained, strict=True))
            return loss

        @tf.function(jit_compile=compiler == "xla")  # type: ignore[untyped-decorator]
        def compiled(images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
            if replicas == 1:
                return update(images, classes)
            return strategy.reduce("SUM", strategy.run(update, args=(images, classes)), axis=None)

        return lambda batch: float(compiled(*self._placed(batch)))

    def _placed(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """This process's part of a batch, divided equally among its devices."""
        if self.devices.replicas == 1:
            return tf.constant(batch[0]), tf.constant(batch[1])
        local = self.devices.replicas // self.devices.workers
        images, classes = (np.split(values, local) for values in batch)
        place = self.devices.strategy.experimental_distribute_values_from_function
        return (
            place(lambda context: tf.constant(images[context.replica_id_in_sync_group % local])),
            place(lambda context: tf.constant(classes[context.replica_id_in_sync_group % local])),
        )

    def state(self) -> list[npt.NDArray[np.generic]]:
        """Every variable's value, the optimizer's included, in a fixed order."""
        return [keras.ops.convert_to_numpy(variable) for variable in self._variables()]

    def restore(self, state: list[npt.NDArray[np.generic]]) -> None:
        """Set every variable to what `state` gave.

        Raises:
            ValueError: It is the state of another net.
        """
        for variable, value in zip(self._variables(), state, strict=True):
            variable.assign(value)

    def _variables(self) -> list[keras.Variable]:
        return [*self.trainee.weights, *self.head, *self.optimizer.variables]


def imprint(trainer: Trainer, source: Source, *, trained: bool) -> None:
    """Set each prototype of a cosine softmax to the mean of its class's embeddings (Qi et al. 2018).

    Untrained convolutions separate characters already, and random prototypes would undo that first. Classes of which
    no image comes keep their random prototype. The same passes give batch normalisation its averages, which a short
    training would not reach. They take one epoch at most, unless the encoder is trained and worth meeting every class.

    Args:
        trainer: Its head is changed in place.
        source: Of the run.
        trained: The encoder starts from trained weights.
    """
    prototypes = trainer.head[0].numpy()
    images = _IMPRINTED * source.classes
    if not trained:
        images = min(images, len(source.data.labels))
    embed = tf.function(lambda batch: tf.math.l2_normalize(trainer.embed(batch, training=True), -1))
    sums = np.zeros(prototypes.T.shape, np.float32)
    whole = replace(source, part=(0, 1))
    with closing(batches(whole, first=0)) as stream:
        for _ in range(max(images // source.size, 1)):
            pixels, classes = next(stream)
            np.add.at(sums, classes, embed(tf.constant(pixels)).numpy())
    lengths = np.linalg.norm(sums, axis=1)
    met = lengths > 0.0
    prototypes[:, met] = (sums[met] / lengths[met, None]).T * np.linalg.norm(prototypes, axis=0).mean()
    trainer.head[0].assign(prototypes)


def compile_step(trainer: Trainer, step: Step, source: Source) -> None:
    """Take a step and undo it, so that the compilation at the first call is not counted as training time.

    Args:
        trainer: Of the run; its state stays the same.
        step: From `Trainer.step`.
        source: Of the run.
    """
    before = trainer.state()
    step(source.batch(0))
    trainer.restore(before)


def faster_compiler(trainer: Trainer, source: Source, minutes: float | None) -> Compiler:
    """The compiler that runs the step faster here; processor and net change the ratio by a factor of two.

    Short trainings, for which compiling twice would cost more than it saves, take the graph; so do trainings by
    images, because they repeat exactly.

    Args:
        trainer: Of the run; its state stays the same.
        source: Of the run.
        minutes: Length of the training, or None where it is given in images.
    """
    if (minutes or 0.0) * 60.0 < _TRIAL_WORTH_SECONDS:
        return "graph"
    before = trainer.state()
    batch = source.batch(0)
    times: dict[Compiler, float] = {}
    for compiler in ("graph", "xla"):
        step = trainer.step(compiler)
        step(batch)
        began = time.monotonic()
        for _ in range(_TRIAL_STEPS):
            step(batch)
        times[compiler] = time.monotonic() - began
    trainer.restore(before)
    return min(times, key=lambda compiler: times[compiler])

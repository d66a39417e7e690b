"""Warm start: a training begins with the encoder of another run instead of random weights."""

import keras
import numpy as np

from edge_oneshot.errors import TrainingError
from edge_oneshot.training.batches import Source
from edge_oneshot.training.nets import first_view, projection
from edge_oneshot.training.runs import Run, RunRecord
from edge_oneshot.training.trainer import Trainer

_BATCHES = 32  # whose statistics set the last normalisation


def warm_start(trainer: Trainer, start: Run, record: RunRecord, source: Source) -> None:
    """Copy the weights of a run's encoder, so that the first step sees the same embeddings.

    Whitening left the identity in the last normalisation. In training that layer normalises by the batch, so
    its scale and shift are set to what keeps the embeddings the same.

    Args:
        trainer: Of the new run; its trainee is changed in place.
        start: The run to start from.
        record: Of the new run.
        source: Of the new run.

    Raises:
        TrainingError: Reason ``held_out_seen``: it was trained on groups that the new run holds out; ``other_net``:
            it has another input, net or embedding.
    """
    if seen := set(start.record.trained_on) & set(record.held_out):
        message = f"{start.path}: was trained on {min(seen)}, which is held out here; start from another run"
        raise TrainingError(message, reason="held_out_seen")
    trainee = trainer.trainee
    try:
        if start.record.input != record.input:
            raise ValueError
        trainee.set_weights(first_view(start.encoder()).get_weights())
    except ValueError:
        message = f"{start.path}: has another size, framing, net or embedding; give those of its run.json"
        raise TrainingError(message, reason="other_net") from None
    last = projection(trainee)
    normalisation = last.normalisation
    before = keras.Model(trainee.inputs, last.dense.output)
    rows = np.concatenate(
        [keras.ops.convert_to_numpy(before([source.batch(step)[0]])).astype(np.float32) for step in range(_BATCHES)]
    )
    gamma, beta, mean, variance = normalisation.get_weights()
    gain = gamma / np.sqrt(variance + normalisation.epsilon)
    arriving, spread = rows.mean(axis=0), rows.var(axis=0)
    scale, shift = gain * np.sqrt(spread + normalisation.epsilon), beta + gain * (arriving - mean)
    normalisation.set_weights([scale, shift, arriving, spread])

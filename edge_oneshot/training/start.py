"""A training that begins with the encoder of another run in place of a random one."""

import keras
import numpy as np

from edge_oneshot.errors import TrainingError
from edge_oneshot.training.batches import Source
from edge_oneshot.training.encoders import first_view
from edge_oneshot.training.runs import Record, Run
from edge_oneshot.training.trainer import Trainer

_BATCHES = 32  # that the last normalisation is set by


def begin_with(trainer: Trainer, start: Run, record: Record, source: Source) -> None:
    """Take over the weights of a run's encoder.

    Its whitening left a last normalisation that changes nothing. In training, that layer
    normalises by the batch: its scale and shift are set so that the embeddings stay what they are.

    Args:
        trainer: Of the new run; its trainee is changed in place.
        start: The run to begin with.
        record: Of the new run.
        source: Of the new run.

    Raises:
        TrainingError: It saw what the new run holds out, or has another input, net or embedding.
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
    normalisation = trainee.layers[-1]
    before = keras.Model(trainee.inputs, trainee.layers[-2].output)
    rows = np.concatenate(
        [keras.ops.convert_to_numpy(before([source.batch(step)[0]])).astype(np.float32) for step in range(_BATCHES)]
    )
    gamma, beta, mean, variance = normalisation.get_weights()
    gain = gamma / np.sqrt(variance + normalisation.epsilon)
    arriving, spread = rows.mean(axis=0), rows.var(axis=0)
    scale, shift = gain * np.sqrt(spread + normalisation.epsilon), beta + gain * (arriving - mean)
    normalisation.set_weights([scale, shift, arriving, spread])

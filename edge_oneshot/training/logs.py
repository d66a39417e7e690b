"""Logs for TensorBoard with the figures of each checkpoint, where the user asks for them."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import tensorflow as tf

from edge_oneshot.errors import TrainingError
from edge_oneshot.training.runs import HistoryEntry

Log = Callable[[HistoryEntry], None]

INSTALL: Final = 'pip install "tensorboard>=2.20,<3"'
"""The requirement of the extra ``tensorboard`` in pyproject.toml."""


def open_log(run: Path) -> Log:
    """A log in the folder ``tensorboard`` of a run; ``tensorboard --logdir RUN`` shows it.

    Raises:
        TrainingError: TensorBoard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        message = f"logs need the package tensorboard: {INSTALL}, or leave out --tensorboard"
        raise TrainingError(message, reason="no_tensorboard")
    writer = tf.summary.create_file_writer(os.fsencode(run / "tensorboard"))

    def log(entry: HistoryEntry) -> None:
        with writer.as_default(step=entry.images):
            for name in ("loss", "accuracy", "images_per_second", "seconds"):
                tf.summary.scalar(name, getattr(entry, name))
        writer.flush()

    return log


def no_log(_entry: HistoryEntry) -> None:
    """Keep no log."""

"""One-shot recognition on the workstation: train a siamese encoder, export it, judge what ships."""

import importlib
from importlib import metadata
from typing import TYPE_CHECKING

from edge_oneshot.errors import TrainingError

if TYPE_CHECKING:
    from edge_oneshot.data.datasets import load_data
    from edge_oneshot.training.encoders import build_encoder
    from edge_oneshot.training.loop import train
    from edge_oneshot.training.runs import Run

__all__ = ["Run", "TrainingError", "build_encoder", "load_data", "train"]
__version__ = metadata.version("edge-oneshot")

_HOMES = {
    "Run": "training.runs",
    "build_encoder": "training.encoders",
    "load_data": "data.datasets",
    "train": "training.loop",
}


def __getattr__(name: str) -> object:
    # TensorFlow takes seconds to import; --help must not wait for it
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

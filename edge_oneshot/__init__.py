"""One-shot recognition on the workstation: train a siamese encoder, export it, judge what ships."""

import importlib
from importlib import metadata
from typing import TYPE_CHECKING

from edge_oneshot.errors import TrainingError

if TYPE_CHECKING:
    from edge_oneshot.datasets import load_data
    from edge_oneshot.encoders import build_encoder
    from edge_oneshot.runs import Run
    from edge_oneshot.training import train

__all__ = ["Run", "TrainingError", "build_encoder", "load_data", "train"]
__version__ = metadata.version("edge-oneshot")

_HOMES = {"Run": "runs", "build_encoder": "encoders", "load_data": "datasets", "train": "training"}


def __getattr__(name: str) -> object:
    # TensorFlow takes seconds to import; --help must not wait for it
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

"""One-shot recognition on the workstation: train a siamese encoder, export it, evaluate the bundle."""

from importlib import metadata
from typing import TYPE_CHECKING

from edge_oneshot.errors import TrainingError
from edge_oneshot_device.lazy import attribute_of

if TYPE_CHECKING:
    from edge_oneshot.data.loading import load_data
    from edge_oneshot.training.nets import build_encoder
    from edge_oneshot.training.options import TrainOptions
    from edge_oneshot.training.runs import Run
    from edge_oneshot.training.train import train

__all__ = ["Run", "TrainOptions", "TrainingError", "build_encoder", "load_data", "train"]
__version__ = metadata.version("edge-oneshot")

__getattr__ = attribute_of(
    __name__,
    {
        "Run": "training.runs",
        "TrainOptions": "training.options",
        "build_encoder": "training.nets",
        "load_data": "data.loading",
        "train": "training.train",
    },
)

"""The trained encoders that come with the package: runs without their checkpoints."""

from importlib import resources
from pathlib import Path
from typing import Literal

from edge_oneshot.training.runs import Run

Pretrained = Literal["base", "tiny"]


def pretrained_run(name: Pretrained) -> Run:
    """A shipped run, which is exported like any other; weights/README.md says how it was made.

    Raises:
        TrainingError: Reason ``no_run``: the package does not contain it.
    """
    return Run.open(Path(str(resources.files("edge_oneshot"))) / "weights" / name)

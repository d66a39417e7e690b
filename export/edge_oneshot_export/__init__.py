"""From a Keras encoder to a bundle: convert, measure drift, calibrate, judge."""

import importlib
from typing import TYPE_CHECKING

from edge_oneshot_export.errors import ExportError

if TYPE_CHECKING:
    from edge_oneshot_export.calibration import calibrate
    from edge_oneshot_export.evaluation import evaluate_episodes, evaluate_runs, evaluate_verification
    from edge_oneshot_export.exporting import ExportReport, export
    from edge_oneshot_export.protocols import LabelledImages

__all__ = [
    "ExportError",
    "ExportReport",
    "LabelledImages",
    "calibrate",
    "evaluate_episodes",
    "evaluate_runs",
    "evaluate_verification",
    "export",
]

_HOMES = {
    "ExportReport": "exporting",
    "LabelledImages": "protocols",
    "calibrate": "calibration",
    "evaluate_episodes": "evaluation",
    "evaluate_runs": "evaluation",
    "evaluate_verification": "evaluation",
    "export": "exporting",
}


def __getattr__(name: str) -> object:
    # numpy and Pillow are imported by what uses them, so that --help stays quick.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value

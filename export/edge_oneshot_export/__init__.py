"""From a Keras encoder to a bundle: convert, measure drift, calibrate, judge."""

from typing import TYPE_CHECKING

from edge_oneshot_device.lazy import attribute_of
from edge_oneshot_export.errors import ExportError

if TYPE_CHECKING:
    from edge_oneshot_export.assembling import ExportReport
    from edge_oneshot_export.exporting import export
    from edge_oneshot_export.judging.calibration import calibrate
    from edge_oneshot_export.judging.evaluation import evaluate_episodes, evaluate_runs, evaluate_verification
    from edge_oneshot_export.judging.protocols import LabelledImages

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

__getattr__ = attribute_of(
    __name__,
    {
        "ExportReport": "assembling",
        "LabelledImages": "judging.protocols",
        "calibrate": "judging.calibration",
        "evaluate_episodes": "judging.evaluation",
        "evaluate_runs": "judging.evaluation",
        "evaluate_verification": "judging.evaluation",
        "export": "exporting",
    },
)

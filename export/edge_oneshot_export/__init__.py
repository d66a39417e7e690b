"""Export an encoder as a bundle: convert it, measure drift, calibrate, evaluate, pack."""

from typing import TYPE_CHECKING

from edge_oneshot_device.lazy import attribute_of
from edge_oneshot_export.errors import ExportError

if TYPE_CHECKING:
    from edge_oneshot_export.judging.calibration import CalibrationSettings, calibrate
    from edge_oneshot_export.judging.evaluation import evaluate_episodes, evaluate_runs, evaluate_verification
    from edge_oneshot_export.judging.protocols import LabelledImages
    from edge_oneshot_export.keras_export import export
    from edge_oneshot_export.options import ExportOptions
    from edge_oneshot_export.packing.packer import BundleSpec, ExportReport

__all__ = [
    "BundleSpec",
    "CalibrationSettings",
    "ExportError",
    "ExportOptions",
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
        "BundleSpec": "packing.packer",
        "CalibrationSettings": "judging.calibration",
        "ExportOptions": "options",
        "ExportReport": "packing.packer",
        "LabelledImages": "judging.protocols",
        "calibrate": "judging.calibration",
        "evaluate_episodes": "judging.evaluation",
        "evaluate_runs": "judging.evaluation",
        "evaluate_verification": "judging.evaluation",
        "export": "keras_export",
    },
)

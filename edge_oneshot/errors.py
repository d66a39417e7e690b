"""Errors of the workstation package."""

from edge_oneshot_device.errors import OneShotError


class TrainingError(OneShotError):
    """Root of the errors of `edge_oneshot`: a run or its data cannot be used."""

    exit_code = 2


class StoppedError(TrainingError):
    """Training was stopped by Ctrl-C, after a checkpoint."""

    exit_code = 130


class DataError(TrainingError, ValueError):
    """A data set is missing, damaged, or too small."""


class DeployError(OneShotError):
    """The archive for a device cannot be built, or the device not be reached; the device is unchanged."""

    exit_code = 4

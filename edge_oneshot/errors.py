"""Errors of the workstation package."""

from edge_oneshot_device.errors import OneShotError


class TrainingError(OneShotError):
    """Root of the errors of `edge_oneshot`: a run or its data cannot be used."""

    exit_code = 2


class StoppedError(TrainingError):
    """Training was stopped by Ctrl-C; what it had learned is kept."""

    exit_code = 130


class DataError(TrainingError, ValueError):
    """A data set is missing, broken, or too small for what was asked."""


class DeployError(OneShotError):
    """A device cannot be provided for, or not be reached; what it runs is as it was."""

    exit_code = 4

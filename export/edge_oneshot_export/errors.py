"""Errors of the export package."""

from edge_oneshot_device.errors import OneShotError


class ExportError(OneShotError):
    """A bundle was not written because a variant failed its conversion or a gate."""

    exit_code = 1


class ModelError(ExportError, ValueError):
    """A model, its images or an argument cannot be exported or evaluated."""

    exit_code = 2

"""Errors of the export package."""

from edge_oneshot_device.errors import OneShotError


class ExportError(OneShotError):
    """A bundle was not written: a variant failed its gate or its conversion."""

    exit_code = 1


class ModelError(ExportError, ValueError):
    """A model, its images or the arguments cannot be exported or judged."""

    exit_code = 2

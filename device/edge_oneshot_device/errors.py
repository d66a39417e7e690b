"""Errors of the device package, and the root that all three packages share.

An error carries one line for a person, a stable `reason` code for a machine, and the exit
code its command ends with: 1 rejected or unknown, 2 wrong use or bad input, 3 refused for
integrity or security, 4 the machine failed or a bug.
"""

from typing import ClassVar


class OneShotError(Exception):
    """Root of every error that Edge One-Shot raises on purpose.

    Args:
        message: One line: what is wrong, with what, and what to do.
        reason: A stable code such as ``not_an_image``.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class DeviceError(OneShotError):
    """Root of the errors of `edge_oneshot_device`."""


class InputError(DeviceError, ValueError):
    """Wrong use or bad input: an image without content, a person not enrolled."""

    exit_code = 2


class IntegrityError(DeviceError, ValueError):
    """Refused for integrity or security: an altered bundle, a foreign fingerprint."""

    exit_code = 3


class MachineError(DeviceError, RuntimeError):
    """The machine failed: disk, runtime. Nothing was changed."""

    exit_code = 4

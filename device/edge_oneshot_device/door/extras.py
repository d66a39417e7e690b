"""The packages that a door needs besides those of every device: extras, imported where they are used."""

from edge_oneshot_device.errors import MachineError


def extra_missing(extra: str) -> MachineError:
    """The error where a package of an extra is not installed.

    Args:
        extra: Its name.
    """
    message = f"a package is missing that this needs: pip install 'edge-oneshot-device[{extra}]'"
    return MachineError(message, reason="extra_missing")

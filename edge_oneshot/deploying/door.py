"""What a device needs to run a door's loop: packages and groups, as its configuration tells."""

from dataclasses import dataclass
from pathlib import Path

from edge_oneshot_device.bundle.manifest import Manifest
from edge_oneshot_device.diagnostics.doctor import require_faces
from edge_oneshot_device.diagnostics.door_check import door_extras
from edge_oneshot_device.door.config_file import read_config


@dataclass(frozen=True, slots=True)
class DoorNeeds:
    """What a door's loop needs on the device.

    Attributes:
        content: The configuration.
        extras: Extras of the device package.
        groups: Groups of its user, for the devices that it opens.
        system_packages: Whether its environment has to see the system's packages, as picamera2 is one of them.
    """

    content: bytes
    extras: tuple[str, ...]
    groups: tuple[str, ...]
    system_packages: bool


def door_needs(file: Path, manifest: Manifest) -> DoorNeeds:
    """Read a door's configuration and say what it needs.

    Args:
        file: The configuration.
        manifest: The bundle's.

    Raises:
        InputError: The configuration is refused, see `read_config`; or reason ``no_faces``: the bundle finds none.
        MachineError: It cannot be read.
    """
    config = read_config(file)
    require_faces(manifest)
    extras = door_extras(config)
    groups = {
        "video": not config.camera.source.startswith("rtsp"),
        "gpio": "gpio" in extras,
        "input": bool(config.pin.keypad),
        "audio": bool(config.second_factor.prompt_command) or "audio" in extras,
    }
    wanted = tuple(group for group, is_wanted in groups.items() if is_wanted)
    return DoorNeeds(file.read_bytes(), extras, wanted, config.camera.source == "picamera")

"""The options of `deploy`."""

from pathlib import Path
from typing import Annotated, Literal

from edge_oneshot_device.installation.options import DoorOptions
from edge_oneshot_device.options import option


class DeployOptions(DoorOptions, frozen=True, kw_only=True):
    """What device the archive is for, and how that device is to use the bundle."""

    machine: Annotated[Literal["aarch64", "x86_64"], option("machine of the device, as uname -m prints it")] = "aarch64"
    python: Annotated[
        Literal["3.11", "3.12", "3.13", "3.14"],
        option(
            "Python of the device, as python3 -V prints it; today's Raspberry Pi OS has 3.13, and the one"
            " before it 3.11"
        ),
    ] = "3.13"
    door: Annotated[
        Path | None,
        option(
            "install the loop as a service that runs with this configuration of a door, and the packages that it needs"
            " (none: install the commands alone)",
            metavar="FILE",
        ),
    ] = None

"""Options of the commands of the door."""

from pathlib import Path
from typing import Annotated

from edge_oneshot_device.options import Options, option


class DoorOptions(Options, frozen=True, kw_only=True):
    """Options of `door`."""

    config: Annotated[Path, option("the door's configuration, see door init", metavar="FILE")]


class RunOptions(Options, frozen=True, kw_only=True):
    """Options of `run`."""

    config: Annotated[
        Path | None, option("the door's configuration, see door init", metavar="FILE", exclusive="door")
    ] = None
    demo: Annotated[
        bool, option("show a door at work, without camera, bundle or lock; needs the workstation", exclusive="door")
    ] = False
    show: Annotated[bool, option("show camera, state and decisions on the terminal")] = False

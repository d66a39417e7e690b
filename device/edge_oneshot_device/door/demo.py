"""The demo of a door, which begins on the workstation: a device has neither nets for faces nor portraits.

The workstation's program makes a bundle, enrols one person, composes a scene, and starts `run` on that.
"""

import shutil
import sys
from pathlib import Path
from typing import Final

from edge_oneshot_device.errors import MachineError

PROGRAM: Final = "edge-oneshot"


def demo_command(*, as_json: bool) -> list[str]:
    """The command that shows a door at work without a camera, a bundle or a lock.

    Args:
        as_json: Print lines of JSON instead of a screen.

    Raises:
        MachineError: Reason ``extra_missing``: the workstation's program is not installed here.
    """
    beside = Path(sys.executable).parent
    program = shutil.which(PROGRAM, path=beside) or shutil.which(PROGRAM)
    if program is None:
        message = f"the demo needs the workstation's program {PROGRAM}, which is not installed here; run it there"
        raise MachineError(message, reason="extra_missing")
    return [program, "demo", "--door", *(["--json"] if as_json else [])]

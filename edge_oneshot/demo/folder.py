"""The folders that demos make, and may replace."""

from pathlib import Path
from typing import Final

from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.state.bundle_files import remove_bundles
from edge_oneshot_device.state_names import GALLERY, RESERVE

MARKER: Final = ".edge-oneshot-demo"
"""The file by which a demo knows a folder that a demo made."""


def clear_state(state: Path, key: Path) -> None:
    """Remove the state and the key that an earlier session left, and nothing else.

    Args:
        state: The state folder.
        key: The file of the gallery's key.

    Raises:
        MachineError: It cannot be removed.
    """
    names = (GALLERY, f"{GALLERY}-journal", RESERVE)
    try:
        for path in [key, *(state / name for name in names)]:
            path.unlink(missing_ok=True)
        if state.is_dir():
            remove_bundles(state, keep=())
    except OSError as error:
        raise MachineError(f"cannot clear {state}: {error.strerror}", reason="cannot_write") from error

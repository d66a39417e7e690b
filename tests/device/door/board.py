"""A board whose pins lie in a folder: a pin factory of gpiozero that other processes can watch and drive.

The factory is gpiozero's own mock, made known to the guard's process by an entry point on its path. Each change of an
output is a line of the file ``outputs``; an input is low while a file ``NUMBER.low`` is there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

FACTORY: Final = """
import os
import time
from pathlib import Path
from gpiozero.pins.mock import MockFactory, MockPin

FOLDER = Path(__file__).parent

class FolderPin(MockPin):
    def _change_state(self, value):
        changed = super()._change_state(value)
        if self.function == "output":
            with (FOLDER / "outputs").open("a") as file:
                file.write(f"{self.info.name} {int(value)} {os.getpid()} {time.monotonic()}\\n")
        return changed

    def _get_state(self):
        if self.function == "input":
            return not (FOLDER / f"{self.info.name}.low").exists()
        return super()._get_state()

class FolderFactory(MockFactory):
    def __init__(self):
        super().__init__(pin_class=FolderPin)
"""


class Change(NamedTuple):
    """A level that an output was set to.

    Attributes:
        at: When, by `time.monotonic` of the process that set it.
        level: 0 or 1.
        process: Which process.
    """

    at: float
    level: int
    process: int


class Board:
    """A board in a folder.

    Args:
        folder: An empty one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "folder_pins.py").write_text(FACTORY)
        info = folder / "folder_pins-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: folder-pins\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[gpiozero_pin_factories]\nfolder = folder_pins:FolderFactory\n")

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The environment of a process that uses this board."""
        path = f"{self._folder}:{environment.get('PYTHONPATH', '')}"
        return {**environment, "PYTHONPATH": path, "GPIOZERO_PIN_FACTORY": "folder"}

    def levels(self, pin: int) -> list[int]:
        """The levels that an output was set to, one after the other, by whichever process."""
        return [change.level for change in self.changes(pin)]

    def processes(self, pin: int) -> set[int]:
        """The processes that have set an output."""
        return {change.process for change in self.changes(pin)}

    def changes(self, pin: int) -> list[Change]:
        """What an output was set to, one after the other."""
        outputs = self._folder / "outputs"
        lines = outputs.read_text().splitlines(keepends=True) if outputs.exists() else []
        words = [line.split() for line in lines if line.endswith("\n")]
        return [Change(float(at), int(level), int(own)) for name, level, own, at in words if name == f"GPIO{pin}"]

    def close(self, pin: int, *, closed: bool = True) -> None:
        """Close a contact to ground, or open it."""
        low = self._folder / f"GPIO{pin}.low"
        low.touch() if closed else low.unlink()

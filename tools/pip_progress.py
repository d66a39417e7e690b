"""Run pip in this environment and print a line every few seconds: how far it is, and with what.

    .venv/bin/python tools/pip_progress.py install --require-hashes -r requirements.txt

pip itself prints hundreds of lines, or none with --quiet while it fetches and unpacks gigabytes. What it says on stderr
and its exit code are passed on.
"""

import os
import re
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterable
from pathlib import Path


class Progress:
    """How far pip is, by what it printed."""

    def __init__(self, requirements: Path) -> None:
        self._total = len(re.findall(r"^[\w.-]+(?:\[.*?\])?==", requirements.read_text(), re.MULTILINE))
        self._site = Path(sysconfig.get_path("purelib"))
        self._before = self._installed()
        self._fetched = 0
        self._package = "the first package"
        self._installing = False

    def read(self, lines: Iterable[str]) -> None:
        """Follow pip's output to its end."""
        for line in lines:
            if line.startswith("Ignoring "):  # its marker is for another Python or system
                self._total -= 1
            elif found := re.match(r"Collecting ([^\s=]+)==(\S+)", line):
                self._fetched += 1
                self._package = f"{found[1]} {found[2]}"
            elif found := re.match(r"\s+Downloading \S+ (\([\d.]+ [MG]B\))", line):
                self._package += f" {found[1]}"
            elif line.startswith("Installing collected packages"):
                self._installing = True

    def line(self) -> str:
        """One line for the user."""
        if self._installing:
            return f"installing: {self._installed() - self._before} of {self._total} packages"
        return f"fetching: {self._fetched} of {self._total} packages, {self._package}"

    def _installed(self) -> int:
        return len(list(self._site.glob("*.dist-info")))


def run(arguments: list[str], every: float = 5.0) -> int:
    """Run pip, and print a line now and then until it ends.

    Args:
        arguments: Of pip; the last one is the requirements file.
        every: Seconds from a line to the next.

    Returns:
        pip's exit code.
    """
    progress, start = Progress(Path(arguments[-1])), time.monotonic()
    command = [sys.executable, "-m", "pip", *arguments, "--progress-bar", "off"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as pip:  # noqa: S603 (pip itself)
        assert pip.stdout is not None
        reader = threading.Thread(target=progress.read, args=[pip.stdout], daemon=True)
        reader.start()
        while reader.join(every) or reader.is_alive():
            minutes, seconds = divmod(round(time.monotonic() - start), 60)
            print(f"  {minutes}:{seconds:02} {progress.line()}", flush=True)
    return pip.returncode


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))

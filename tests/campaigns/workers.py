"""Worker processes that answer each line with JSON; one that dies or hangs is reported and replaced."""

import json
import select
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from typing import Any, TypeVar

T = TypeVar("T")

SILENT = "silent"


class Worker:
    """A process, started when it is asked first.

    Args:
        command: Of the process.
        seconds: After which it hangs.
        folder: Where it runs; None: here.
    """

    def __init__(self, command: Sequence[str], seconds: float, folder: Path | None = None) -> None:
        self._command = command
        self._seconds = seconds
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, line: str) -> dict[str, Any] | str:
        """What it answers; else `SILENT`, or its exit code."""
        if self._process is None:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(self._command, cwd=self._folder, stdin=pipe, stdout=pipe)
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{line}\n".encode())
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], self._seconds)
        answer = process.stdout.readline() if ready else b""
        if answer:
            told: dict[str, Any] = json.loads(answer)
            return told
        self.close()
        return str(process.returncode) if ready else SILENT

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def spread(
    make: Callable[[], Worker], ask: Callable[[Worker, T], Any], over: Iterable[T], workers: int
) -> Iterator[Any]:
    """What `ask` returns for each, in order, with so many workers side by side."""
    mine = local()
    made: list[Worker] = []

    def one(what: T) -> Any:
        if not hasattr(mine, "worker"):
            mine.worker = make()
            made.append(mine.worker)
        return ask(mine.worker, what)

    try:
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(one, over)
    finally:
        for worker in made:
            worker.close()

"""Processes that change a gallery, to be killed: a server that has imported everything forks one for each request.

    python -m tests.campaigns.durability.children

A request is a line of JSON. A process acknowledges each act in a file, one line each, once the call has returned.
"""

import json
import os
import random
import select
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_oneshot_device.errors import OneShotError
from edge_oneshot_device.text import one_line
from tests import ROOT
from tests.campaigns.durability.acts import Act, perform, prepare
from tests.campaigns.durability.devices import Place

WAIT = ["wait"]
"""Among acts: go on when `Server.go` says so."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a process is to do.

    Attributes:
        place: The device's folder.
        told: The file for what it acknowledges.
        acts: Done in turn, until one fails; or `WAIT`.
        create: Make the key first, if there is none.
        waits: Begin when a line comes in on stdin.
    """

    place: str
    told: str
    acts: Sequence[Act | list[str]] = ()
    create: bool = False
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a process.

    Attributes:
        code: Its exit code, negative for a signal.
        opened: What the first row of the audit trail says, once the gallery was open.
        done: What came of each act that returned.
        error: Of the one that failed: error, reason and code, as the program tells them.
    """

    code: int
    opened: str | None = None
    done: list[Any] = field(default_factory=list)
    error: dict[str, Any] | None = None


class Server:
    """Starts processes, one at a time."""

    def __init__(self) -> None:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaigns.durability.children"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, request: Request) -> int:
        """Start a process; returns its id."""
        self._told = Path(request.told)
        self._told.unlink(missing_ok=True)
        self._say(json.dumps(asdict(request)))
        return int(self._hear())

    def go(self) -> None:
        """Let a process begin that waits."""
        self._say("")

    def finish(self) -> Outcome:
        """Wait until the process ends; what became of it."""
        code = int(self._hear())
        opened, done, error = None, [], None
        for line in self._told.read_text().splitlines() if self._told.exists() else ():
            told = json.loads(line)
            opened = told.get("opened", opened)
            error = told.get("error", error)
            if "done" in told:
                done.append(told["done"])
        return Outcome(code, opened, done, error)

    def run(self, request: Request) -> Outcome:
        """Start a process and wait for it."""
        self.start(request)
        return self.finish()

    def close(self) -> None:
        """End the server."""
        self._process.kill()
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the server of processes ended; its error is above")
        return line.decode()


def work(request: dict[str, Any]) -> None:
    """Do what was asked for."""
    told = os.open(request["told"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def tell(**what: Any) -> None:
        os.writev(told, [json.dumps(what).encode() + b"\n"])  # by a call that nothing else makes

    place = Place(Path(request["place"]))
    os.write(sys.stdout.fileno(), f"{os.getpid()}\n".encode())  # from here on it may be traced
    if request["waits"]:
        _wait()
    try:
        if request["create"]:
            place.create()
        with place.open() as gallery:
            tell(opened=next(gallery.rows()).detail)
            for act in request["acts"]:
                tell(done=_wait() if act == WAIT else perform(place, gallery, tuple(act)))
    except OneShotError as error:
        tell(error={"error": str(error), "reason": error.reason, "code": error.exit_code})
    except Exception as error:
        tell(error={"error": one_line(f"{type(error).__name__}: {error}"), "reason": "raised", "code": 4})


def _wait() -> None:
    select.select([sys.stdin.fileno()], [], [])
    os.read(sys.stdin.fileno(), 1)


def main() -> None:
    """Fork a process for each request, which prints its id first; at its end its exit code is printed."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))  # whatever is imported or made at the first use
    for line in sys.stdin:
        if not line.strip():
            continue
        process = os.fork()
        if process == 0:
            random.seed()
            work(json.loads(line))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    main()

"""System calls of a process, seen and tampered with by strace."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

from tests.campaigns.durability.children import Outcome, Request, Server

_CALL = re.compile(r"(\w+)\(")


@cache
def why_not() -> str | None:
    """Why nothing can be traced on this machine; None: it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    command = ["strace", "-e", "trace=none", sys.executable, "-c", ""]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"strace: {done.stderr.strip()[:200]}"


def traced(server: Server, request: Request, log: Path, *options: str) -> Outcome:
    """What becomes of a process under strace, from its first call on.

    Args:
        server: Starts it.
        request: What it is to do.
        log: What strace is to write.
        options: Of strace.
    """
    process = server.start(replace(request, waits=True))
    command = ["strace", "-o", str(log), *options, "-p", str(process)]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert strace.stderr is not None
    said = strace.stderr.readline()
    server.go()
    outcome = server.finish()
    rest = strace.communicate()[1]
    if "attached" not in said:
        raise RuntimeError(f"strace cannot attach: {said}{rest}")
    return outcome


def calls(log: Path, of: str = "") -> list[tuple[str, int]]:
    """The calls of a trace in order: name, and the how manieth of that name it is, from 1.

    Args:
        log: The trace.
        of: Leave out the calls that do not name this path, in a trace made with ``-y``.
    """
    counts: dict[str, int] = {}
    found = []
    for line in log.read_text().splitlines():
        if match := _CALL.match(line):
            counts[match[1]] = counts.get(match[1], 0) + 1
            if of in line:
                found.append((match[1], counts[match[1]]))
    return found

"""Child processes that act as somebody: a door, a command, an attacker; each is bounded by processor time."""

import ctypes
import io
import json
import os
import resource
import signal
import sqlite3
import stat
import struct
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from edge_oneshot_device import console

USER = 64_101
"""The door's user where the campaign runs as root: a number that nobody has."""
CPU_SECONDS = 10
WALL_SECONDS = 900.0  # for one that waits for nothing: a busy machine makes others wait long
# linux/prctl.h, linux/capability.h
_KEEP_CAPABILITIES, _AMBIENT, _AMBIENT_RAISE, _READ_SEARCH, _VERSION_3 = 8, 47, 2, 2, 0x20080522
_COUNTED = frozenset({
    "open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.listdir",
    "os.scandir", "os.truncate",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """What a child answered.

    Attributes:
        value: Its answer; None where it gave none.
        fault: How it ended instead.
    """

    value: Any = None
    fault: str | None = None


class Child:
    """A forked process, which answers.

    Args:
        work: What it does, with its end of the pipe.
        user: Whom it runs as; None: as this process.
        attacks: It is the attacker, who is nobody but that user.
    """

    def __init__(self, work: Callable[[Connection], None], user: int | None = None, *, attacks: bool = False) -> None:
        self._pipe, there = Pipe()
        self.process = os.fork()
        if not self.process:
            self._pipe.close()
            _run(work, there, user, attacks=attacks)
        there.close()

    def ask(self, *request: Any) -> Told:
        """What it answers to a request."""
        with suppress(OSError):  # it ended: `hear` says how
            self._pipe.send(request)
        return self.hear()

    def hear(self, seconds: float = WALL_SECONDS) -> Told:
        """Its next answer."""
        with suppress(EOFError, OSError):
            if not self._pipe.poll(seconds):
                self.end()
                return Told(fault=f"no answer within {seconds:.0f} s")
            answer, raised = self._pipe.recv()
            return Told(answer, raised)
        return Told(fault=self._ending())

    def is_ready(self, seconds: float) -> bool:
        """Whether it answers, or ends, by then."""
        return self._pipe.poll(seconds)

    def end(self) -> None:
        """Kill it, if it still runs."""
        if self.process:
            with suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)
            self._ending()
        self._pipe.close()

    def _ending(self) -> str:
        if not self.process:
            return "it had ended"
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        self.process = 0
        if code == -signal.SIGXCPU:
            return f"hung: more than {CPU_SECONDS} s of processor time"
        return f"ended by signal {-code}" if code < 0 else f"ended with {code}"


def _run(work: Callable[[Connection], None], pipe: Connection, user: int | None, *, attacks: bool) -> None:
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
        if user is not None:
            become(user, reads=not attacks and _is_hidden(Path(sys.executable)))
        work(pipe)
    except EOFError:
        pass  # nobody asks any more
    except BaseException:
        with suppress(OSError):
            pipe.send((None, f"raised: {traceback.format_exc()[-1500:]}"))
    finally:
        os._exit(0)


def become(user: int, *, reads: bool) -> None:
    """Be another user from now on.

    Args:
        user: Who.
        reads: With the right to read everything, in what is executed too: for a program whose interpreter lies in a
            folder that nobody but root may look into.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if reads:
        libc.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    if reads:
        sets = (1 << _READ_SEARCH,) * 3  # effective, permitted, inheritable
        libc.capset(struct.pack("=Ii", _VERSION_3, 0), struct.pack("=6I", *sets, 0, 0, 0))
        if libc.prctl(_AMBIENT, _AMBIENT_RAISE, _READ_SEARCH, 0, 0):
            raise OSError(ctypes.get_errno(), "cannot keep the right to read the interpreter")


def _is_hidden(file: Path) -> bool:
    folders = file.resolve().parents
    return not all(folder.stat().st_mode & stat.S_IXOTH for folder in folders)


def once(work: Callable[[], Any], user: int | None = None, *, attacks: bool = False) -> Told:
    """What a function returns that is called in a child; arguments as of `Child`."""
    child = Child(lambda pipe: pipe.send((work(), None)), user, attacks=attacks)
    told = child.hear()
    child.end()
    return told


def told(call: Callable[[], int | None]) -> dict[str, Any]:
    """What the program would tell: code, what it printed as JSON (a list of lines), and its error."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = console.run(call, as_json=True)
    lines = err.getvalue().splitlines()
    error = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {"error": err.getvalue(), "reason": None}
    return {"code": code, "said": [json.loads(line) for line in out.getvalue().splitlines()], "error": error}


def can_become(user: int) -> str | None:
    """Why no child can run as a user; None: it can."""
    if os.geteuid() != 0:
        return "a second user takes root"
    return once(os.getuid, user).fault


class Instants:
    """Counts what a command does to files and in SQL, and calls at the n-th of these.

    Args:
        stop: Which one, from 0; None only counts.
        reached: Called then.
    """

    def __init__(self, stop: int | None = None, reached: Callable[[], None] = lambda: None) -> None:
        self.count = 0
        self._process = os.getpid()  # what the command forks has instants of its own, which do not count
        self._stop = stop
        self._reached = reached
        self._connect = sqlite3.connect
        sqlite3.connect = self._connected
        sys.addaudithook(self._heard)

    def _connected(self, *arguments: Any, **named: Any) -> sqlite3.Connection:
        connection = self._connect(*arguments, **named)
        connection.set_trace_callback(lambda _: self._next())
        return connection

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _COUNTED and not str(arguments[0]).endswith((".py", ".pyc", ".so")):
            self._next()

    def _next(self) -> None:
        if os.getpid() != self._process:
            return
        self.count += 1
        if self.count - 1 == self._stop:
            self._reached()

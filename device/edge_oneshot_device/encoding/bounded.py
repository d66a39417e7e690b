"""A function in a worker process with limits of processor time and memory, which a hostile input can only end.

The worker is forked, not started anew: most of what it needs is loaded already, so that a start takes a millisecond or
two. A supervisor process is forked early, before any key is read. It waits for the end of its worker, reports the exit
code and forks the next worker. So no worker ever holds what this process reads later.

Request and reply are written into shared memory; two pipes carry their sizes.
"""

import contextlib
import fcntl
import gc
import logging
import mmap
import os
import resource
import select
import signal
import struct
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from edge_oneshot_device.errors import MachineError

PROCESSOR_SECONDS: Final = 1.5  # for one request
MEMORY_BYTES: Final = 400 << 20  # above what a worker has before its first request
NO_MEMORY: Final = 3
"""Exit code of a worker that ran out of the memory it may have."""

_REPLY_SECONDS: Final = 60.0  # long, for a busy machine: the limit that counts is that of processor time
_KEPT_BYTES: Final = 8 << 20  # of the shared memory, and about twice that of the heap, between requests
_MAX_HEADER_BYTES: Final = 1 << 16  # of a reply without its content
_REQUEST: Final = struct.Struct("=QQ")  # bytes of the request's header and of its content
_REPLY: Final = struct.Struct("=iQQ")  # the worker's exit code, 0: it runs; bytes of the reply's header and content

Work = Callable[[bytes, bytes], tuple[bytes, bytes | bytearray]]
"""From a request's header and content to a reply's header and content."""


class EndedError(Exception):
    """The worker ended while it handled a request.

    Attributes:
        code: Its exit code, such as `NO_MEMORY`, or the negated number of the signal that ended it. SIGPROF means that
            it used up its processor time.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class BoundedProcess:
    """Runs a function in a worker process, one request at a time; for any number of threads.

    Args:
        load: Is called in the supervisor process: it imports what the worker alone needs and returns the function. The
            function has none of this process's threads, files and locks, and must not print.
    """

    def __init__(self, load: Callable[[], Work]) -> None:
        self._load = load
        self._forget()
        # a fork of this process needs a worker of its own
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._close()
        self._lock = threading.Lock()
        self._supervisor = -1

    def start(self) -> None:
        """Fork the supervisor unless it runs; what this process reads afterwards is unknown to it and its workers.

        Raises:
            MachineError: ``no_decoder``: the machine allows no further process.
        """
        with self._lock:
            self._ensure()

    def run(self, header: bytes, content: bytes, most: int) -> tuple[bytes, bytearray]:
        """Have the worker handle a request.

        Args:
            header: Of the request.
            content: Of the request.
            most: Largest size of the reply's content, in bytes.

        Returns:
            Header and content of the reply.

        Raises:
            EndedError: The worker reached a limit or crashed; the next one is running already.
            MachineError: ``no_decoder``: there is no process, or it does not reply; the next call starts a new one.
        """
        with self._lock:
            try:
                try:
                    self._send(header, content)
                except (BrokenPipeError, ConnectionResetError):  # both processes were ended from outside
                    self._stop()
                    self._send(header, content)
                code, header_size, size = self._receive()
                if code:
                    raise EndedError(code)
                if header_size > _MAX_HEADER_BYTES or size > most:
                    raise _failed("gave a wrong answer")
                reply, found = bytearray(header_size), bytearray(size)
                os.preadv(self._memory, [reply, found], 0)
                if max(size, len(content)) > _KEPT_BYTES:
                    os.ftruncate(self._memory, 0)
            except EndedError:
                raise
            except OSError as error:
                self._stop()
                raise _failed(f"cannot be reached: {error.strerror}") from error
            except BaseException:  # a late reply must not be taken for that of the next request
                self._stop()
                raise
        return bytes(reply), found

    def _send(self, header: bytes, content: bytes) -> None:
        self._ensure()
        if os.pwritev(self._memory, [header, content], 0) != len(header) + len(content):
            raise _failed("cannot take so much data")
        os.write(self._requests, _REQUEST.pack(len(header), len(content)))

    def _receive(self) -> tuple[int, int, int]:
        """Exit code of the worker, 0 while it runs, and the sizes of the reply's header and content."""
        replies = select.poll()
        replies.register(self._replies, select.POLLIN)
        if not replies.poll(1000 * _REPLY_SECONDS):
            raise _failed(f"did not answer within {_REPLY_SECONDS:g} s")
        message = os.read(self._replies, _REPLY.size)
        if not message:
            raise _failed("ended")
        code, header_size, size = _REPLY.unpack(message)
        return code, header_size, size

    def _ensure(self) -> None:
        if self._supervisor != -1:
            return
        opened: list[int] = []
        try:
            opened += [*os.pipe(), *os.pipe()]
            opened.append(os.memfd_create("edge-oneshot"))
            its_requests, requests, replies, its_replies, memory = opened
            supervisor = _fork(lambda: _supervise(its_requests, its_replies, memory, self._load))
        except OSError as error:
            for descriptor in opened:
                os.close(descriptor)
            raise _failed(f"cannot be started: {error.strerror}") from error
        os.close(its_requests)
        os.close(its_replies)
        # not earlier, because the fork closes the descriptors that it finds here
        self._supervisor, self._requests, self._replies, self._memory = supervisor, requests, replies, memory

    def _close(self) -> None:
        for name in ("_requests", "_replies", "_memory"):
            with contextlib.suppress(OSError, AttributeError):
                os.close(getattr(self, name))
            setattr(self, name, -1)

    def _stop(self) -> None:
        """End both processes, even in the middle of a request."""
        self._close()
        supervisor, self._supervisor = self._supervisor, -1
        if supervisor != -1:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(supervisor, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(supervisor, 0)


def _failed(what: str) -> MachineError:
    return MachineError(f"the process that decodes pictures {what}; try again", reason="no_decoder")


def _fork(act: Callable[[], NoReturn]) -> int:
    """Fork; the child calls `act`, which does not return, and this process gets the child's number."""
    every = signal.valid_signals()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, every)  # no handler of this process runs in the child
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of locks that other threads hold: the child takes none of them.
            warnings.simplefilter("ignore")
            number = os.fork()
        if number == 0:
            try:
                for one in every - {signal.SIGKILL, signal.SIGSTOP}:
                    signal.signal(one, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                act()
            finally:
                os._exit(1)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return number


def _supervise(requests: int, replies: int, memory: int, load: Callable[[], Work]) -> NoReturn:
    """Keep a worker running until the process that it works for has closed its pipes."""
    requests, replies, memory = _detach(requests, replies, memory)
    work = load()
    _set_limits()
    busy = mmap.mmap(-1, 1)
    while True:
        busy[0] = 0
        worker = _fork(lambda: _serve(requests, replies, memory, work, busy))
        code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
        if code == 0:
            os._exit(0)
        if busy[0]:  # each request has one reply
            os.write(replies, _REPLY.pack(code, 0, 0))


def _detach(*kept: int) -> list[int]:
    """Leave the terminal, and close all files of the parent process but these; returns their new numbers."""
    os.setsid()
    moved = [fcntl.fcntl(own, fcntl.F_DUPFD, 3) for own in kept]
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (numbers, not paths)
        if int(name) not in (0, 1, 2, *moved):
            with contextlib.suppress(OSError):
                os.close(int(name))
    return moved


def _set_limits() -> None:
    """Set the limits that all workers inherit, and prepare what they share."""
    gc.disable()  # it would write to pages that are shared, and so copy them
    logging.disable()
    # Once a block of this size was freed, glibc keeps such blocks; otherwise returning them takes most of the time.
    bytes(_KEPT_BYTES)
    with contextlib.suppress(OSError):  # when memory is short, the kernel ends a worker before the door's process
        Path("/proc/self/oom_score_adj").write_text("1000")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + MEMORY_BYTES
    for kind, limit in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        stricter = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (stricter, stricter))


def _serve(requests: int, replies: int, memory: int, work: Work, busy: mmap.mmap) -> NoReturn:
    """The worker: reply to each request until the pipe is closed."""
    while message := os.read(requests, _REQUEST.size):
        busy[0] = 1
        # the kernel ends the worker when its time is over, even inside a library
        signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
        length, size = _REQUEST.unpack(message)
        try:
            header, content = work(os.pread(memory, length, 0), os.pread(memory, size, length))
        except MemoryError:
            os._exit(NO_MEMORY)
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        os.pwritev(memory, [header, content], 0)
        sizes = len(header), len(content)
        del header, content  # or the next request would have so much less memory
        busy[0] = 0
        os.write(replies, _REPLY.pack(0, *sizes))
    os._exit(0)

"""A function run in a process of its own, which may die: bounded in processor time and memory whatever it is given.

The process is forked, not started anew: all that it needs is loaded already, so that it costs about a millisecond and
little memory. It is asked for early, before a key is read, and only keeps a worker: it waits for the worker's end, says
how that came and forks the next one. So no worker ever holds what this process reads later.

Order and answer are messages of a few hundred bytes on a pair of sockets; what is large (the picture there, its pixels
back) is written on a sheet of memory that both share.
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
import socket
import struct
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from edge_oneshot_device.errors import MachineError

PROCESSOR_SECONDS: Final = 1.5  # for one order
MEMORY_BYTES: Final = 400 << 20  # above what there is before the first order
NO_MEMORY: Final = 3
"""Exit code of a worker that met its bound of memory itself."""

_PATIENCE_SECONDS: Final = 60.0  # for a machine that is busy: the processor's time is what counts
_KEPT_BYTES: Final = 8 << 20  # of the sheet, and about twice that of the heap, between orders
_ORDER: Final = struct.Struct("=Q")  # bytes on the sheet
_ANSWER: Final = struct.Struct("=iQ")  # how the worker ended, 0: it did not; bytes on the sheet
_MESSAGE_BYTES: Final = 1 << 16

Work = Callable[[bytes, bytes], tuple[bytes, bytes]]
"""From an order and its content to an answer and its content."""


class EndedError(Exception):
    """The worker ended in the midst of an order.

    Attributes:
        code: Its exit code, such as `NO_MEMORY`; the number of the signal that ended it, negated. SIGPROF says that
            the processor's time was up.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Bounded:
    """Runs a function in another process, one order at a time; for any number of threads.

    Args:
        work: The function. It has no threads, files or locks of this process, and must not print.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._forget()
        # a copy of this process has a worker of its own
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        for descriptor in (getattr(self, "_channel", -1), getattr(self, "_sheet", -1)):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._lock = threading.Lock()
        self._keeper = self._channel = self._sheet = -1

    def start(self) -> None:
        """Fork, unless that was done: what this process learns later stays out of the other one.

        Raises:
            MachineError: ``no_decoder``: the machine allows no further process.
        """
        with self._lock:
            self._ensure()

    def run(self, order: bytes, content: bytes, most: int) -> tuple[bytes, bytearray]:
        """The answer, and its content of at most `most` bytes.

        Raises:
            EndedError: A bound was reached, or the worker crashed; there is a new one already.
            MachineError: ``no_decoder``: there is no process, or no answer from it; the next call begins anew.
        """
        with self._lock:
            try:
                try:
                    self._send(order, content)
                except (BrokenPipeError, ConnectionResetError):  # ended by somebody, since
                    self._stop()
                    self._send(order, content)
                code, size, answer = self._receive()
                if code:
                    raise EndedError(code)
                found = bytearray(size if size <= most else 0)
                if os.preadv(self._sheet, [found], 0) != size:
                    raise _failed("gave a wrong answer")
                if max(size, len(content)) > _KEPT_BYTES:
                    os.ftruncate(self._sheet, 0)
            except EndedError:
                raise
            except OSError as error:
                self._stop()
                raise _failed(f"is out of reach: {error.strerror}") from error
            except BaseException:  # an answer that nobody waits for any more must not meet the next order
                self._stop()
                raise
        return answer, found

    def _send(self, order: bytes, content: bytes) -> None:
        self._ensure()
        if os.pwrite(self._sheet, content, 0) != len(content):
            raise _failed("cannot be given so much")
        os.write(self._channel, _ORDER.pack(len(content)) + order)

    def _receive(self) -> tuple[int, int, bytes]:
        answers = select.poll()
        answers.register(self._channel, select.POLLIN)
        if not answers.poll(1000 * _PATIENCE_SECONDS):
            raise _failed(f"did not answer within {_PATIENCE_SECONDS:g} s")
        message = os.read(self._channel, _MESSAGE_BYTES)
        if len(message) < _ANSWER.size:
            raise _failed("ended")
        code, size = _ANSWER.unpack_from(message)
        return code, size, message[_ANSWER.size :]

    def _ensure(self) -> None:
        if self._keeper != -1:
            return
        own, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with own, its:
            sheet = os.memfd_create("edge-oneshot")
            try:
                keeper = _fork(lambda: _keep(its.fileno(), sheet, self._work))
            except OSError as error:
                os.close(sheet)
                raise _failed(f"cannot be started: {error.strerror}") from error
            self._keeper, self._channel, self._sheet = keeper, own.detach(), sheet

    def _stop(self) -> None:
        """End both processes, whatever they are at."""
        keeper = self._keeper
        self._keeper = -1
        for descriptor in (self._channel, self._sheet):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._channel = self._sheet = -1
        if keeper != -1:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(keeper, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(keeper, 0)


def _failed(what: str) -> MachineError:
    return MachineError(f"the process that decodes pictures {what}; try again", reason="no_decoder")


def _fork(act: Callable[[], NoReturn]) -> int:
    """The number of a copy of this process that acts and never comes back."""
    every = signal.valid_signals()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, every)  # no handler of this process runs in the copy
    try:
        with warnings.catch_warnings():
            # Threads are not copied, and Python 3.12 warns of locks that they hold: the copy decodes and takes none.
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


def _keep(channel: int, sheet: int, work: Work) -> NoReturn:
    """Keep a worker until nobody is there for whom it could work."""
    channel, sheet = _cut_off(channel, sheet)
    busy = mmap.mmap(-1, 1)
    while True:
        busy[0] = 0
        worker = _fork(lambda: _serve(channel, sheet, work, busy))
        code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
        if code == 0:
            os._exit(0)
        if busy[0]:  # each order has one answer
            os.write(channel, _ANSWER.pack(code, 0))


def _cut_off(channel: int, sheet: int) -> tuple[int, int]:
    """Away from the terminal and the files of the process that this is a copy of, and bounded."""
    os.setsid()
    channel, sheet = (fcntl.fcntl(own, fcntl.F_DUPFD, 3) for own in (channel, sheet))
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (numbers, not paths)
        if int(name) not in (0, 1, 2, channel, sheet):
            with contextlib.suppress(OSError):
                os.close(int(name))
    # glibc gives back at once what is as large as a picture, until it saw such a thing go: most of the time of decoding
    bytes(_KEPT_BYTES)
    gc.disable()  # it would write to pages that are shared, and so make copies of them
    logging.disable()
    with contextlib.suppress(OSError):  # where memory is short it goes before the door does
        Path("/proc/self/oom_score_adj").write_text("1000")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + MEMORY_BYTES
    for what, limit in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        least = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (least, least))
    return channel, sheet


def _serve(channel: int, sheet: int, work: Work, busy: mmap.mmap) -> NoReturn:
    """The worker: an answer for each order, until nobody gives one any more."""
    while message := os.read(channel, _MESSAGE_BYTES):
        busy[0] = 1
        # what is over its time is ended by the kernel, in whatever library it is
        signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
        (size,) = _ORDER.unpack_from(message)
        try:
            answer, content = work(message[_ORDER.size :], os.pread(sheet, size, 0))
        except MemoryError:
            os._exit(NO_MEMORY)
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        os.pwrite(sheet, content, 0)
        busy[0] = 0
        os.write(channel, _ANSWER.pack(0, len(content)) + answer)
    os._exit(0)

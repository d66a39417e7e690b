"""A function run in a process of its own, which may die: bounded in processor time and memory whatever it is given.

The process is forked, not started anew: most that it needs is loaded already, so that it costs a millisecond or two. It
is asked for early, before a key is read, and only keeps a worker: it waits for the worker's end, says how that came and
forks the next one. So no worker ever holds what this process reads later.

Order and answer are written on a sheet of memory that both sides share; through two pipes they say how much it is.
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

PROCESSOR_SECONDS: Final = 1.5  # for one order
MEMORY_BYTES: Final = 400 << 20  # above what there is before the first order
NO_MEMORY: Final = 3
"""Exit code of a worker that met its bound of memory itself."""

_PATIENCE_SECONDS: Final = 60.0  # for a machine that is busy: the processor's time is what counts
_KEPT_BYTES: Final = 8 << 20  # of the sheet, and about twice that of the heap, between orders
_MOST_TOLD: Final = 1 << 16  # bytes of an answer without its content
_ORDER: Final = struct.Struct("=QQ")  # bytes of the order and of its content
_ANSWER: Final = struct.Struct("=iQQ")  # how the worker ended, 0: it did not; bytes of the answer and of its content

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


class BoundedProcess:
    """Runs a function in another process, one order at a time; for any number of threads.

    Args:
        load: Called in the other process: imports what it alone needs, and gives the function, which has no threads,
            files or locks of this process, and must not print.
    """

    def __init__(self, load: Callable[[], Work]) -> None:
        self._load = load
        self._forget()
        # a copy of this process has a worker of its own
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._close()
        self._lock = threading.Lock()
        self._keeper = -1

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
                code, told, size = self._receive()
                if code:
                    raise EndedError(code)
                if told > _MOST_TOLD or size > most:
                    raise _failed("gave a wrong answer")
                answer, found = bytearray(told), bytearray(size)
                os.preadv(self._sheet, [answer, found], 0)
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
        return bytes(answer), found

    def _send(self, order: bytes, content: bytes) -> None:
        self._ensure()
        if os.pwritev(self._sheet, [order, content], 0) != len(order) + len(content):
            raise _failed("cannot be given so much")
        os.write(self._orders, _ORDER.pack(len(order), len(content)))

    def _receive(self) -> tuple[int, int, int]:
        answers = select.poll()
        answers.register(self._answers, select.POLLIN)
        if not answers.poll(1000 * _PATIENCE_SECONDS):
            raise _failed(f"did not answer within {_PATIENCE_SECONDS:g} s")
        message = os.read(self._answers, _ANSWER.size)
        if not message:
            raise _failed("ended")
        code, told, size = _ANSWER.unpack(message)
        return code, told, size

    def _ensure(self) -> None:
        if self._keeper != -1:
            return
        opened: list[int] = []
        try:
            opened += [*os.pipe(), *os.pipe()]
            opened.append(os.memfd_create("edge-oneshot"))
            taken, orders, answers, given, sheet = opened
            keeper = _fork(lambda: _keep(taken, given, sheet, self._load))
        except OSError as error:
            for descriptor in opened:
                os.close(descriptor)
            raise _failed(f"cannot be started: {error.strerror}") from error
        os.close(taken)
        os.close(given)
        # not before: the other process forgets what this one has
        self._keeper, self._orders, self._answers, self._sheet = keeper, orders, answers, sheet

    def _close(self) -> None:
        for name in ("_orders", "_answers", "_sheet"):
            with contextlib.suppress(OSError, AttributeError):
                os.close(getattr(self, name))
            setattr(self, name, -1)

    def _stop(self) -> None:
        """End both processes, whatever they are at."""
        self._close()
        keeper, self._keeper = self._keeper, -1
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


def _keep(orders: int, answers: int, sheet: int, load: Callable[[], Work]) -> NoReturn:
    """Keep a worker until nobody is there for whom it could work."""
    orders, answers, sheet = _cut_off(orders, answers, sheet)
    work = load()
    _bound()
    busy = mmap.mmap(-1, 1)
    while True:
        busy[0] = 0
        worker = _fork(lambda: _serve(orders, answers, sheet, work, busy))
        code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
        if code == 0:
            os._exit(0)
        if busy[0]:  # each order has one answer
            os.write(answers, _ANSWER.pack(code, 0, 0))


def _cut_off(*kept: int) -> list[int]:
    """Away from the terminal and the files of the process that this is a copy of, but for these."""
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


def _bound() -> None:
    """What workers are to keep to, and what is the same for all of them."""
    gc.disable()  # it would write to pages that are shared, and so make copies of them
    logging.disable()
    # glibc gives back at once what is as large as a picture, until it saw such a thing go: most of the time of decoding
    bytes(_KEPT_BYTES)
    with contextlib.suppress(OSError):  # where memory is short it goes before the door does
        Path("/proc/self/oom_score_adj").write_text("1000")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + MEMORY_BYTES
    for what, limit in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        least = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (least, least))


def _serve(orders: int, answers: int, sheet: int, work: Work, busy: mmap.mmap) -> NoReturn:
    """The worker: an answer for each order, until nobody gives one any more."""
    while message := os.read(orders, _ORDER.size):
        busy[0] = 1
        # what is over its time is ended by the kernel, in whatever library it is
        signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
        length, size = _ORDER.unpack(message)
        try:
            answer, content = work(os.pread(sheet, length, 0), os.pread(sheet, size, length))
        except MemoryError:
            os._exit(NO_MEMORY)
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        os.pwritev(sheet, [answer, content], 0)
        busy[0] = 0
        os.write(answers, _ANSWER.pack(0, len(answer), len(content)))
    os._exit(0)

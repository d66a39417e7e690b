"""The process that decodes pictures: what ends it, what it holds, and that it never outlives or hinders this one."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edge_oneshot_device.encoding import bounded, preprocessing
from edge_oneshot_device.encoding.bounded import NO_MEMORY, BoundedProcess, EndedError
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.state import opening
from tests.raising import raises

MANY = 1 << 20
GLIBCS = 0b11 << 31  # signals 32 and 33, which are its own


def work(order: bytes, content: bytes) -> tuple[bytes, bytes]:
    match order:
        case b"spin":
            while True:
                pass
        case b"burn":
            start = time.process_time()
            while time.process_time() - start < bounded.PROCESSOR_SECONDS / 2:
                pass
        case b"eat":
            kept = [bytearray(1 << 24) for _ in range(64)]  # not touched: a slow machine would take too long
            return str(len(kept)).encode(), b""
        case b"sleep":
            time.sleep(1000)
        case b"raise":
            raise AssertionError
        case b"":
            pass
        case _:
            os.kill(os.getpid(), int(order))
    return b"done", content[::-1]


@pytest.fixture
def running(monkeypatch):
    # however busy the machine is: what counts here is the processor's time
    monkeypatch.setattr(bounded, "_REPLY_SECONDS", 3600.0)
    made = BoundedProcess(lambda: work)
    yield made
    made._stop()


def fine(running: BoundedProcess) -> bool:
    return running.run(b"", b"abc", 3) == (b"done", b"cba")


def worker(running: BoundedProcess) -> int:
    """The worker of the moment."""
    running.start()
    children = Path(f"/proc/{running._supervisor}/task/{running._supervisor}/children")
    while not (found := children.read_text().split()):
        pass
    return int(found[0])


def gone(process: int) -> bool:
    """Waits for its end: the test's own limit of time is what ends a wait for nothing."""
    while Path(f"/proc/{process}/stat").exists():
        time.sleep(0.01)
    return True


def test_content_goes_there_and_back_whatever_its_size(running):
    for size in (0, 1, 70_000, 9 << 20, 5):
        content = np.random.default_rng(size).bytes(size)
        assert running.run(b"", content, size) == (b"done", content[::-1])


@pytest.mark.parametrize(
    ("order", "code"),
    [(b"spin", -signal.SIGPROF), (b"eat", NO_MEMORY), (b"raise", 1), (b"11", -signal.SIGSEGV), (b"9", -signal.SIGKILL),
     (b"6", -signal.SIGABRT)],
)  # fmt: skip
def test_a_worker_that_ends_is_told_of_and_the_next_order_is_done(running, order, code):
    for _ in range(2):
        with pytest.raises(EndedError) as caught:
            running.run(order, b"", 0)
        assert caught.value.code == code
        assert fine(running)


def test_a_worker_keeps_nothing_of_its_last_answer(running):
    def held() -> int:
        return int(Path(f"/proc/{worker(running)}/status").read_text().partition("RssAnon:")[2].split()[0])

    assert fine(running)
    before, size = held(), 64 << 20
    assert running.run(b"", bytes(size), size)[1] == bytes(size)
    assert held() - before < size >> 11  # KiB: half of it


def test_each_order_has_the_processors_time_anew(running):
    for _ in range(4):
        assert running.run(b"burn", b"", 0) == (b"done", b"")


def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(running, monkeypatch):
    assert fine(running)
    supervisor, busy = running._supervisor, worker(running)
    monkeypatch.setattr(bounded, "_REPLY_SECONDS", 0.2)
    with raises(MachineError, match=r"did not answer within 0\.2 s", reason="no_decoder"):
        running.run(b"sleep", b"", 0)
    assert gone(supervisor)
    assert gone(busy)
    monkeypatch.undo()
    assert fine(running)


def test_a_worker_that_somebody_ends_between_orders_is_not_missed(running):
    first = worker(running)
    os.kill(first, signal.SIGKILL)
    assert gone(first)
    assert fine(running)


def test_a_supervisor_that_somebody_ends_is_started_anew_with_its_worker(running):
    assert fine(running)
    first = worker(running)
    os.kill(running._supervisor, signal.SIGKILL)
    assert fine(running)  # the worker does not know
    os.kill(first, signal.SIGKILL)
    assert gone(first)
    assert fine(running)


def test_an_answer_that_is_larger_than_asked_for_is_refused(running):
    with pytest.raises(MachineError, match="wrong answer"):
        running.run(b"", b"abcd", 3)
    assert fine(running)


def test_an_order_given_up_leaves_nothing_for_the_next_one(running, monkeypatch):
    assert fine(running)
    monkeypatch.setattr(BoundedProcess, "_receive", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        running.run(b"", b"secret", 6)
    monkeypatch.undo()
    assert fine(running)


def test_threads_each_get_their_own_answer(running):
    wrong = []

    def ask(number: int) -> None:
        for count in range(50):
            content = bytes([number]) * (1000 * number + count)
            if running.run(b"", content, MANY)[1] != content:
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of the test's own fork, beside threads
def test_a_copy_of_this_process_has_a_worker_of_its_own(running):
    assert fine(running)
    copy = os.fork()
    if copy == 0:
        code = 1
        try:
            before = running._supervisor
            code = 0 if before == -1 and fine(running) else 2
            running._stop()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0
    assert fine(running)


def test_neither_process_has_a_file_of_this_one_or_its_terminal(running, tmp_path):
    with (tmp_path / "held").open("w"):
        assert fine(running)
        for process in (worker(running), running._supervisor):
            links = [str(one.readlink()) for one in Path(f"/proc/{process}/fd").iterdir()]
            kinds = sorted(link.split(":")[0].split(" ")[0] for link in links)
            assert kinds == ["/dev/null"] * 3 + ["/memfd", "pipe", "pipe"]
            assert os.getsid(process) == running._supervisor  # Ctrl-C is not for it
            told = dict(line.split(":\t", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
            assert int(told["SigCgt"], 16) & ~GLIBCS == 0
            assert int(told["SigBlk"], 16) == 0


def test_the_bounds_are_the_kernels(running):
    limits = Path(f"/proc/{worker(running)}/limits").read_text()
    memory = next(line for line in limits.splitlines() if line.startswith("Max address space")).split()[3]
    assert bounded.MEMORY_BYTES < int(memory) < bounded.MEMORY_BYTES + (32 << 30)
    assert Path(f"/proc/{worker(running)}/oom_score_adj").read_text() == "1000\n"


def test_what_this_process_learns_later_is_in_no_worker(running):
    running.start()
    with pytest.raises(EndedError):
        running.run(b"11", b"", 0)
    here, other = os.urandom(64), os.urandom(64)
    assert fine(running)
    running.run(b"", other, 64)
    assert holds(os.getpid(), here)
    assert holds(worker(running), other)  # so it would be seen
    assert not holds(worker(running), here)
    assert not holds(running._supervisor, here)


def holds(process: int, secret: bytes) -> bool:
    """Whether these bytes are anywhere in its memory."""
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            span, rights, *rest = line.split()
            if rights[:2] != "rw" or rest[-1].startswith("[v"):
                continue
            start, end = (int(place, 16) for place in span.split("-"))
            memory.seek(start)
            try:
                if secret in memory.read(end - start):
                    return True
            except OSError:
                continue
    return False


PARENT = """
import sys, time
from pathlib import Path
from edge_oneshot_device.encoding import preprocessing
preprocessing.start_decoder()
supervisor = preprocessing._decoder._supervisor
children = Path(f"/proc/{supervisor}/task/{supervisor}/children")
while not children.read_text().split():
    pass
print(supervisor, children.read_text(), flush=True)
if sys.argv[1] == "stay":
    time.sleep(600)
"""


@pytest.mark.parametrize("how", ["leave", "stay"])
def test_both_end_with_this_process_however_it_ends(how):
    with subprocess.Popen([sys.executable, "-W", "error", "-c", PARENT, how], stdout=subprocess.PIPE) as process:
        supervisor, child = map(int, process.stdout.readline().split())
        if how == "stay":
            process.kill()
        assert process.stdout.read() == b""  # nobody else has its output open
    assert gone(child)
    assert gone(supervisor)


CLOSED = """
import os, sys
for standard in range(3):
    os.close(standard)
from edge_oneshot_device.encoding import preprocessing
from edge_oneshot_device.errors import InputError
try:
    preprocessing.load_photo(b"no picture", 1)
except InputError as error:
    sys.exit(40 + error.exit_code)
"""


def test_it_works_where_standard_input_and_output_are_closed():
    assert subprocess.run([sys.executable, "-c", CLOSED], check=False).returncode == 42


def test_a_crash_of_the_decoder_is_the_pictures_fault(monkeypatch):
    def crash(*_: object) -> None:
        raise EndedError(-signal.SIGSEGV)

    monkeypatch.setattr(preprocessing._decoder, "run", crash)
    with raises(InputError, match=r"crashes its decoder \(SIGSEGV\)", reason="decoder_crashed"):
        load_photo(b"x", 1)


def test_it_is_started_before_the_key_is_looked_for(monkeypatch):
    preprocessing._decoder._stop()

    def find_key(_: object) -> None:
        assert preprocessing._decoder._supervisor != -1
        raise InterruptedError

    monkeypatch.setattr(opening, "find_key", find_key)
    with pytest.raises(InterruptedError):
        opening.open_installed("anywhere")

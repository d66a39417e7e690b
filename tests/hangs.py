"""Finds a test that hangs, by limits that no load explains: `conftest.py` runs it beside pytest.

A test that waits for a busy processor or disk is ready to run; one that hangs is not, or runs without end. A line on
stdin is how many seconds the test's processes may do next to nothing, 0 at its end. When it hangs, stdout says why and
the parent gets SIGALRM.
"""

import os
import select
import signal
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path

LOOK_SECONDS = 5.0
PROCESSOR = 4.0  # times the seconds of doing nothing
IDLE_SHARE = 0.02  # of a processor: somebody who looks again and again whether something has come
ACTIVE_LOOKS = 0.05  # of those that a process which hangs may be met at work
TICKS = os.sysconf("SC_CLK_TCK")


def look(root: int) -> tuple[float, bool]:
    """The processor's time of a process and all that it started, and whether a thread of them runs, or would."""
    stats = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            stats[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
    tree, before = {root}, set()
    while tree != before:
        before, tree = tree, tree | {one for one, stat in stats.items() if int(stat[1]) in tree}
    own = (tree & stats.keys()) - {os.getpid()}
    ticks = sum(int(one) for process in own for one in stats[process][11:15])
    # where /proc shows nothing nobody is said to hang
    return ticks / TICKS, not own or any(wants(process) for process in own)


def wants(process: int) -> bool:
    """Whether a thread of a process runs, or waits for a processor or a disk."""
    for path in Path(f"/proc/{process}/task").glob("*/stat"):
        with suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[0] in "RD":
                return True
    return False


class Watch:
    """Over a test.

    Args:
        limit: Seconds in which its processes may do next to nothing.
        spent: Of the processor, before it began.
    """

    def __init__(self, limit: float, spent: float) -> None:
        self.every = min(LOOK_SECONDS, limit / 20)
        self._limit, self._begun, self._spent = limit, spent, spent
        self._active: deque[bool] = deque(maxlen=round(limit / self.every))

    def hung(self, spent: float, *, ready: bool) -> str | None:
        """Why the test hangs; None: it does not.

        Args:
            spent: Of the processor, so far.
            ready: Somebody runs, or would.
        """
        if spent - self._begun > PROCESSOR * self._limit:
            return f"its processes took {spent - self._begun:.0f} s of the processor"
        self._active.append(ready or spent - self._spent > IDLE_SHARE * self.every)
        self._spent = spent
        if len(self._active) == self._active.maxlen and sum(self._active) <= ACTIVE_LOOKS * len(self._active):
            return f"its processes did nothing for {self._limit:.0f} s, and waited neither for a processor nor a disk"
        return None


def main() -> None:
    """Watch test after test."""
    parent, watch = os.getppid(), None
    while True:
        if select.select([sys.stdin], [], [], watch.every if watch else None)[0]:
            told = os.read(sys.stdin.fileno(), 1 << 16).split()
            if not told:
                return
            limit = float(told[-1])
            watch = Watch(limit, look(parent)[0]) if limit else None
            continue
        assert watch is not None
        spent, ready = look(parent)
        why = watch.hung(spent, ready=ready)
        if why is not None:
            print(why, flush=True)
            os.kill(parent, signal.SIGALRM)
            watch = None


if __name__ == "__main__":
    main()

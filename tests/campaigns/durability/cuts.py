"""Power cuts of a real file system: an ext4 in a file, whose log is stopped while a mix of acts is running.

What was not written to the disk by then is lost, as in a power cut (FS_IOC_SHUTDOWN with NOLOGFLUSH). Needs the
right to mount.
"""

import fcntl
import os
import random
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.campaigns.durability.acts import draw, expected, prepare
from tests.campaigns.durability.campaign import Part, Tally, fresh
from tests.campaigns.durability.children import Request, Server
from tests.campaigns.durability.devices import FAILED, Place, judge
from tests.campaigns.durability.mounts import make_image, mounted

MIX = 30
RUNS = 20
_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
_NO_LOG_FLUSH = 2


def parts(folder: Path, server: Server, seed: int, cases: int) -> dict[str, tuple[int, Part]]:
    """The one part of the campaign, of so many cuts."""
    return {"cuts of a real ext4": (cases, partial(_cuts, folder, server, seed, cases))}


def _cuts(folder: Path, server: Server, seed: int, cases: int, progress: Callable[[], None]) -> Tally:
    tally = Tally(facts={"acknowledged": 0})
    subject = prepare(folder / "for ext4")
    numbers = random.Random(f"{seed} ext4")
    image, told = folder / "disk.img", folder / "told"
    state = subject.state
    longest = 1.0
    for case in range(-1, cases):
        if case < 0 or case % RUNS == 0:
            make_image(image)
            with mounted(image, folder / "mounted") as disk:
                fresh(subject.place.root, disk / "device")
            state = subject.state
        states, acts = [state], []
        for _ in range(MIX):
            acts.append(draw(numbers, states[-1]))
            states.append(expected(states[-1], acts[-1], subject.backup))
        with mounted(image, folder / "mounted") as disk:
            started = time.monotonic()
            server.start(Request(str(disk / "device"), str(told), acts))
            if case < 0:  # how long a run takes
                assert len(server.finish().done) == MIX
                longest = time.monotonic() - started
                continue
            time.sleep(numbers.uniform(0.0, longest))
            stop(disk)
            outcome = server.finish()
        # a decision that could not be recorded is told, as a rejection; nothing after it is
        done = next((place for place, one in enumerate(outcome.done) if _is_unrecorded(one)), len(outcome.done))
        tally.facts["acknowledged"] += done
        allowed = {"all that was acknowledged": states[done]}
        if done < MIX:
            allowed["and the one under way"] = states[done + 1]
        with mounted(image, folder / "mounted") as disk:
            verdict = judge(Place(disk / "device"), allowed, go_on=False)
        if verdict.startswith(FAILED):
            make_image(image)
            with mounted(image, folder / "mounted") as disk:
                fresh(subject.place.root, disk / "device")
        state = allowed.get(verdict, subject.state)
        tally.add(verdict, case=case, acts=acts[: done + 1], error=outcome.error)
        progress()
    return tally


def _is_unrecorded(answer: object) -> bool:
    return isinstance(answer, dict) and answer.get("fault") is not None


def stop(disk: Path) -> None:
    """Cut the power of a disk."""
    descriptor = os.open(disk, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
    finally:
        os.close(descriptor)

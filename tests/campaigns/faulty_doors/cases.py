"""What is done to a door: each case makes something fail, puts it right, and says how long the door needed to be back.

Before a case the door is at work and nobody stands before it. A case begins its clock when what failed works again (or
the program is started again), and stops it when the door does.
"""

import mmap
import shutil
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Self

from edge_oneshot_device.door.guard_messages import BEAT_SECONDS
from tests.campaigns.durability.mounts import tmpfs
from tests.campaigns.faulty_doors.rig import Device, Rig, Setting

DISK_BYTES: Final = 48 << 20
"""Of the disk that becomes full: the bundle is on it, too."""

_DAY: Final = 86400
_CLOCK: Final = Path(__file__).with_name("set_clock.c")


class Done(NamedTuple):
    """A case.

    Attributes:
        what: What happened, for the count.
        back: Seconds until the door was at work again.
    """

    what: str
    back: float


class Kind(NamedTuple):
    """A kind of fault.

    Attributes:
        case: What is done, with which door, and its number.
        rig: Makes a door for it, in an empty folder, with a seed.
        dated: Whether rows of the audit trail have the machine's date.
    """

    case: Callable[[Rig, int], Done]
    rig: Callable[[Device, Path, object], Rig]
    dated: bool = True


def _plain(setting: Setting) -> Callable[[Device, Path, object], Rig]:
    return lambda device, folder, seed: Rig(device, folder, setting, seed=seed)


# kill -9


def _drive(rig: Rig, state: str) -> None:
    """Bring a door into a state, and let a random time pass there."""
    if state == "held":
        rig.command("hold")
        rig.reach("held")
    elif state == "faulty":
        rig.camera.unplug()
        rig.reach("faulty")
    elif state == "approaching":
        rig.show("unusable", "approaching")
    elif state == "refused":
        rig.show("stranger", "refused")
    elif state in ("unlocked", "challenged"):
        rig.show("known", state)
    time.sleep(rig.rng.uniform(0.0, 0.8))


def _killed_in(state: str) -> Callable[[Rig, int], Done]:
    def case(rig: Rig, _number: int) -> Done:
        _drive(rig, state)
        return _killed(rig)

    return case


def _killed_deciding(rig: Rig, _number: int) -> Done:
    """Killed between the first frame of a face and a moment after the lock opened."""
    rig.show("known", "approaching")
    time.sleep(rig.rng.uniform(0.0, 0.9))
    return _killed(rig)


def _killed(rig: Rig) -> Done:
    rig.end(signal.SIGKILL)
    was = rig.now
    rig.wait("the guard to lock", lambda: rig.level == 0)
    rig.camera.shown = "nobody"
    if rig.camera.is_away:
        rig.camera.plug()
    began = time.monotonic()
    return Done(f"killed in {was}", rig.start() - began)


# SIGTERM


def _terminated(rig: Rig, _number: int) -> Done:
    """Ended by SIGTERM while the lock is open: what it leaves is locked."""
    rig.show("known", "unlocked")
    rig.wait("the lock to open", lambda: rig.level == 1)
    time.sleep(rig.rng.uniform(0.0, 1.0))
    code = rig.end(signal.SIGTERM)
    if code != 0 or rig.level != 0:
        return Done(f"FAILED: it ended with {code}, and the relay is at {rig.level}", 0.0)
    rig.camera.shown = "nobody"
    began = time.monotonic()
    return Done("locked, then ended", rig.start() - began)


# the camera


def _camera_lost(rig: Rig, number: int) -> Done:
    """The camera is unplugged, or goes silent, in every state that it can be lost in, for 2 to 20 seconds."""
    states = ("idle", "approaching", "unlocked", "refused")
    state, silent = states[number % len(states)], number // len(states) % 2 == 1
    _drive(rig, state)
    after = len(rig.seen)
    if silent:
        rig.camera.silent = True
    else:
        rig.camera.unplug()
    rig.reach("faulty", after=after)
    rig.camera.shown = "nobody"
    time.sleep((0.5, 4.0, 20.0)[number % 3])
    if silent:
        rig.camera.silent = False
    else:
        rig.camera.plug()
    began = time.monotonic()
    back = rig.wait("idle", lambda: rig.now == "idle") - began
    return Done(f"{'silent' if silent else 'unplugged'} in {state}", back)


# the broker


def _broker_lost(rig: Rig, _number: int) -> Done:
    """The broker is away while somebody is let in and somebody refused: the lock does not wait for it."""
    rig.broker.stop()
    heard = len(rig.listener.heard)
    rig.show("known", "unlocked")
    rig.wait("the lock to open", lambda: rig.level == 1)
    rig.clear()
    rig.show("stranger", "refused")
    rig.clear()
    time.sleep(rig.rng.uniform(0.0, 5.0))
    rig.broker.start()
    began = time.monotonic()
    return Done("let in and refused meanwhile", rig.wait("events", lambda: len(rig.listener.heard) > heard) - began)


# the disk


class _Full:
    """Keeps a disk full, with a file that grows as soon as there is room."""

    def __init__(self, folder: Path) -> None:
        self._file, self._over = folder / "filler", threading.Event()
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    def _fill(self) -> None:
        with self._file.open("wb", buffering=0) as file:
            while not self._over.is_set():
                try:
                    file.write(bytes(4096))
                except OSError:
                    self._over.wait(0.02)

    def end(self) -> None:
        """Make room."""
        self._over.set()
        self._thread.join()
        self._file.unlink()


def _disk_full(rig: Rig, _number: int) -> Done:
    """The disk is full: nobody is let in, apart from who wants out."""
    full = _Full(rig.state.parent)
    try:
        while rig.now != "faulty":
            rig.show("known", "unlocked", "faulty")  # the reserve has room for the first
            rig.camera.shown = "nobody"
            rig.wait("the lock at rest", lambda: rig.level == 0 and rig.now in ("idle", "faulty"))
            time.sleep(1.0)
        rig.camera.shown = "known"
        time.sleep(2.0)
        rig.camera.shown = "nobody"
        rig.press_exit()
        rig.wait("the lock at rest", lambda: rig.level == 0)
    finally:
        full.end()
    began = time.monotonic()
    return Done("nobody let in but out", rig.wait("idle", lambda: rig.now == "idle") - began)


class _FullDisk(Rig):
    """A door whose state folder is on a small disk."""

    def __enter__(self) -> Self:
        self._stack.enter_context(tmpfs(self.folder / "disk", DISK_BYTES))
        super().__enter__()
        return self


# the clock


def _clock_set_back(rig: Rig, number: int) -> Done:
    """The date goes back, by a second to ten years, while the lock is open, and then forward again."""
    back = (1, 3600, _DAY, 400 * _DAY, 3650 * _DAY)[number % 5]
    rig.show("known", "unlocked")
    began = time.monotonic()
    _set_clock(rig.folder / "clock", -back)
    rig.wait("idle", lambda: rig.now == "idle")
    rig.clear()
    rig.show("stranger", "refused")
    rig.clear()
    rig.show("known", "unlocked")
    rig.wait("the lock to open", lambda: rig.level == 1)
    done = Done(f"by {back} s", time.monotonic() - began)
    _set_clock(rig.folder / "clock", 0)
    return done


def _set_clock(file: Path, seconds: int) -> None:
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 8) as place:
        place[:8] = struct.pack("=q", seconds)


def _clock_rig(device: Device, folder: Path, seed: object) -> Rig:
    library, clock = folder / "set_clock.so", folder / "clock"
    clock.write_bytes(bytes(8))
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, _CLOCK, "-ldl"], check=True)
    environment = {"LD_PRELOAD": str(library), "DOOR_CLOCK": str(clock)}
    return Rig(device, folder, Setting(), environment, seed=seed)


# a hang


def _stopped(rig: Rig, number: int) -> Done:
    """The program is stopped (SIGSTOP) while the lock is open, for a pulse or held; it goes on later (SIGCONT)."""
    held = number % 2 == 1
    after = len(rig.seen)
    if held:
        rig.command("hold")
        rig.reach("held", after=after)
    else:
        rig.show("known", "unlocked")
    rig.wait("the lock to open", lambda: rig.level == 1)
    rig.signal(signal.SIGSTOP)
    try:
        rig.wait("the guard to lock", lambda: rig.level == 0)
        time.sleep(rig.rng.uniform(0.0, 3.0))
    finally:
        rig.camera.shown = "nobody"
        rig.signal(signal.SIGCONT)
    began = time.monotonic()
    return Done(f"stopped while {'held' if held else 'unlocked'}", rig.wait("idle", lambda: rig.now == "idle") - began)


def _runtime_hangs(rig: Rig, number: int) -> Done:
    """The runtime hangs on a face, for longer than the guard allows; who stood there is not let in when it goes on."""
    held, hangs = number % 2 == 1, rig.folder / "hangs"
    if held:
        rig.command("hold")
        rig.reach("held")
    opened = len(rig.levels)
    hangs.touch()
    rig.camera.shown = "known"
    rig.wait("the runtime to hang", hangs.with_suffix(".begun").exists)
    time.sleep(BEAT_SECONDS + 0.5)
    rig.wait("the guard to lock", lambda: rig.level == 0)
    rig.camera.shown = "nobody"
    time.sleep(rig.rng.uniform(0.0, 2.0))
    after = len(rig.seen)
    hangs.unlink()
    hangs.with_suffix(".begun").unlink()
    began = time.monotonic()
    back = rig.reach("idle", after=after).at - began
    rig.clear()
    if any(change.level for change in rig.levels[opened:]):
        return Done("FAILED: somebody was let in by what was seen before the hang", back)
    return Done(f"hung while {'held' if held else 'approaching'}", back)


def _hanging_rig(device: Device, folder: Path, seed: object) -> Rig:
    environment = {"DOOR_HANGS": str(folder / "hangs")}
    return Rig(device, folder, Setting(), environment, ("-m", "tests.campaigns.faulty_doors.hanging_run"), seed=seed)


STATES: Final = ("idle", "approaching", "challenged", "unlocked", "refused", "held", "faulty")

KINDS: Final[Mapping[str, Kind]] = {
    **{
        f"kill -9, {state}": Kind(
            _killed_in(state), _plain(Setting(mode="challenge" if state == "challenged" else "off", pulse=2.0))
        )
        for state in STATES
    },
    "kill -9, deciding": Kind(_killed_deciding, _plain(Setting())),
    "SIGTERM, unlocked": Kind(_terminated, _plain(Setting(pulse=8.0))),
    "camera lost": Kind(_camera_lost, _plain(Setting())),
    "broker lost": Kind(_broker_lost, _plain(Setting())),
    "disk full": Kind(_disk_full, lambda *given: _FullDisk(given[0], given[1], Setting(has_exit=True), seed=given[2])),
    "clock set back": Kind(_clock_set_back, _clock_rig, dated=False),
    "program stopped": Kind(_stopped, _plain(Setting(pulse=3.0, hold=60.0))),
    "runtime hangs": Kind(_runtime_hangs, _hanging_rig),
}
"""By name."""


@contextmanager
def a_rig(kind: Kind, device: Device, folder: Path, seed: object) -> Iterator[Rig]:
    """A door of a kind, at work."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with kind.rig(device, folder, seed) as rig:
        rig.start()
        yield rig

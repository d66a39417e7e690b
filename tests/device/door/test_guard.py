"""The guard's process: whatever happens to it and to the loop, the lock ends up locked, and who is inside gets out."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from edge_oneshot_device.door.configuration import DoorConfig, InputsSection, LockSection, RelaySection
from edge_oneshot_device.door.guard import Guard, lock_now
from edge_oneshot_device.door.guard_messages import BEAT_SECONDS, STALE_SECONDS, Command
from edge_oneshot_device.door.guard_process import Watch
from edge_oneshot_device.door.lock_drivers import NoLock
from edge_oneshot_device.errors import MachineError
from tests.device.door.board import Board
from tests.device.door.waiting import wait_until
from tests.raising import raises

RELAY, EXIT, EMERGENCY, RED = 17, 5, 6, 21
LONG = 60.0  # of a pulse that does not end by itself while a test runs
CONFIG = DoorConfig(lock=LockSection(kind="gpio", pulse=LONG, relay=RelaySection(pin=RELAY)))
LETS_OUT = InputsSection(exit_button=EXIT, emergency_release=EMERGENCY)
LOOP = """
import sys, time
import msgspec
from edge_oneshot_device.door.configuration import DoorConfig
from edge_oneshot_device.door.guard import Guard
guard = Guard(msgspec.json.decode(sys.argv[1], type=DoorConfig))
print(guard._process.pid, flush=True)
{act}
while True:
    {turn}
    time.sleep(0.05)
"""


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """A board that guards started by the test use."""
    folder = tmp_path / "board"
    folder.mkdir()
    board = Board(folder)
    for name, value in board.environment(os.environ).items():
        monkeypatch.setenv(name, value)
    return board


class Loop:
    """A process in the place of the loop, with its guard."""

    def __init__(self, config: DoorConfig, act: str, turn: str) -> None:
        program = LOOP.format(act=act, turn=turn)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, msgspec.json.encode(config).decode()], stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.guard = int(self.process.stdout.readline())
        self.process.stdout.close()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        if is_alive(self.guard):
            os.kill(self.guard, signal.SIGKILL)


@pytest.fixture
def loop(board: Board) -> Iterator[Callable[..., Loop]]:
    """Starts a loop: `act` is what it does first, `turn` what it does again and again."""
    assert board
    loops = []

    def start(config: DoorConfig = CONFIG, act: str = "", turn: str = "guard.beat()") -> Loop:
        loops.append(Loop(config, act, turn))
        return loops[-1]

    yield start
    for loop in loops:
        loop.end()


def is_alive(process: int) -> bool:
    """Whether a process runs; one whose parent has ended is nobody's to wait for."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def with_inputs(inputs: InputsSection, **lock: object) -> DoorConfig:
    return msgspec.structs.replace(CONFIG, inputs=inputs, lock=msgspec.structs.replace(CONFIG.lock, **lock))


def kinds(guard: Guard) -> list[str]:
    return [report.kind for report in guard.reports()]


def test_the_guard_locks_first_opens_for_a_pulse_and_locks_by_itself(board: Board) -> None:
    config = with_inputs(InputsSection(), pulse=0.2)
    heard = []
    with Guard(config) as guard:
        assert guard.fault is None
        assert board.levels(RELAY)[-1] == 0
        # again and again: on a busy machine a pulse may be over before it is heard of
        wait_until(lambda: (guard.unlock(3600.0), heard.extend(kinds(guard)), "unlocked" in heard)[-1])
        wait_until(lambda: (guard.beat(), heard.extend(kinds(guard)), heard[-1] == "locked")[-1])
        assert board.levels(RELAY)[-2:] == [1, 0]
        assert heard == ["locked", "unlocked", "locked"]
        assert guard.fault is None


def test_the_loop_holds_and_releases(board: Board) -> None:
    with Guard(CONFIG) as guard:
        guard.hold()
        wait_until(lambda: board.levels(RELAY)[-1] == 1)
        guard.lock()
        wait_until(lambda: board.levels(RELAY)[-1] == 0)


def test_closing_the_guard_locks_and_ends_it(board: Board) -> None:
    guard = Guard(CONFIG)
    guard.unlock(LONG)
    wait_until(lambda: board.levels(RELAY)[-1] == 1)
    guard.close()
    assert board.levels(RELAY)[-1] == 0
    assert not is_alive(guard._process.pid)
    assert guard.fault == "the lock's guard has ended"
    assert [report.kind for report in guard.reports()][-1] == "locked"
    guard.close()


@pytest.mark.parametrize("act", ["", "guard.unlock(60.0)", "guard.hold()", "guard.unlock(60.0); guard.lock()"])
def test_the_lock_is_locked_after_the_loop_was_killed(act: str, board: Board, loop: Callable[..., Loop]) -> None:
    door = loop(act=act)
    if act and "lock()" not in act:
        wait_until(lambda: board.levels(RELAY)[-1] == 1)
    door.process.kill()
    wait_until(lambda: not is_alive(door.guard))
    assert board.levels(RELAY)[-1] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_guard_that_is_told_to_end_locks_in_the_midst_of_a_pulse(number: int, board: Board) -> None:
    guard = Guard(CONFIG)
    guard.unlock(LONG)
    wait_until(lambda: board.levels(RELAY)[-1] == 1)
    os.kill(guard._process.pid, number)
    wait_until(lambda: not is_alive(guard._process.pid))
    assert board.levels(RELAY)[-1] == 0
    wait_until(lambda: guard.fault is not None)
    guard.close()


def test_a_guard_that_is_killed_is_a_fault_and_the_next_one_locks_first(board: Board) -> None:
    with Guard(CONFIG) as guard:
        guard.unlock(LONG)
        wait_until(lambda: board.levels(RELAY)[-1] == 1)
        guard._process.kill()
        wait_until(lambda: guard.fault is not None)
        assert "the lock may be open" in str(guard.fault)
        wait_until(lambda: (guard.beat(), guard.fault is None)[-1])
        assert board.levels(RELAY)[-1] == 0
        assert len(board.processes(RELAY)) == 2
        assert "fault" in kinds(guard)


def test_a_guard_that_hangs_is_killed_and_the_next_one_locks(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_oneshot_device.door.guard.BEAT_SECONDS", 2.0)
    with Guard(CONFIG) as guard:
        guard.unlock(LONG)
        wait_until(lambda: board.levels(RELAY)[-1] == 1)
        former = guard._process.pid
        os.kill(former, signal.SIGSTOP)
        wait_until(lambda: guard.fault is not None)
        assert "no sign of life" in str(guard.fault)
        wait_until(lambda: (guard.beat(), board.levels(RELAY)[-1] == 0)[-1])
        assert not is_alive(former)
        wait_until(lambda: (guard.beat(), guard.fault is None)[-1])


def test_the_lock_is_locked_while_the_loop_hangs_and_the_exit_button_works(
    board: Board, loop: Callable[..., Loop]
) -> None:
    door = loop(with_inputs(LETS_OUT, pulse=0.2), act="guard.hold()")
    wait_until(lambda: board.levels(RELAY)[-1] == 1)
    door.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: board.levels(RELAY)[-1] == 0)
    before = len(board.levels(RELAY))
    board.close(EXIT)
    wait_until(lambda: board.levels(RELAY)[before:] == [1, 0])


def test_exit_button_and_emergency_release_work_after_the_loop_was_killed(
    board: Board, loop: Callable[..., Loop]
) -> None:
    door = loop(with_inputs(LETS_OUT, pulse=0.2), act="guard.hold()")
    wait_until(lambda: board.levels(RELAY)[-1] == 1)
    door.process.kill()
    wait_until(lambda: board.levels(RELAY)[-1] == 0)
    before = len(board.levels(RELAY))
    board.close(EXIT)
    wait_until(lambda: board.levels(RELAY)[before:] == [1, 0])
    board.close(EMERGENCY)
    wait_until(lambda: board.levels(RELAY)[-1] == 1)
    board.close(EMERGENCY, closed=False)
    wait_until(lambda: board.levels(RELAY)[-1] == 0)


def test_the_emergency_release_holds_the_door_open_from_the_start(board: Board) -> None:
    board.close(EMERGENCY)
    heard = []
    with Guard(with_inputs(LETS_OUT)) as guard:
        wait_until(lambda: board.levels(RELAY)[-1] == 1)
        guard.lock()
        wait_until(lambda: (heard.extend(kinds(guard)), "unlocked" in heard)[-1])
        assert board.levels(RELAY)[-2:] == [0, 1]
        board.close(EMERGENCY, closed=False)
        wait_until(lambda: (heard.extend(kinds(guard)), "emergency_over" in heard and heard[-1] == "locked")[-1])
    assert heard[:3] == ["locked", "emergency", "unlocked"]


def test_a_lock_without_its_board_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "nonesuch")
    guard = Guard(CONFIG)
    assert "could not be locked" in str(guard.fault)
    assert kinds(guard) == ["fault"]
    monkeypatch.setattr("edge_oneshot_device.door.guard.LEAVE_SECONDS", -4.9)  # of waiting for what cannot lock
    guard.close()
    assert "could not lock" in str(guard.fault)
    assert kinds(guard) == ["fault"]


def test_after_loop_and_guard_were_both_killed_the_lock_is_locked_without_them(
    board: Board, loop: Callable[..., Loop]
) -> None:
    door = loop(act="guard.hold()")
    wait_until(lambda: board.levels(RELAY)[-1] == 1)
    os.kill(door.guard, signal.SIGKILL)
    door.process.kill()
    wait_until(lambda: not is_alive(door.guard))
    assert board.levels(RELAY)[-1] == 1  # nobody was left to lock
    program = (
        "import sys, msgspec\nfrom edge_oneshot_device.door.configuration import DoorConfig\n"
        "from edge_oneshot_device.door.guard import lock_now\n"
        "lock_now(msgspec.json.decode(sys.argv[1], type=DoorConfig))"
    )
    subprocess.run([sys.executable, "-c", program, msgspec.json.encode(CONFIG).decode()], check=True)
    assert board.levels(RELAY)[-1] == 0


def test_locking_a_lock_that_does_not_obey_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_oneshot_device.door.guard.LEAVE_SECONDS", 0.1)
    config = DoorConfig(lock=LockSection(kind="webhook"))
    with raises(MachineError, reason="lock_failed", match="could not be locked"):
        lock_now(config)


class Lock:
    waits = False
    open = False

    def unlock(self, seconds: float) -> None:
        assert seconds > 0
        self.open = True

    def lock(self) -> None:
        self.open = False


def test_without_signs_of_life_the_guard_locks_says_so_and_obeys_again_later() -> None:
    lock = Lock()
    watch = Watch(CONFIG, lock, 0.0)
    watch.turn(0.0)
    watch.obey(Command("hold", 1.0), 1.0)
    watch.turn(1.0)
    assert lock.open
    watch.turn(1.0 + BEAT_SECONDS)
    assert lock.open
    reports = watch.turn(1.1 + BEAT_SECONDS)
    assert not lock.open
    assert [report.kind for report in reports] == ["locked", "fault"]
    assert "no sign of life" in watch.faults[0]
    watch.obey(Command("beat", 20.0), 20.0)
    watch.turn(20.0)
    assert not watch.faults
    assert not lock.open
    watch.obey(Command("unlock", 20.0, seconds=1.0), 20.0)
    watch.turn(20.0)
    assert lock.open


@pytest.mark.parametrize("act", ["unlock", "hold"])
@pytest.mark.parametrize("at", [10.0 - STALE_SECONDS - 0.1, 10.1])
def test_a_command_to_open_that_is_late_or_from_the_future_opens_nothing(act: str, at: float) -> None:
    lock = Lock()
    watch = Watch(CONFIG, lock, 10.0)
    watch.obey(Command(act, at, seconds=1000.0), 10.0)  # type: ignore[arg-type]
    watch.turn(10.0)
    assert not lock.open


def test_the_time_under_way_is_part_of_the_pulse() -> None:
    lock = Lock()
    watch = Watch(CONFIG, lock, 10.0)
    watch.obey(Command("unlock", 9.0, seconds=2.0), 10.0)
    watch.turn(10.0)
    assert lock.open
    watch.turn(11.0)
    assert not lock.open


def test_a_guard_that_is_started_again_shows_what_was_shown(board: Board) -> None:
    with Guard(with_inputs(InputsSection(red=RED))) as guard:
        guard.show("refused")
        wait_until(lambda: board.levels(RED)[-1] == 1)
        guard._process.kill()
        wait_until(lambda: guard.fault is not None)
        wait_until(lambda: (guard.beat(), len(board.processes(RED)) == 2 and board.levels(RED)[-1] == 1)[-1])


def test_what_is_no_command_locks(board: Board) -> None:
    with Guard(CONFIG) as guard:
        guard.hold()
        wait_until(lambda: board.levels(RELAY)[-1] == 1)
        guard._write(b'{"act": "open sesame"}')
        wait_until(lambda: board.levels(RELAY)[-1] == 0)
        wait_until(lambda: "no command" in str(guard.fault))
        wait_until(lambda: (guard.beat(), guard.fault is None)[-1])


def test_a_lock_of_no_kind_opens_nothing_and_needs_nothing() -> None:
    watch = Watch(DoorConfig(), NoLock(), 0.0)
    watch.turn(0.0)
    watch.obey(Command("unlock", 0.0, seconds=1.0), 0.0)
    assert [report.kind for report in watch.turn(0.0)] == ["unlocked"]


def test_a_loop_that_runs_keeps_a_hold_for_longer_than_the_limit_of_its_signs_of_life() -> None:
    lock = Lock()
    watch = Watch(CONFIG, lock, 0.0)
    watch.obey(Command("hold", 0.0), 0.0)
    for now in range(30):
        watch.obey(Command("beat", float(now)), float(now))
        watch.turn(float(now))
        assert lock.open

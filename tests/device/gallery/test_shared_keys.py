"""One key file that serves two state folders: no rotation takes a key that a gallery or a backup needs."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from edge_oneshot_device.errors import IntegrityError, MachineError
from edge_oneshot_device.gallery import locking
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key
from edge_oneshot_device.gallery.rotation import rotate_key
from edge_oneshot_device.gallery.transfer import back_up, restore
from tests.raising import raises
from tests.samples.galleries import MINE, SIZE, names

ROUNDS = 30  # of two processes at once
KILLS = 6

ROTATE = """
import os, signal, sys, time
from pathlib import Path
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource
from edge_oneshot_device.gallery.rotation import rotate_key
from edge_oneshot_device.gallery.transfer import back_up

root, own, other, rounds, how = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
key, replace, parent = root / "keys" / "key", Path.replace, os.getppid()

def cut(self, target):
    if Path(target) == key:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)

if how == "cut":
    Path.replace = cut
for number in range(rounds):
    if how == "at once":
        (root / f"{own}-{number}").touch()
        while not (root / f"{other}-{number}").exists():
            if os.getppid() != parent:
                sys.exit("the test has ended")
            time.sleep(0.0005)
    with Gallery.open(root / own / "gallery.db", "a" * 64, 4, KeySource(key)) as gallery:
        print(number, flush=True)
        back_up(gallery, root / "backups" / f"{own}-{number}")
        rotate_key(gallery)
        assert [person.person for person in gallery.people()] == [own]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two state folders with one key."""
    for name in ("one", "two", "keys", "backups"):
        (tmp_path / name).mkdir()
    create_key(tmp_path / "keys" / "key")
    for seed, name in enumerate(("one", "two")):
        with opened(tmp_path, name) as gallery:
            gallery.enrol(name, np.random.default_rng(seed).standard_normal((2, SIZE)).astype(np.float32))
    return tmp_path


@contextmanager
def opened(root: Path, name: str) -> Iterator[Gallery]:
    with Gallery.open(root / name / "gallery.db", MINE, SIZE, KeySource(root / "keys" / "key"), create=True) as gallery:
        yield gallery


def start(root: Path, own: str, other: str, rounds: int, how: str) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", ROTATE, str(root), own, other, str(rounds), how]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def assert_both_open(root: Path) -> None:
    for name in ("one", "two"):
        with opened(root, name) as gallery:
            assert names(gallery) == [name]
            assert gallery.template_cache("cosine", "best").index.people == 1
            assert gallery.check_audit().people == 1


def assert_every_backup_opens(root: Path) -> None:
    """By itself, or with a key that is still there."""
    for file in sorted((root / "backups").iterdir()):
        copy = Path(shutil.copy(file, root / "copy.db"))
        for key in sorted((root / "keys").iterdir()):
            with suppress(IntegrityError), Gallery.open(copy, MINE, SIZE, KeySource(key)) as gallery:
                assert names(gallery) == [file.name.partition("-")[0]]
                break
        else:
            pytest.fail(f"no key opens {file.name} any more")


def test_two_states_that_rotate_at_once_again_and_again_both_open_and_so_does_every_backup(root: Path) -> None:
    processes = [start(root, *names, ROUNDS, "at once") for names in (("one", "two"), ("two", "one"))]
    ends = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    assert len(list((root / "backups").iterdir())) == 2 * ROUNDS
    assert_both_open(root)
    assert_every_backup_opens(root)


def test_a_rotation_that_is_killed_after_its_commit_survives_rotations_of_the_other_state(root: Path) -> None:
    for number in range(3):
        killed = start(root, "one", "two", 1, "cut")
        killed.communicate()
        assert killed.returncode == -signal.SIGKILL
        for _ in range(number):  # none, once and twice
            with opened(root, "two") as gallery:
                back_up(gallery, root / "backups" / f"two-after-{number}")
                rotate_key(gallery)
        assert_both_open(root)
    assert_every_backup_opens(root)


def test_a_state_that_rotates_twice_leaves_the_other_one_its_key(root: Path) -> None:
    with opened(root, "two") as running, opened(root, "one") as gallery:
        for number in range(3):
            back_up(gallery, root / "backups" / f"one-{number}")
            rotate_key(gallery)
            assert names(running) == ["two"]
    assert_both_open(root)
    assert_every_backup_opens(root)


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_rotation_killed_at_any_instant_loses_no_key(root: Path, seed: int) -> None:
    numbers = random.Random(seed)
    process = start(root, "one", "two", 1000, "alone")
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(numbers.uniform(0.0, 0.2))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for leftover in (root / "backups").glob(".*"):
        leftover.unlink()
    with opened(root, "two") as gallery:
        rotate_key(gallery)
    assert_both_open(root)
    assert_every_backup_opens(root)


def test_a_backup_of_any_key_is_restored_by_itself(root: Path) -> None:
    with opened(root, "one") as gallery:
        for number in range(3):
            back_up(gallery, root / "backups" / f"one-{number}")
            rotate_key(gallery)
            with opened(root, "two") as other:
                rotate_key(other)
        for file in sorted((root / "backups").iterdir()):
            assert restore(gallery, file).people == 1
    assert_both_open(root)


def test_a_folder_is_waited_for_while_another_process_is_at_work_in_it_and_free_again_when_that_is_killed(
    tmp_path, monkeypatch
):
    hold = "import fcntl, os, sys, time; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)"
    program = [sys.executable, "-c", f"{hold}; print('held', flush=True); time.sleep(1000)", str(tmp_path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with monkeypatch.context() as patch:
            patch.setattr(locking, "LOCK_SECONDS", 0.1)
            with pytest.raises(MachineError, match="try again") as busy:
                locking.locked(tmp_path).__enter__()
        holder.kill()
    assert busy.value.reason == "folder_busy"
    with locking.locked(tmp_path), raises(MachineError, reason="cannot_read"):
        locking.locked(tmp_path / "absent").__enter__()

"""What counts as a test that hangs: not one that waits for a busy machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILE = """
import os, subprocess, sys, time
import pytest

def busy(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

def child(program):
    subprocess.run([sys.executable, "-c", program], check=True)

def test_child_sleeps(): child("import time; time.sleep(1000)")
def test_looks_again_and_again():
    while not os.path.exists("nothing"): time.sleep(0.02)
def test_child_runs_on(): child("while True: pass")
@pytest.fixture
def slow(): time.sleep(1000)
def test_fixture(slow): pass
def test_fine_again(): pass
def test_child_works_for_longer(): child("for _ in range(30_000_000): pass")
def test_goes_on_after_a_while():
    for _ in range(3):
        time.sleep(0.5)
        busy(0.1)
"""
HANG = {"child_sleeps", "looks_again_and_again", "fixture"}
RUN_ON = {"child_runs_on"}


def test_one_that_sleeps_or_runs_without_end_hangs_and_one_that_works_does_not(tmp_path):
    for name in ("conftest.py", "hangs.py"):
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / "test_it.py").write_text(FILE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--timeout", "1", "-p", "no:cacheprovider", "."]
    env = {**os.environ, "COLUMNS": "300"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    ended = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    told = {line.split("::test_")[1].split(" ")[0]: line for line in ended}
    assert told.keys() == HANG | RUN_ON, done.stdout
    assert all("it hangs: its processes did nothing for 1 s" in told[name] for name in HANG)
    assert all("s of the processor" in told[name] for name in RUN_ON)


@pytest.mark.parametrize(
    ("spent", "ready", "hangs"),
    [
        ([0.0] * 400, [False] * 400, True),
        ([0.0] * 400, [True] * 400, False),  # a busy machine gives it nothing
        ([0.0] * 400, [number % 10 == 0 for number in range(400)], False),
        ([0.01 * number for number in range(400)], [False] * 400, True),  # it looks whether something has come
        ([0.5 * number for number in range(400)], [False] * 400, False),
        ([60.0 * number for number in range(400)], [True] * 400, True),
    ],
)
def test_what_counts_is_what_its_processes_do(monkeypatch, spent, ready, hangs):
    monkeypatch.syspath_prepend(str(HERE))
    import hangs as watching

    watch = watching.Watch(900.0, 0.0)
    found = [watch.hung(one, ready=other) for one, other in zip(spent, ready, strict=True)]
    assert any(found) == hangs

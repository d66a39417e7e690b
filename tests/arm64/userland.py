"""Arm64 userlands of Debian, made and entered on a machine of another kind through qemu: what a Raspberry Pi runs."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PYTHONS: Final = {"bookworm": "3.11", "trixie": "3.13"}
"""Of each Debian that Raspberry Pi OS is made from, its Python."""

CORES: Final = ("cortex-a72", "cortex-a76")
"""Of Raspberry Pi 4 and 5; cores/ has what their kernel says of them."""

# what Raspberry Pi OS has and the device, its installer and its tests use
_PACKAGES: Final = (
    *("base-files", "base-passwd", "bash", "ca-certificates", "coreutils", "dash", "diffutils", "findutils", "grep"),
    *("libc-bin", "libgcc-s1", "libstdc++6", "login", "openssl", "passwd", "sed", "tzdata", "unzip", "util-linux"),
)
_PROGRAMS: Final = {
    "qemu-aarch64-static": "qemu-user-static",
    "mmdebstrap": "mmdebstrap",
    "arch-test": "arch-test",
    "unshare": "util-linux",
}
_ROOM: Final = 2 * 10**9  # two userlands, a device installed in a copy of each, wheels
_WAIT = 'until [ "$(id -u)" = 0 ]; do sleep 0.02; done; exec "$@"'
_NAMESPACES: Final = ("unshare", "--user", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _WAIT, "sh")
_REGISTRY: Final = "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc"


class NotHereError(Exception):
    """This machine cannot make or enter an arm64 userland; the message says why and what to do."""


class StepError(Exception):
    """A step did not do what it has to; the message is one line."""


@dataclass(frozen=True, slots=True)
class Userland:
    """An arm64 Debian in a folder.

    Attributes:
        suite: Which Debian.
        python: Its Python, such as ``3.11``.
        root: The folder.
    """

    suite: str
    python: str
    root: Path


def check_machine(folder: Path) -> None:
    """Check that this machine can make userlands in a folder and enter them.

    Args:
        folder: Where they are kept; it need not exist.

    Raises:
        NotHereError: It cannot.
    """
    for program, package in _PROGRAMS.items():
        if shutil.which(program) is None:
            raise NotHereError(f"{program} is missing: apt-get install {package}")
    if os.geteuid() != 0:
        raise NotHereError("a userland takes root: run it as root, or in a container")
    folder.mkdir(parents=True, exist_ok=True)
    # what lies there is made anew or is what is needed
    free = shutil.disk_usage(folder).free + sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())
    if free < _ROOM:
        raise NotHereError(f"{free / 1e9:.1f} GB free in {folder}, {_ROOM / 1e9:.0f} GB are needed")
    with tempfile.NamedTemporaryFile() as log:
        if _in_namespaces(["sh", "-c", _REGISTRY], Path(log.name), timeout=3600):
            told = last_line(Path(log.name).read_text())
            raise NotHereError(f"no binfmt_misc of one's own ({told}): Linux 6.7 or later is needed")


def make_userland(suite: str, folder: Path) -> Userland:
    """Make a userland from the machine's own apt sources, or take the one that lies there.

    Args:
        suite: bookworm or trixie.
        folder: Where userlands are kept; this one becomes folder/suite.

    Raises:
        NotHereError: The packages are not to be reached.
        StepError: They were, and make no userland.
    """
    python = PYTHONS[suite]
    root, stamp = folder / suite, folder / f"{suite}.stamp"
    packages = [*_PACKAGES, f"python{python}", f"python{python}-venv"]
    if not (stamp.exists() and stamp.read_text().split() == packages):
        stamp.unlink(missing_ok=True)
        shutil.rmtree(root, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mmdebstrap", "--quiet", "--mode=root", "--architectures=arm64", "--variant=extract"]
        command += [f"--include={','.join(packages)}", suite, str(root), _mirror()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            told = last_line(done.stderr)
            raise (NotHereError if "apt-get update" in done.stderr else StepError)(f"no userland of {suite}: {told}")
        # the packages' own scripts do not run
        for name in ("passwd", "group"):
            shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / f"etc/{name}")
        for name in ("etc/systemd/system", "etc/udev/rules.d"):
            (root / name).mkdir(parents=True, exist_ok=True)
        certificates = sorted((root / "usr/share/ca-certificates/mozilla").iterdir())
        (root / "etc/ssl/certs/ca-certificates.crt").write_text("".join(one.read_text() for one in certificates))
        stamp.write_text("\n".join(packages))
    return Userland(suite, python, root)


def copy_userland(userland: Userland, root: Path) -> Userland:
    """A copy to install in, in place of a former one."""
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["cp", "-a", "--reflink=auto", str(userland.root), str(root)], check=True)
    return Userland(userland.suite, userland.python, root)


def run_in(userland: Userland, core: str, site: Path, command: list[str], log: Path, timeout: float) -> int:
    """Run a command in a userland, as its root, on an emulated core.

    Args:
        userland: Where.
        core: One of `CORES`.
        site: A folder that Python finds modules in, read-only; the repository is /repo, read-only as well.
        command: Program and arguments.
        log: What it says goes there.
        timeout: Seconds.

    Returns:
        Its exit code.

    Raises:
        StepError: It took too long.
    """
    enter = str(Path(__file__).with_name("enter.sh"))
    try:
        return _in_namespaces([enter, str(userland.root), core, str(site), *command], log, timeout)
    except subprocess.TimeoutExpired:
        raise StepError(f"more than {timeout:.0f} s passed; {log} tells how far it came") from None


def last_line(text: str) -> str:
    """The last thing that was said."""
    return (text.strip().splitlines() or ["nothing was said"])[-1].strip()


def _in_namespaces(command: list[str], log: Path, timeout: float) -> int:
    """Run a command as root of a user namespace that has all users; other than ``unshare -r``, which has root alone."""
    with (
        log.open("w") as told,
        subprocess.Popen(
            [*_NAMESPACES, *command], stdin=subprocess.DEVNULL, stdout=told, stderr=subprocess.STDOUT
        ) as process,
    ):
        own, theirs = Path("/proc/self/ns/user").readlink(), Path(f"/proc/{process.pid}/ns/user")
        with contextlib.suppress(OSError):  # it ended, and says why
            while theirs.readlink() == own:
                time.sleep(0.01)
            for name in ("gid_map", "uid_map"):
                Path(f"/proc/{process.pid}/{name}").write_text("0 0 65536")
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def _mirror() -> str:
    """Where this machine's own apt gets Debian from."""
    asked = ["$(SITE)", "Created-By: Packages", "Origin: Debian", "Label: Debian"]
    command = ["apt-get", "indextargets", "--format", *asked]
    sites = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if not sites:
        raise NotHereError("apt knows no Debian here: apt-get update")
    return sites[0]

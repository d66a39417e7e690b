"""An archive's way to a device, through the user's own ssh."""

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from edge_oneshot.errors import DeployError

_SSH_FAILED: Final = 255
_WAIT_SECONDS: Final = 20  # for a connection; a host that drops what it is sent is waited for two minutes otherwise
# what install.sh looks at, in the same places
_LOOK: Final = """PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
uname -m; command -v {} || python3 -V 2>/dev/null || echo no Python 3"""


@dataclass(frozen=True, slots=True)
class Deployment:
    """An archive that was installed.

    Attributes:
        host: Where.
        release: Of the archive.
        output: What the installer said.
    """

    host: str
    release: str
    output: str


def check_host(host: str, machine: str, python: str) -> None:
    """See that a device is there, and is one that an archive would be for, before the archive is built.

    Args:
        host: As ssh takes it, such as ``pi@door``.
        machine: As ``uname -m`` has to say there.
        python: The Python that has to be there, such as ``3.13``.

    Raises:
        DeployError: Reason ``host_unreachable``, ``no_ssh`` here, or ``other_device``: another machine, or one without
            that Python.
    """
    done = _ssh(host, _LOOK.format(f"python{python}"), subprocess.DEVNULL)
    if done.returncode == _SSH_FAILED:
        message = f"{host} is not to be reached: {_last(done.stderr)}; see that ssh {host} works without a password"
        raise DeployError(message, reason="host_unreachable")
    found, has = ["nothing", "no Python 3", *done.stdout.splitlines()][-2:]  # a login script may speak before
    if found != machine:
        message = f"{host} is no {machine}: uname -m says {found} there; deploy --machine with what it is"
        raise DeployError(message, reason="other_device")
    if not has.endswith(f"/python{python}"):
        message = f"{host} has no python{python}, but {has}: deploy --python with the version that it has"
        raise DeployError(message, reason="other_device")


def install_on(
    host: str, archive: Path, release: str, arguments: tuple[str, ...] = (), *, sudo: bool = True
) -> Deployment:
    """Send an archive to a device and install it there; install.sh goes back when the door is not fit after it.

    Args:
        host: As ssh takes it, such as ``pi@door``.
        archive: The file.
        release: Its release.
        arguments: Of install.sh.
        sudo: Run install.sh as root.

    Raises:
        DeployError: Reason ``host_unreachable``, or ``not_installed``: install.sh ended with an error.
    """
    where = f"edge-oneshot-{release}"
    install = shlex.join([*(("sudo",) if sudo else ()), "./install.sh", *arguments])
    # one connection: the archive comes in on stdin
    unpack = 'set -e; d=$(mktemp -d); trap "rm -rf $d" EXIT; cd "$d"; tar xzf -'
    script = f"{unpack}; cd {shlex.quote(where)}; {install} 2>&1"
    with archive.open("rb") as content:
        done = _ssh(host, script, content)
    said = done.stdout.strip()
    if done.returncode == _SSH_FAILED:
        message = f"{host} is not to be reached: {_last(done.stderr)}; the archive is {archive}"
        raise DeployError(message, reason="host_unreachable")
    if done.returncode:
        last = (said or done.stderr.strip() or f"it ended with {done.returncode}").splitlines()[-1]
        raise DeployError(f"{host}: {last}", reason="not_installed")
    return Deployment(host, release, said)


def _ssh(host: str, script: str, stdin: IO[bytes] | int) -> "subprocess.CompletedProcess[str]":
    command = ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={_WAIT_SECONDS}", "--", host, script]
    try:  # the user's own ssh and host
        return subprocess.run(command, stdin=stdin, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError as error:
        message = "there is no ssh on this machine: install openssh-client, or take the archive there by hand"
        raise DeployError(message, reason="no_ssh") from error


def _last(stderr: str) -> str:
    return (stderr.strip().splitlines() or ["no answer"])[-1]

"""Install an archive on a device through the user's own ssh."""

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from edge_oneshot.errors import DeployError

_SSH_FAILED: Final = 255
_WAIT_SECONDS: Final = 20  # to connect; without it ssh waits two minutes for a host that drops packets
# the same checks as install.sh, with the same PATH
_LOOK: Final = """PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
uname -m; command -v {} || python3 -V 2>/dev/null || echo no Python 3"""


@dataclass(frozen=True, slots=True)
class Deployment:
    """An archive that was installed.

    Attributes:
        host: The device.
        release: The release of the archive.
        output: What the installer printed.
    """

    host: str
    release: str
    output: str


def check_host(host: str, machine: str, python: str) -> None:
    """Check that a device can be reached and fits an archive, before the archive is built.

    Args:
        host: The device, as ssh names it, such as ``pi@door``.
        machine: What ``uname -m`` has to print there.
        python: The version of Python that has to be there, such as ``3.13``.

    Raises:
        DeployError: Reason ``host_unreachable``; ``no_ssh`` on this machine; or ``other_device``: another machine, or
            one without that Python.
    """
    done = _ssh(host, _LOOK.format(f"python{python}"), subprocess.DEVNULL)
    if done.returncode == _SSH_FAILED:
        message = f"cannot reach {host}: {_last(done.stderr)}; make sure that ssh {host} works without a password"
        raise DeployError(message, reason="host_unreachable")
    found, has = ["nothing", "no Python 3", *done.stdout.splitlines()][-2:]  # a login script may print before
    if found != machine:
        message = f"{host} is not {machine}: uname -m prints {found} there; give its machine with --machine"
        raise DeployError(message, reason="other_device")
    if not has.endswith(f"/python{python}"):
        message = f"{host} has {has}, not python{python}: give its version with --python"
        raise DeployError(message, reason="other_device")


def install_on(
    host: str, archive: Path, release: str, arguments: tuple[str, ...] = (), *, sudo: bool = True
) -> Deployment:
    """Send an archive to a device and install it there. If the door does not work afterwards, install.sh rolls back.

    Args:
        host: The device, as ssh names it, such as ``pi@door``.
        archive: The archive.
        release: The release of the archive.
        arguments: Arguments of install.sh.
        sudo: Whether to run install.sh as root.

    Returns:
        What was installed.

    Raises:
        DeployError: Reason ``host_unreachable``, or ``not_installed``: install.sh ended with an error.
    """
    where = f"edge-oneshot-{release}"
    install = shlex.join([*(("sudo",) if sudo else ()), "./install.sh", *arguments])
    # one connection: the archive arrives on stdin
    unpack = 'set -e; d=$(mktemp -d); trap "rm -rf $d" EXIT; cd "$d"; tar xzf -'
    script = f"{unpack}; cd {shlex.quote(where)}; {install} 2>&1"
    with archive.open("rb") as content:
        done = _ssh(host, script, content)
    said = done.stdout.strip()
    if done.returncode == _SSH_FAILED:
        message = f"cannot reach {host}: {_last(done.stderr)}; the archive is {archive}"
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
        message = "there is no ssh on this machine: install openssh-client, or copy the archive by hand"
        raise DeployError(message, reason="no_ssh") from error


def _last(stderr: str) -> str:
    return (stderr.strip().splitlines() or ["no answer"])[-1]

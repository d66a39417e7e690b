"""An archive's way to a device, through the user's own ssh."""

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_oneshot.errors import DeployError

_SSH_FAILED: Final = 255


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
        done = subprocess.run(  # noqa: S603 (the user's own ssh and host)
            ["ssh", "-o", "BatchMode=yes", "--", host, script],  # noqa: S607
            stdin=content,
            capture_output=True,
            text=True,
            check=False,
        )
    said = done.stdout.strip()
    if done.returncode == _SSH_FAILED:
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise DeployError(f"{host} is not to be reached: {last}; the archive is {archive}", reason="host_unreachable")
    if done.returncode:
        last = (said or done.stderr.strip() or f"it ended with {done.returncode}").splitlines()[-1]
        raise DeployError(f"{host}: {last}", reason="not_installed")
    return Deployment(host, release, said)

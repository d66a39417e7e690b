"""Running the command that prints the key, with bounds on its output and its time."""

import os
import re
import select
import signal
import subprocess
import time
from contextlib import suppress
from typing import Final

from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.gallery.keys import COMMAND

_SECONDS: Final = 30.0
_MAX_BYTES: Final = 4096


def describe(words: tuple[str, ...]) -> str:
    """The command as errors name it: without its arguments, and without a first word that looks like a key."""
    program = "..." if re.fullmatch(r"[0-9a-fA-F]{32,}", words[0]) else words[0]
    return f"the command {program} of {COMMAND}"


def run(words: tuple[str, ...]) -> bytes:
    """The output of the command, at most `_MAX_BYTES`; its standard error is not shown.

    Raises:
        MachineError: Reason ``key_command_failed``: it cannot be run, it failed, took too long or printed too much.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 (the administrator's own command)
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it contains a zero byte"
        raise _failed(words, f"cannot be run: {why}") from error
    assert process.stdout is not None
    with process.stdout:
        try:
            end = time.monotonic() + _SECONDS
            content = _read(process.stdout.fileno(), end, words)
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise _failed(words, "took too long") from error
        finally:
            if process.returncode is None:
                # and whatever it started, while no other process can have its number
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if process.returncode:
        raise _failed(words, f"ended with {process.returncode}")
    return content


def _read(descriptor: int, end: float, words: tuple[str, ...]) -> bytes:
    content = b""
    while True:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise _failed(words, "took too long")
        more = os.read(descriptor, _MAX_BYTES + 1 - len(content))
        if not more:
            return content
        content += more
        if len(content) > _MAX_BYTES:
            raise _failed(words, f"printed more than {_MAX_BYTES} bytes")


def _failed(words: tuple[str, ...], fault: str) -> MachineError:
    return MachineError(f"{describe(words)}, which is to print the key, {fault}", reason="key_command_failed")

"""Saying aloud what the person at the door is asked to do, by a program of the user's such as espeak-ng."""

import contextlib
import shutil
import subprocess
from collections.abc import Sequence
from typing import Self

from edge_oneshot_device.door.second_factor import prompt_text
from edge_oneshot_device.errors import InputError


class Prompter:
    """Runs the program for each new prompt, one at a time: a new prompt ends the one before. A context manager.

    Args:
        command: Program and arguments; ``{prompt}`` stands for the text, ``{code}`` for its code. Empty: nothing is
            said.

    Raises:
        InputError: Reason ``no_program``.
    """

    def __init__(self, command: Sequence[str]) -> None:
        if command and shutil.which(command[0]) is None:
            message = f"second_factor.prompt_command: {command[0]} is no program here; install it, or give its path"
            raise InputError(message, reason="no_program")
        self._command = command
        self._said: str | None = None
        self._running: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """The prompter."""
        return self

    def __exit__(self, *_: object) -> None:
        """Be silent."""
        self._end()

    def say(self, code: str | None) -> None:
        """Say a prompt, unless it is the one that was said last.

        Args:
            code: A code of `prompt_text`; None: nothing is asked.
        """
        if not self._command or code == self._said:
            return
        self._said = code
        self._end()
        if code is None:
            return
        words = [word.replace("{prompt}", prompt_text(code)).replace("{code}", code) for word in self._command]
        null = subprocess.DEVNULL
        with contextlib.suppress(OSError):  # a prompt that is not heard must not stop the door
            self._running = subprocess.Popen(words, stdin=null, stdout=null, stderr=null)  # noqa: S603 (no shell)

    @property
    def is_speaking(self) -> bool:
        """Whether a prompt is being said."""
        return self._running is not None and self._running.poll() is None

    def _end(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._running = None

"""The last stage of the demo: the bundle in use on a device, with the commands that a user would type."""

import contextlib
import io
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot.report.report import CommandResult, SessionStep
from edge_oneshot_device import cli
from edge_oneshot_device.files import write_atomically

TARGET_FAR: Final = 0.05
"""Larger than the smallest that the calibration supports, where an encoder that was trained for a minute or two
would reject too many."""

CHARACTERS: Final = ("ash", "birch", "cedar", "elm", "fir")
STRANGER: Final = "stranger"
_TARGET: Final = ("--target-far", f"{TARGET_FAR:g}")


@dataclass(frozen=True, slots=True)
class SessionPaths:
    """The paths of the session, as they stand in the commands."""

    bundle: Path
    images: Path
    state: Path
    key: Path


def write_drawings(folder: Path, alphabets: Sequence[NDArray[np.uint8]]) -> None:
    """Write the drawings of the session: each character by three drawers, and a stranger by one.

    Args:
        folder: An existing folder.
        alphabets: Each uint8 (characters, drawers, h, w), ink 0 on paper 255. The first character is taken from
            the first alphabet, the second from the second, and so on.
    """
    for number, name in enumerate((*CHARACTERS, STRANGER)):
        drawings = alphabets[number % len(alphabets)][number]
        for drawer in (2,) if name == STRANGER else (1, 2, 3):
            buffer = io.BytesIO()
            Image.fromarray(drawings[drawer - 1]).save(buffer, "PNG", optimize=True)
            write_atomically(folder / file_name(name, drawer), buffer.getvalue())


def run_session(paths: SessionPaths) -> tuple[SessionStep, ...]:
    """Install the bundle, enrol from one drawing each, verify, identify, forget.

    Each command runs as the program runs it, and its step holds the outcome, right or wrong.
    """
    return tuple(_run(paths, *line) for line in _script(paths))


def _script(paths: SessionPaths) -> list[tuple[str, list[str], str | None, int]]:
    """Of each command its caption, its words, the drawing that it is given, and the expected exit code."""
    first, second, third, *_, last = CHARACTERS
    return [
        ("Check the bundle, run its self-test, and install it.", ["init", str(paths.bundle), *_TARGET], None, 0),
        *((f"Enrol {name} from one drawing.", ["enrol", name], file_name(name, 1), 0) for name in CHARACTERS),
        ("Who is enrolled?", ["people"], None, 0),
        (f"Is this {first}? It is, by another drawer.", ["verify", first], file_name(first, 2), 0),
        (f"Is this {second}? It is {first} again.", ["verify", second], file_name(first, 2), 1),
        *(
            (f"Which one is this? It is {name}, by another drawer.", ["identify"], file_name(name, 2), 0)
            for name in (second, third, last)
        ),
        ("Which one is this? None of them: it was never enrolled.", ["identify"], file_name(STRANGER, 2), 1),
        (f"Add a second drawing of {second}.", ["enrol", "--add", second], file_name(second, 2), 0),
        (f"Which one is this? It is {second}, by a third drawer.", ["identify"], file_name(second, 3), 0),
        (f"Forget {last}.", ["forget", last], None, 0),
        (f"The drawing of {last} again, after it was forgotten.", ["identify"], file_name(last, 2), 1),
    ]


def _run(paths: SessionPaths, caption: str, words: list[str], drawing: str | None, expected: int) -> SessionStep:
    path = None if drawing is None else paths.images / drawing
    arguments = [*words, *([] if path is None else [str(path)]), "--state", str(paths.state), "--key", str(paths.key)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = cli.main(arguments)
    command = shlex.join([cli.PROGRAM, *arguments])
    result = CommandResult(command, code, expected, printed.getvalue().rstrip())
    return SessionStep(caption, result, None if path is None else path.read_bytes())


def file_name(name: str, drawer: int) -> str:
    """File name of a drawing; the first drawer's is the one that is enrolled.

    Args:
        name: Name of the character.
        drawer: Number of the drawer, from 1 on.
    """
    return f"{name}.png" if name == STRANGER else f"{name}-{drawer}.png"

"""The demo's last part: the bundle in use on a device, command by command, as a user would type them."""

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

from edge_oneshot.report.report import Step
from edge_oneshot_device import cli
from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.gallery.reserve import RESERVE
from edge_oneshot_device.state.bundle_files import remove_bundles
from edge_oneshot_device.state.folder import GALLERY

TARGET_FAR: Final = 0.05
"""Looser than the smallest that the calibration supports: an encoder trained for a minute or two
would turn too many away there."""

CHARACTERS: Final = ("ash", "birch", "cedar", "elm", "fir")
STRANGER: Final = "stranger"
_TARGET: Final = ("--target-far", f"{TARGET_FAR:g}")


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the session's files lie, as they stand in the commands."""

    bundle: Path
    images: Path
    state: Path
    key: Path


def write_drawings(folder: Path, alphabets: Sequence[NDArray[np.uint8]]) -> None:
    """Write the drawings of the session: a few hands of each character, and one of a stranger.

    Args:
        folder: Where; it exists.
        alphabets: Each uint8 (characters, drawers, h, w), ink 0 on paper 255. The characters
            are taken by turns: the first of the first, the second of the second, and so on.
    """
    for number, name in enumerate((*CHARACTERS, STRANGER)):
        drawings = alphabets[number % len(alphabets)][number]
        for hand in (2,) if name == STRANGER else (1, 2, 3):
            buffer = io.BytesIO()
            Image.fromarray(drawings[hand - 1]).save(buffer, "PNG", optimize=True)
            write_atomically(folder / file_name(name, hand), buffer.getvalue())


def clear_state(paths: Paths) -> None:
    """Remove the state and the key that an earlier session left; anything else stays.

    Raises:
        MachineError: It cannot be removed.
    """
    folder = paths.state
    names = (GALLERY, f"{GALLERY}-journal", RESERVE)
    try:
        for path in [paths.key, *(folder / name for name in names)]:
            path.unlink(missing_ok=True)
        if folder.is_dir():
            remove_bundles(folder, keep=())
    except OSError as error:
        raise MachineError(f"cannot clear {folder}: {error.strerror}", reason="cannot_write") from error


def run_session(paths: Paths) -> tuple[Step, ...]:
    """Install the bundle, enrol from one drawing each, verify, identify, forget.

    Every command is run as the program runs it. What it answers stands in the steps, right or wrong.
    """
    return tuple(_run(paths, *line) for line in _script(paths))


def _script(paths: Paths) -> list[tuple[str, list[str], str | None, int]]:
    """What each command shows, its words, the drawing it is given, and the exit code to expect."""
    first, second, third, *_, last = CHARACTERS
    return [
        ("Check the bundle, run its self-test, put it in use.", ["init", str(paths.bundle), *_TARGET], None, 0),
        *((f"Enrol {name} from one drawing.", ["enrol", name], file_name(name, 1), 0) for name in CHARACTERS),
        ("Who is enrolled?", ["people"], None, 0),
        (f"Is this {first}? It is, by another hand.", ["verify", first], file_name(first, 2), 0),
        (f"Is this {second}? It is {first} again.", ["verify", second], file_name(first, 2), 1),
        *(
            (f"Which one is this? It is {name}, by another hand.", ["identify"], file_name(name, 2), 0)
            for name in (second, third, last)
        ),
        ("Which one is this? None of them: it was never enrolled.", ["identify"], file_name(STRANGER, 2), 1),
        (f"A second drawing of {second} helps: add it.", ["enrol", "--add", second], file_name(second, 2), 0),
        (f"Which one is this? It is {second}, by a third hand.", ["identify"], file_name(second, 3), 0),
        (f"Forget {last}.", ["forget", last], None, 0),
        (f"The drawing of {last} once more, now that it is forgotten.", ["identify"], file_name(last, 2), 1),
    ]


def _run(paths: Paths, says: str, words: list[str], drawing: str | None, expected: int) -> Step:
    path = None if drawing is None else paths.images / drawing
    arguments = [*words, *([] if path is None else [str(path)]), "--state", str(paths.state), "--key", str(paths.key)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = cli.main(arguments)
    return Step(
        command=shlex.join([cli.PROGRAM, *arguments]),
        output=printed.getvalue().rstrip(),
        exit_code=code,
        expected=expected,
        image=None if path is None else path.read_bytes(),
        says=says,
    )


def file_name(name: str, hand: int) -> str:
    """Name of a drawing's file: the first hand's was enrolled."""
    return f"{name}.png" if name == STRANGER else f"{name}-{hand}.png"

"""The last stage of the demo: the bundle in use on a device, with the commands that a user would type."""

import contextlib
import io
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_oneshot.demo.subject import Fresh, Subject
from edge_oneshot.report.report import CommandResult, SessionStep
from edge_oneshot.report.terms import Terms
from edge_oneshot_device import cli
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.files import write_atomically

TARGET_FAR: Final = 0.05
"""Larger than the smallest that the calibration supports, where an encoder that was trained for a minute or two
would reject too many."""

_TARGET: Final = ("--target-far", f"{TARGET_FAR:g}")


@dataclass(frozen=True, slots=True)
class SessionPaths:
    """The paths of the session, as they stand in the commands."""

    bundle: Path
    samples: Path
    state: Path
    key: Path


@dataclass(frozen=True, slots=True)
class _Line:
    """A command: what it shows, its words, the file that it is given, and the expected exit code."""

    caption: str
    words: tuple[str, ...]
    file: str | None
    expected: int


def write_samples(folder: Path, fresh: Fresh, suffix: str) -> None:
    """Write the files of the session: each name by three makers, and a stranger by one.

    Args:
        folder: An existing folder.
        fresh: The files.
        suffix: Of their names.
    """
    for name, contents in fresh.enrolled.items():
        for maker, content in enumerate(contents, start=1):
            write_atomically(folder / file_name(name, maker, suffix), content)
    write_atomically(folder / f"{fresh.stranger}{suffix}", fresh.unknown)


def run_session(paths: SessionPaths, subject: Subject, fresh: Fresh, section: InputSection) -> tuple[SessionStep, ...]:
    """Install the bundle, enrol from one sample each, verify, identify, forget.

    Each command runs as the program runs it, and its step holds the outcome, right or wrong.

    Args:
        paths: Where everything lies; the files are there.
        subject: What the samples are.
        fresh: Whom they are of.
        section: The encoder's input, for the pictures of the samples.
    """
    lines = _script(str(paths.bundle), tuple(fresh.enrolled), fresh.stranger, subject.suffix, subject.terms)
    return tuple(_run(paths, subject, section, line) for line in lines)


def _script(bundle: str, names: tuple[str, ...], stranger: str, suffix: str, terms: Terms) -> list[_Line]:
    first, second, third, *_, last = names
    sample, another = terms.sample, f"by another {terms.maker}"

    def file(name: str, maker: int) -> str:
        return file_name(name, maker, suffix)

    return [
        _Line("Check the bundle, run its self-test, and install it.", ("init", bundle, *_TARGET), None, 0),
        *(_Line(f"Enrol {name} from one {sample}.", ("enrol", name), file(name, 1), 0) for name in names),
        _Line("Who is enrolled?", ("people",), None, 0),
        _Line(f"Is this {first}? It is, {another}.", ("verify", first), file(first, 2), 0),
        _Line(f"Is this {second}? It is {first} again.", ("verify", second), file(first, 2), 1),
        *(
            _Line(f"Which one is this? It is {name}, {another}.", ("identify",), file(name, 2), 0)
            for name in (second, third, last)
        ),
        _Line("Which one is this? None of them: it was never enrolled.", ("identify",), f"{stranger}{suffix}", 1),
        _Line(f"Add a second {sample} of {second}.", ("enrol", "--add", second), file(second, 2), 0),
        _Line(f"Which one is this? It is {second}, by a third {terms.maker}.", ("identify",), file(second, 3), 0),
        _Line(f"Forget {last}.", ("forget", last), None, 0),
        _Line(f"The {sample} of {last} again, after it was forgotten.", ("identify",), file(last, 2), 1),
    ]


def _run(paths: SessionPaths, subject: Subject, section: InputSection, line: _Line) -> SessionStep:
    path = None if line.file is None else paths.samples / line.file
    given = [] if path is None else [str(path)]
    arguments = [*line.words, *given, "--state", str(paths.state), "--key", str(paths.key)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = cli.main(arguments)
    command = shlex.join([cli.PROGRAM, *arguments])
    result = CommandResult(command, code, line.expected, printed.getvalue().rstrip())
    if path is None:
        return SessionStep(line.caption, result, None)
    content = path.read_bytes()
    sound = content if subject.terms.spoken else None
    return SessionStep(line.caption, result, subject.picture(content, section), sound)


def file_name(name: str, maker: int, suffix: str) -> str:
    """Name of a file of the session; the first maker's is the one that is enrolled.

    Args:
        name: Of what is enrolled.
        maker: Number of who made it, from 1 on.
        suffix: Of the file.
    """
    return f"{name}-{maker}{suffix}"

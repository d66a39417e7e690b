r"""What the command lines of both programs share: parsing, printing, exit codes, one-line errors.

A program looks like this::

    def main(argv: Sequence[str] | None = None) -> int:
        return console.run(lambda: _main(argv), as_json=console.wants_json(argv))

    def _main(argv: Sequence[str] | None) -> int:
        arguments = _parser().parse_args(argv)      # a console.Parser; console.add_json(subparser)
        decision = ...
        console.print_result(decision, arguments.json, f"accepted {decision.person}")
        return 0 if decision.accepted else 1        # None counts as 0

It is called as ``sys.exit(main())``. An exception in `_main` becomes one line on stderr and an exit code (see `run`).

File names may hold bytes that are not UTF-8, which Python keeps as surrogates. Text and JSON show them as backslash
escapes: the folder ``caf\xe9`` in Latin-1 is ``caf\udce9``. So every result can be printed, and JSON is always valid
UTF-8. See `edge_oneshot_device.text.spelt_out`.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, NamedTuple, NoReturn, TextIO

import msgspec

from edge_oneshot_device.errors import InputError, OneShotError
from edge_oneshot_device.text import one_line, printable, spelt_out

MACHINE_FAILED = 4
INTERRUPTED = 130
# as the shell reports a SIGPIPE; not 0, which would mean "accepted"
PIPE_CLOSED = 141

EXIT_CODES: Final = """exit codes:
  0  done, or accepted
  1  rejected or unknown
  2  wrong use or bad input
  3  refused for integrity or security
  4  the machine failed, and nothing was changed"""

# words that people try, and the command that they mean
_MEANT: Final = {
    "enroll": "enrol", "add": "enrol", "register": "enrol", "delete": "forget", "remove": "forget", "list": "people",
    "users": "people", "install": "init", "recognize": "identify", "recognise": "identify", "log": "audit",
    "check": "doctor", "status": "doctor", "benchmark": "bench", "info": "inspect", "show": "inspect",
    "test": "evaluate", "eval": "evaluate", "convert": "export", "sign": "keygen", "calibration": "calibrate",
    "fit": "train",
}  # fmt: skip


class HelpText(NamedTuple):
    """What ``--help`` of a command says besides its options: a description, and examples without the program's name."""

    description: str
    examples: tuple[str, ...]


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `InputError` on wrong use and accepts no abbreviations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise the wrong use as one line."""
        raise InputError(f"{message}; see {self.prog} --help", reason="wrong_use")


def explain(parser: argparse.ArgumentParser, program: str, text: HelpText) -> None:
    """Give the ``--help`` of a command its description, examples and exit codes.

    Args:
        parser: The parser of the command.
        program: The name of the program, which stands before each example.
        text: The description and the examples.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = text.description
    parser.epilog = "\n".join(["examples:", *(f"  {program} {example}" for example in text.examples), "", EXIT_CODES])


def group_commands(
    parser: argparse.ArgumentParser, texts: Mapping[str, str], groups: Mapping[str, Collection[str]]
) -> None:
    """Give the ``--help`` of a program a list of its commands in groups.

    Args:
        parser: The parser of the program; its subcommands have no help of their own.
        texts: One line for each command.
        groups: Names of commands by the heading of their group.
    """
    width = max(map(len, texts)) + 2
    lines = []
    for what, names in groups.items():
        lines += [f"{what}:", *(f"  {name:{width}}{texts[name]}" for name in names), ""]
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = f"{parser.prog} COMMAND ..."
    parser.epilog = "\n".join([*lines, f"{parser.prog} COMMAND --help describes a command.", "", EXIT_CODES])


def check_command(argv: Sequence[str], commands: Collection[str], program: str) -> None:
    """Refuse a first word that is neither a command nor an option.

    Args:
        argv: The words of the command line.
        commands: The names of the commands.
        program: The name of the program.

    Raises:
        InputError: Reason ``wrong_use``; the message suggests a command.
    """
    if not argv or argv[0].startswith("-") or argv[0] in commands:
        return
    meant = _MEANT.get(argv[0].lower(), "")
    if meant not in commands:
        meant = next(iter(get_close_matches(argv[0].lower(), commands, 1)), "")
    hint = f"did you mean {meant}?" if meant else f"choose from {', '.join(commands)}"
    raise InputError(f"unknown command {printable(argv[0])[:40]!r} ({hint}); see {program} --help", reason="wrong_use")


def number(text: str) -> float:
    """The type of an argument that is a number."""
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error


def whole_number(text: str) -> int:
    """The type of an argument that is a whole number."""
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from error


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--json`` (attribute `json`) to a subcommand's parser."""
    parser.add_argument("--json", action="store_true", help="print the result, or the error, as JSON")


def wants_json(argv: Sequence[str] | None = None) -> bool:
    """Whether ``--json`` is among the arguments; they are not parsed, so that errors in them can be JSON as well."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--" in arguments:
        arguments = arguments[: arguments.index("--")]
    return "--json" in arguments


def print_result(value: object, as_json: bool, text: str) -> None:
    """Print a command's result to stdout.

    Args:
        value: A dataclass or msgspec struct of plain Python values, or a list of them.
        as_json: Print `value` as one line of JSON instead of `text`.
        text: The result for a person; nothing is printed when it is empty.
    """
    if as_json:
        print(_json(value, sys.stdout))
    elif text:
        print(text)


def read_secret(name: str) -> str:
    """A secret that is typed twice, unseen; or a line of stdin where that is no terminal.

    Args:
        name: What it is, for the prompt.

    Raises:
        InputError: Reason ``wrong_use``: both times differ, or there is none.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        # shorter than what fills the memory; no secret of ours is that long
        typed = again = "" if sys.stdin is None else sys.stdin.readline(1000).rstrip("\r\n")
    else:
        import getpass

        typed, again = getpass.getpass(f"{name}: "), getpass.getpass(f"{name} again: ")
    if typed != again:
        raise InputError(f"the {name} was not the same both times: run the command again", reason="wrong_use")
    if not typed:
        raise InputError(f"there is no {name}: type it, or write it to stdin", reason="wrong_use")
    return typed


def run(main: Callable[[], int | None], *, as_json: bool = False) -> int:
    """Run a command and turn its errors into exit codes.

    An `OneShotError` has its own exit code. Ctrl-C gives 130, a closed pipe 141, and everything else (a full disk, no
    memory, a bug) 4. The error is one line on stderr, or with `as_json` an object with the keys error and reason. The
    environment variable EDGE_ONESHOT_DEBUG=1 adds the traceback.

    Args:
        main: Returns the exit code; None counts as 0.
        as_json: Print errors as JSON.

    Returns:
        The exit code, for `sys.exit`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a name that the terminal cannot show must not end the command
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _call(main)
    except BrokenPipeError:
        code = PIPE_CLOSED
    except KeyboardInterrupt:
        code = _report("interrupted", "interrupted", INTERRUPTED, as_json)
    except OneShotError as error:
        code = _report(str(error), error.reason, error.exit_code, as_json)
    except MemoryError:
        code = _report("out of memory; free some and try again", "out_of_memory", MACHINE_FAILED, as_json)
    except OSError as error:
        code = _report(_describe(error), "machine", MACHINE_FAILED, as_json)
    except Exception as error:  # the last resort: a bug must not look like a rejection (exit code 1)
        library = _unloadable(error)
        if library is None:
            message = f"internal error: {type(error).__name__}: {error}; please report it"
            code = _report(message, "bug", MACHINE_FAILED, as_json)
        else:
            message = f"{library}; install the system package that contains it, or install this program again"
            code = _report(message, "library_missing", MACHINE_FAILED, as_json)
    _flush(sys.stdout)
    _flush(sys.stderr)
    return code


def ask_to_speak() -> None:
    """Tell whoever is at the terminal that the microphone is open."""
    if sys.stderr is not None and sys.stderr.isatty():
        print("speak now", file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress(noun: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal: yields a function of the number done and the total."""
    shown = sys.stderr is not None and sys.stderr.isatty()

    def report(done: int, total: int) -> None:
        if shown:
            filled = 30 * done // max(total, 1)
            bar = "#" * filled + "." * (30 - filled)
            print(f"\r{bar} {done} of {total} {noun}", end="", file=sys.stderr, flush=True)

    try:
        yield report
    finally:
        if shown:
            print(file=sys.stderr)


def _json(value: object, stream: TextIO | None) -> str:
    """A line of JSON in the encoding of the stream: ASCII only where that is not UTF-8."""
    try:
        text = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        text = msgspec.json.encode(spelt_out(msgspec.to_builtins(value))).decode()
    if text.isascii() or (getattr(stream, "encoding", None) or "utf-8").lower() in ("utf-8", "utf8"):
        return text
    # only strings hold characters beyond ASCII
    return "".join(character if character.isascii() else json.dumps(character)[1:-1] for character in text)


def _call(main: Callable[[], int | None]) -> int:
    try:
        code = main()
    except SystemExit as stop:  # argparse: --help, --version
        code = stop.code if isinstance(stop.code, int | None) else MACHINE_FAILED
    if sys.stdout is not None:
        sys.stdout.flush()  # here, where a full disk can still be reported
    return code or 0


def _report(message: str, reason: str, code: int, as_json: bool) -> int:
    if sys.stderr is None:
        return code
    if os.environ.get("EDGE_ONESHOT_DEBUG") == "1":
        traceback.print_exc()
    line = one_line(message)
    with contextlib.suppress(OSError):  # where nobody reads stderr, the exit code remains
        print(_json({"error": line, "reason": reason}, sys.stderr) if as_json else line, file=sys.stderr)
    return code


def _unloadable(error: BaseException) -> str | None:
    """The loader's message where the compiled part of a package, or a library that it needs, is missing or broken."""
    while error.__cause__ is not None:  # numpy wraps it in a long message
        error = error.__cause__
    return str(error) if isinstance(error, ImportError) and (error.path or "").endswith(".so") else None


def _describe(error: OSError) -> str:
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([*names, error.strerror or str(error) or type(error).__name__])


def _flush(stream: TextIO | None) -> None:
    """Flush a stream; what cannot be written is dropped, so that Python's own flush at exit is silent."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)

"""Shell completion of both programs, by scripts that a shell loads once; no program runs while somebody types."""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import shtab

from edge_oneshot_device import cli as device_cli

Shell = Literal["bash", "zsh"]
SHELLS: Final[tuple[Shell, ...]] = ("bash", "zsh")


@dataclass(frozen=True, slots=True)
class Completion:
    """The result of ``completion --json``.

    Attributes:
        shell: The shell that reads the script.
        script: The script, for both programs.
    """

    shell: Shell
    script: str


def complete_both(workstation: argparse.ArgumentParser, shell: Shell) -> Completion:
    """The script that completes both programs.

    Args:
        workstation: The parser of `edge-oneshot`.
        shell: The shell that reads the script.
    """
    return Completion(shell, f"{_script(workstation, shell)}\n{complete_device(shell)}")


def complete_device(shell: Shell) -> str:
    """The script that completes `edge-oneshot-device` alone."""
    return _script(device_cli.make_parser(), shell)


def _script(parser: argparse.ArgumentParser, shell: Shell) -> str:
    script: str = shtab.complete(_as_shtab_reads_it(parser), shell)
    return f"{script}\n"


def _as_shtab_reads_it(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The same program, with its commands listed as argparse does: our help lists them in groups, which hides them."""
    plain = argparse.ArgumentParser(prog=parser.prog)
    plain.add_argument("--version", action="store_true", help="print the version and leave")
    listed = plain.add_subparsers()
    (commands,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        text = " ".join((command.description or "").split()).partition(". ")[0].rstrip(".")
        listed.add_parser(name, parents=[command], add_help=False, help=text, description=text)
        for action in command._actions:
            what = _completes(action)
            if what is not None:
                action.complete = what
    return plain


def _completes(action: argparse.Action) -> "shtab.CompleteType | None":
    """The kind of files that an argument takes, by its name in the help."""
    called = str(action.metavar or action.dest.upper())
    patterns = [f"*.{suffix}" for suffix in dict.fromkeys(re.findall(r"[A-Z]\.([a-z.]+)", called))]
    if patterns:
        # zsh takes the parentheses that shtab puts around a single pattern for its own qualifiers
        return {**shtab.glob(*patterns), "zsh": f"_files -g '{' '.join(patterns)}'"}
    if called in ("DIR", "RUN"):
        return shtab.DIRECTORY
    return shtab.FILE if action.type is Path or called in ("DATA", "FILE", "IMAGE", "KEY") else None

"""The workstation's program explains itself, and says what may have been meant."""

import re
import shlex
import subprocess
import sys

import pytest

from edge_oneshot import __version__, cli
from edge_oneshot.presentation.help_texts import GROUPS, HELP


def test_the_help_groups_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    named = re.findall(r"^  ([a-z]+)  ", shown, re.MULTILINE)
    assert named == [name for names in GROUPS.values() for name in names]
    assert sorted(named) == sorted(HELP)
    assert "  2  wrong use or bad input" in shown


@pytest.mark.parametrize("name", HELP)
def test_every_command_has_a_description_examples_and_exit_codes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: edge-oneshot {name}")
    assert HELP[name].description in shown
    assert f"examples:\n  edge-oneshot {name}" in shown
    assert "exit codes:" in shown
    for example in HELP[name].examples:
        cli.make_parser().parse_args(shlex.split(example))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trian"], "unknown command 'trian' (did you mean train?); see edge-oneshot --help"),
        (["convert"], "did you mean export?"),
        (["enroll"], "choose from demo, train, "),
        (["train", "x", "--out", "r", "--minutes", "long"], "argument --minutes: 'long' is not a number"),
        (["train", "x", "--out", "r", "--batch", "big"], "argument --batch: 'big' is not a whole number"),
        (["train", "x", "--out", "r", "--minutes", "-1"], "--minutes -1.0: must be above 0 and at most 525600"),
        (["export", "--model", "m", "--out", "o", "--mean", "a,b"], "argument --mean: 'a' is not a number"),
    ],
)
def test_wrong_arguments_are_reported(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert told in capsys.readouterr().err


def test_the_package_is_a_program_too() -> None:
    command = [sys.executable, "-m", "edge_oneshot", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"edge-oneshot {__version__}\n"

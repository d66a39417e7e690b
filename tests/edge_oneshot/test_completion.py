"""What bash completes, asked of bash itself, and zsh where it is installed."""

import shutil
import subprocess
from pathlib import Path

import pytest

from edge_oneshot import cli
from edge_oneshot.completion import complete_both
from edge_oneshot.presentation.help_texts import HELP
from edge_oneshot_device.presentation.help_texts import HELP as DEVICE_HELP

ASK = """. ./script; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
set -- $(complete -p "$1"); eval "${@: -2:1}"; printf '%s\\n' "${COMPREPLY[@]}" """


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files to complete, and the script."""
    for name in ("door.oneshot", "ada.png", "door.key.pub", "model.tflite"):
        (tmp_path / name).touch()
    (tmp_path / "photos").mkdir()
    (tmp_path / "script").write_text(complete_both(cli.make_parser(), "bash").script)
    return tmp_path


def bash_completes(folder: Path, *words: str) -> set[str]:
    command = ["bash", "--norc", "-c", ASK, "bash", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (("edge-oneshot", "ev"), {"evaluate"}),
        (("edge-oneshot", "evaluate", ""), {"door.oneshot", "photos"}),
        (("edge-oneshot", "evaluate", "door.oneshot", "--protocol", "l"), {"lake", "lfw"}),
        (("edge-oneshot", "preflight", "m"), {"model.tflite"}),
        (("edge-oneshot", "train", "--out", ""), {"photos"}),
        (("edge-oneshot", "completion", ""), {"bash", "zsh"}),
        (("edge-oneshot-device", "init", "d"), {"door.oneshot"}),
        (("edge-oneshot-device", "init", "door.oneshot", "--tr"), {"--trust"}),
        (("edge-oneshot-device", "init", "door.oneshot", "--trust", "d"), {"door.key.pub"}),
        (("edge-oneshot-device", "enrol", "ada", "a"), {"ada.png"}),
        (("edge-oneshot-device", "enrol", "--folder", ""), {"photos"}),
        (("edge-oneshot-device", "--state", "photos", "ver"), {"verify"}),
        (("edge-oneshot-device", "people", "e"), {"export"}),
    ],
)
def test_bash_completes_words_and_files(folder: Path, line: tuple[str, ...], found: set[str]) -> None:
    assert bash_completes(folder, *line) == found


def test_bash_offers_every_command_of_both_programs(folder: Path) -> None:
    assert bash_completes(folder, "edge-oneshot", "") == set(HELP)
    assert bash_completes(folder, "edge-oneshot-device", "") == set(DEVICE_HELP)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_registers_both_programs(tmp_path: Path) -> None:
    (tmp_path / "script").write_text(complete_both(cli.make_parser(), "zsh").script)
    script = (
        'autoload -U compinit; compinit -D; eval "$(<script)"; print $_comps[edge-oneshot] $_comps[edge-oneshot-device]'
    )
    done = subprocess.run(["zsh", "-f", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("_shtab_edge_oneshot _shtab_edge_oneshot_device\n", "")


def test_zsh_gets_patterns_that_are_no_qualifiers() -> None:
    assert "_files -g '*.oneshot'" in complete_both(cli.make_parser(), "zsh").script
    assert "_files -g '*.oneshot *.json'" in complete_both(cli.make_parser(), "zsh").script
    assert "-g '(" not in complete_both(cli.make_parser(), "zsh").script


def test_the_command_prints_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == f"{complete_both(cli.make_parser(), 'bash').script}\n"

"""The console: results on stdout, errors as one line on stderr, exit codes as the design says."""

import dataclasses
import io
import json
import subprocess
import sys

import pytest

from edge_oneshot_device import console
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    person: str | None
    score: float


def fail(error: BaseException):
    def main() -> int:
        raise error

    return main


def test_the_code_of_a_command_is_its_own(capsys):
    assert console.run(lambda: None) == 0
    assert console.run(lambda: 0) == 0
    assert console.run(lambda: 1) == 1
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "line", "reason"),
    [
        (InputError("a is wrong", reason="wrong_use"), 2, "a is wrong", "wrong_use"),
        (IntegrityError("b was altered", reason="bad_manifest"), 3, "b was altered", "bad_manifest"),
        (MachineError("disk full", reason="cannot_write"), 4, "disk full", "cannot_write"),
        (KeyboardInterrupt(), 130, "interrupted", "interrupted"),
        (MemoryError(), 4, "out of memory; free some and try again", "out_of_memory"),
        (OSError(28, "No space left on device", "/x"), 4, "/x: No space left on device", "machine"),
        (OSError(18, "Cross-device link", "/x", None, "/y"), 4, "/x: /y: Cross-device link", "machine"),
        (OSError("odd"), 4, "odd", "machine"),
        (OSError(), 4, "OSError", "machine"),
        (ValueError("bad"), 4, "internal error: ValueError: bad; please report it", "bug"),
        (RecursionError("deep"), 4, "internal error: RecursionError: deep; please report it", "bug"),
        (AssertionError(), 4, "internal error: AssertionError: ; please report it", "bug"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_its_exit_code(capsys, error, code, line, reason):
    assert console.run(fail(error)) == code
    assert capsys.readouterr() == ("", f"{line}\n")
    assert console.run(fail(error), as_json=True) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert json.loads(err) == {"error": line, "reason": reason}


def test_a_library_that_does_not_load_is_named_however_it_is_told(capsys):
    told = ImportError("many lines")
    told.__cause__ = ImportError("libstdc++.so.6: cannot open shared object file", name="_core", path="/x/_core.so")
    assert console.run(fail(told), as_json=True) == 4
    error = json.loads(capsys.readouterr().err)
    assert error["reason"] == "library_missing"
    assert error["error"].startswith("libstdc++.so.6: cannot open shared object file; install the system package")
    assert console.run(fail(ImportError("cannot import name 'x'", name="x", path="/x.py")), as_json=True) == 4
    assert json.loads(capsys.readouterr().err)["reason"] == "bug"


def test_line_breaks_and_escapes_in_an_error_are_no_threat_to_the_terminal(capsys):
    console.run(fail(InputError("two\nlines\r\n and \x1b[31m red \x00 \u202e \udcff end", reason="x")))
    assert capsys.readouterr().err == "two lines and \\x1b[31m red \\x00 \\u202e \\udcff end\n"


def test_a_debugging_user_gets_the_traceback_before_the_line(capsys, monkeypatch):
    monkeypatch.setenv("EDGE_ONESHOT_DEBUG", "1")
    assert console.run(fail(ValueError("bad"))) == 4
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith("\ninternal error: ValueError: bad; please report it\n")


def test_help_and_version_end_with_0(capsys):
    parser = console.Parser(prog="prog")
    parser.add_argument("--version", action="version", version="prog 1.0")
    assert console.run(lambda: parser.parse_args(["--help"]) and 9) == 0
    assert capsys.readouterr().out.startswith("usage: prog")
    assert console.run(lambda: parser.parse_args(["--version"]) and 9) == 0
    assert capsys.readouterr().out == "prog 1.0\n"


def small_parser() -> console.Parser:
    parser = console.Parser(prog="prog")
    commands = parser.add_subparsers(dest="command", required=True)
    verify = commands.add_parser("verify")
    verify.add_argument("person")
    verify.add_argument("--threads", type=console.whole_number)
    console.add_json(verify)
    return parser


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command; see prog --help"),
        (["verify"], "the following arguments are required: person; see prog verify --help"),
        (["veri", "ada"], "invalid choice: 'veri'"),
        (["verify", "ada", "--threads", "x"], "argument --threads: 'x' is not a whole number; see prog verify --help"),
        (["verify", "ada", "--thr", "2"], "unrecognized arguments: --thr 2; see prog --help"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(capsys, arguments, message):
    for as_json in (False, True):
        assert console.run(lambda: small_parser().parse_args(arguments) and 9, as_json=as_json) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert message in (json.loads(err)["error"] if as_json else err)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["verify", "ada", "--json"], True),
        (["verify", "--json", "ada"], True),
        (["verify", "ada"], False),
        (["verify", "--", "--json"], False),
        (["verify", "--js"], False),
        ([], False),
    ],
)
def test_json_is_known_before_the_arguments_are_parsed(monkeypatch, arguments, wanted):
    assert console.wants_json(arguments) is wanted
    monkeypatch.setattr(sys, "argv", ["prog", *arguments])
    assert console.wants_json() is wanted


def test_a_result_is_text_or_the_same_as_json(capsys):
    answer = Answer("ada", 0.5)
    console.print_result(answer, False, "accepted ada")
    assert capsys.readouterr().out == "accepted ada\n"
    console.print_result(answer, True, "accepted ada")
    assert capsys.readouterr().out == '{"person":"ada","score":0.5}\n'
    console.print_result([answer, Answer(None, -1.0)], True, "")
    assert json.loads(capsys.readouterr().out) == [{"person": "ada", "score": 0.5}, {"person": None, "score": -1.0}]
    console.print_result([], True, "")
    assert capsys.readouterr().out == "[]\n"
    console.print_result([], False, "")
    assert capsys.readouterr().out == ""


def test_a_name_that_is_no_utf_8_is_spelt_out_wherever_it_stands_in_a_result(capsys):
    odd = "caf\udce9/\ud800"
    value = [Answer(odd, 0.5), {odd: [odd, {"deep": (odd, None, 1, True)}]}, "café"]
    console.print_result(value, True, "")
    text = capsys.readouterr().out
    spelt = r"caf\udce9/\ud800"
    assert json.loads(text) == [
        {"person": spelt, "score": 0.5},
        {spelt: [spelt, {"deep": [spelt, None, 1, True]}]},
        "café",
    ]
    assert text.count("\n") == 1
    console.run(fail(InputError(f"{odd} is wrong", reason="x")), as_json=True)
    assert json.loads(capsys.readouterr().err)["error"] == f"{spelt} is wrong"


def test_a_name_that_the_terminal_cannot_show_is_escaped(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert console.run(lambda: console.print_result(None, False, "José")) == 0
    assert out.buffer.getvalue() == b"Jos\\xe9\n"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_name_that_is_no_utf_8_is_spelt_alike_in_text_and_in_json(monkeypatch, encoding):
    for as_json, expected in ((False, rb"caf\udce9"), (True, rb'"caf\\udce9"')):
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", out)
        assert console.run(lambda as_json=as_json: console.print_result("caf\udce9", as_json, "caf\udce9")) == 0
        assert out.buffer.getvalue() == expected + b"\n"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_json_is_valid_whatever_the_terminal_can_show(monkeypatch, encoding):
    name = "José \N{GRINNING FACE} caf\udce9"
    for stream, main in (
        ("stdout", lambda: console.print_result({"error": name}, True, "")),
        ("stderr", fail(InputError(name, reason="x"))),
    ):
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, stream, out)
        console.run(main, as_json=True)
        assert json.loads(out.buffer.getvalue())["error"] == "José \N{GRINNING FACE} caf\\udce9"


PROGRAM = """
import sys
from edge_oneshot_device import console
def main():
    console.print_result(None, False, "x" * 100_000)
    return {code}
sys.exit(console.run(main, as_json={as_json}))
"""


def shell(redirection: str, *, code: int = 1, as_json: bool = False) -> tuple[int, str]:
    """Exit code and stderr of a program that prints a lot, run by a shell with this redirection."""
    program = PROGRAM.format(code=code, as_json=as_json)
    process = subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {redirection}; exit ${{PIPESTATUS[0]}}', sys.executable, program],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return process.returncode, process.stderr


def test_a_pipe_that_is_closed_ends_the_command_quietly_and_never_with_0():
    for code in (0, 1):
        assert shell("| true", code=code) == (141, "")


def test_a_full_disk_under_stdout_is_one_line_and_exit_code_4():
    assert shell("> /dev/full") == (4, "No space left on device\n")
    code, err = shell("> /dev/full", as_json=True)
    assert code == 4
    assert json.loads(err) == {"error": "No space left on device", "reason": "machine"}


def test_closed_streams_do_not_change_the_exit_code():
    assert shell("2>&-") == (1, "")
    assert shell(">&-")[0] == 1
    assert shell("> /dev/full 2>&-")[0] == 4
    assert shell("> /dev/full 2> /dev/full")[0] == 4

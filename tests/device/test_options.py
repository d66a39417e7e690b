"""Options declared once: the command line and the value made in Python agree on names, defaults and bounds."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from msgspec import Meta

from edge_oneshot_device.console import Parser
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.options import Options, add_options, given, option, options_from

Rate = Annotated[float, Meta(gt=0, lt=1)]


class Sample(Options, frozen=True, kw_only=True):
    runs: Annotated[int, option("timed runs", ge=1, le=1000, metavar="N", reason="bad_runs")] = 20
    target_far: Annotated[Rate, option("wanted rate, such as 1 %")] | None = None
    out: Annotated[Path | None, option("file")] = None
    turns: Annotated[Literal[1, 4], option("turns", section="for photos")] = 1
    keep: Annotated[bool, option("keep them", exclusive="end")] = False
    drop: Annotated[bool, option("drop them", exclusive="end")] = False
    check: Annotated[bool, option("leave the check out")] = True
    mean: Annotated[tuple[float, ...], option("", type=lambda text: tuple(map(float, text.split(","))))] = (0.5,)


class Needed(Options, frozen=True, kw_only=True):
    data: Annotated[str, option("the data")]


def parse(*words: str) -> Sample:
    parser = Parser()
    add_options(parser, Sample)
    return options_from(parser.parse_args(words), Sample)


def test_what_is_not_given_has_its_default():
    assert parse() == Sample()


def test_every_kind_of_option_is_read():
    words = [
        "--runs",
        "7",
        "--target-far",
        "0.5",
        "--out",
        "a",
        "--turns",
        "4",
        "--keep",
        "--no-check",
        "--mean",
        "1,2",
    ]
    assert parse(*words) == Sample(
        runs=7, target_far=0.5, out=Path("a"), turns=4, keep=True, check=False, mean=(1.0, 2.0)
    )


def test_what_the_user_wrote_is_told_from_defaults():
    parser = Parser()
    add_options(parser, Sample)
    assert given(parser.parse_args(["--runs", "20"]), Sample) == {"runs": 20}


@pytest.mark.parametrize(
    ("name", "value", "message", "reason"),
    [
        ("runs", 0, "--runs 0: must be at least 1 and at most 1000", "bad_runs"),
        ("target_far", 1.0, "--target-far 1.0: must be above 0 and below 1", "wrong_use"),
        ("target_far", float("nan"), "--target-far nan: must be above 0 and below 1", "wrong_use"),
    ],
)
def test_a_value_out_of_bounds_is_the_same_error_from_the_command_line_and_from_python(name, value, message, reason):
    for make in (lambda: Sample(**{name: value}), lambda: parse(f"--{name.replace('_', '-')}", str(value))):
        with pytest.raises(InputError) as caught:
            make()
        assert (str(caught.value), caught.value.reason) == (message, reason)


def test_a_value_of_another_type_is_refused():
    with pytest.raises(InputError, match=r"^--out a: Expected `Path`, got `str`"):
        Sample(out="a")
    with pytest.raises(InputError, match=r"^--turns 2: "):
        Sample(turns=2)
    with pytest.raises(InputError, match=r"'x' is not a whole number"):
        parse("--runs", "x")
    with pytest.raises(InputError, match=r"invalid choice: 2"):
        parse("--turns", "2")


def test_options_that_exclude_each_other_are_refused_in_both_ways():
    with pytest.raises(InputError, match=r"--drop: not allowed with .*--keep"):
        parse("--keep", "--drop")
    with pytest.raises(InputError, match=r"^--drop: not allowed with --keep$"):
        Sample(keep=True, drop=True)


def test_an_option_without_a_default_is_required():
    parser = Parser()
    add_options(parser, Needed)
    with pytest.raises(InputError, match=r"required: --data"):
        parser.parse_args([])
    assert options_from(parser.parse_args(["--data", "a"]), Needed).data == "a"


def test_help_names_text_default_and_section():
    parser = Parser(prog="p")
    add_options(parser, Sample)
    text = " ".join(parser.format_help().split())
    assert "--runs N timed runs (default: 20)" in text
    assert "wanted rate, such as 1 %" in text
    assert "for photos: --turns {1,4} turns (default: 1)" in text
    assert "--no-check leave the check out" in text

"""The door in a terminal: what fits, what is escaped, what a terminal without colours sees, and when it is drawn."""

import io
import os
import pty
import re
import select
import struct
import termios
from fcntl import ioctl

import pytest
from PIL import Image

from edge_oneshot_device.door.states import STATES
from edge_oneshot_device.door.view import DoorView, ShownDecision
from edge_oneshot_device.presentation.door_view import DoorScreen, draw, fit, style_of

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
HALF = "\u2580"


def decision(number: int, text: str = "ada accepted", reason: str | None = None) -> ShownDecision:
    return ShownDecision(number=number, at=1.8e9 + number, text=text, reason=reason, seconds=0.5)


def frame(colour=(200, 40, 40)) -> Image.Image:
    return Image.new("RGB", (640, 480), colour)


VIEW = DoorView(
    name="Side door",
    state="refused",
    seconds=1.2,
    prompt="Turn your head to the left",
    frame=frame(),
    box=(200.0, 100.0, 400.0, 350.0),
    decisions=(decision(1), decision(2, "nobody enrolled", "below_threshold")),
    stages={"find": 24.4, "embed": 28.0},
    faults=("the broker does not answer",),
)


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("style", ["colours", "256", "plain"])
@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (20, 14), (7, 5), (200, 60), (1, 1)])
def test_a_screen_is_as_large_as_the_terminal_at_most(columns, rows, style):
    lines = ESCAPES.sub("", draw(VIEW, columns, rows, style)).split("\n")
    assert len(lines) <= rows
    assert max(map(len, lines)) <= columns
    assert "\x1b" not in "".join(lines)


def test_state_meaning_prompt_decisions_reasons_times_and_faults_are_there():
    text = draw(VIEW, 120, 40, "plain")
    for part in ("Side door: refused for 1 s", STATES["refused"], "> Turn your head", "ada accepted, 0.5 s"):
        assert part in text
    for part in ("nobody enrolled (below_threshold), 0.5 s", "find 24 ms, embed 28 ms", "! the broker does not answer"):
        assert part in text
    assert not ESCAPES.search(text)


def test_the_picture_keeps_its_shape_and_its_colours():
    lines = draw(VIEW, 80, 40, "colours").split("\n")
    rows = [line for line in lines if HALF in line]
    assert len(rows) == 30
    assert {line.count(HALF) for line in rows} == {80}  # 80 x 60 pixels, as 640 x 480
    assert "\x1b[38;2;200;40;40m" in rows[0]
    assert "\x1b[38;5;160m" in draw(VIEW, 80, 40, "256")  # 16 + 36 * 4, which is (215, 0, 0)


def test_a_box_is_drawn_around_the_face_in_the_colour_of_the_state():
    box = r"\x1b\[[34]8;2;255;60;60m"
    assert re.search(box, draw(VIEW, 80, 40))
    without = DoorView(name="door", state="refused", frame=frame())
    assert not re.search(box, draw(without, 80, 40))
    plain = draw(DoorView(name="door", state="idle", frame=frame((0, 0, 0)), box=VIEW.box), 80, 40, "plain")
    assert plain.split("\n")[7][25:51] == "@" * 26
    outside = DoorView(name="door", state="idle", frame=frame(), box=(-900.0, -900.0, 9e3, 9e3))
    assert HALF in draw(outside, 80, 40)


def test_a_door_without_a_picture_shows_the_rest():
    text = draw(DoorView(name="door", state="faulty", faults=("camera lost",)), 60, 20)
    assert HALF not in text
    assert "camera lost" in text


def test_only_the_last_decisions_are_shown():
    view = DoorView(
        name="door", state="idle", decisions=tuple(decision(number, f"person{number}") for number in range(9))
    )
    shown = re.findall(r"person\d", draw(view, 60, 20, "plain"))
    assert shown == [f"person{number}" for number in range(4, 9)]


def test_names_cannot_send_escapes_or_break_lines():
    bad = decision(1, "\x1b]0;mine\x07\nada\r accepted\x9b2J")
    for style in ("colours", "plain"):
        text = draw(DoorView(name="a\x1b[31m\nb", state="idle", decisions=(bad,)), 100, 20, style)
        assert len(text.split("\n")) == 2
        assert all(character.isprintable() for character in ESCAPES.sub("", text).replace("\n", ""))
        assert "[31m" not in "".join(ESCAPES.findall(text))
    out = io.StringIO()
    DoorScreen(out).show(DoorView(name="door", state="idle", decisions=(bad,)), 0.0)
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().strip().isprintable()


def test_wide_characters_count_twice():
    assert fit("門番門番", 5) == "門番"
    assert fit("e\u0301e\u0301", 2) == "e\u0301e\u0301"


@pytest.mark.parametrize(
    ("environment", "style"),
    [
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "colours"),
        ({"TERM": "xterm-256color"}, "256"),
        ({"TERM": "xterm", "COLORTERM": "truecolor", "NO_COLOR": "1"}, "plain"),
        ({"TERM": "xterm", "NO_COLOR": ""}, "256"),
        ({"TERM": "dumb"}, "lines"),
        ({}, "lines"),
    ],
)
def test_the_terminal_says_what_it_can(environment, style):
    assert style_of(Terminal(), environment) == style


def test_what_is_no_terminal_gets_lines_and_one_without_utf8_no_blocks():
    assert style_of(io.StringIO(), {"TERM": "xterm"}) == "lines"
    latin = Terminal()
    latin.encoding = "latin-1"
    assert style_of(latin, {"TERM": "xterm"}) == "plain"


def test_without_a_terminal_each_decision_and_each_new_fault_is_one_line():
    out = io.StringIO()
    with DoorScreen(out) as screen:
        one = DoorView(name="door", state="idle", decisions=(decision(1),), faults=("no broker",))
        for view in (
            one,
            one,
            DoorView(name="door", state="idle", decisions=(decision(1), decision(2, "no one", "far"))),
        ):
            screen.show(view, 0.0)
        screen.show(one, 0.0)
    lines = out.getvalue().splitlines()
    assert [line[9:] for line in lines if line[0] != "!"] == ["ada accepted, 0.5 s", "no one (far), 0.5 s"]
    assert lines.count("! no broker") == 2  # it came back
    assert "\x1b" not in out.getvalue()


@pytest.fixture
def terminal():
    """Both ends of a terminal of 60 columns and 20 rows: the stream, and how to read what it shows."""
    outer, inner = pty.openpty()
    ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 60, 0, 0))

    def read() -> str:
        content = b""
        while select.select([outer], [], [], 0.2)[0]:
            content += os.read(outer, 65536)
        return content.decode()

    with open(inner, "w", encoding="utf-8") as stream:  # noqa: PTH123 (a descriptor)
        yield stream, read
    os.close(outer)


def test_it_is_drawn_in_place_and_the_terminal_is_given_back(terminal):
    stream, read = terminal
    small = DoorView(name="door", state="idle", decisions=(decision(1),))
    with DoorScreen(stream, "plain") as screen:
        screen.show(small, 10.0)
        first = read()
        screen.show(small, 10.0 + 1e-3)
        assert read() == ""  # too soon
        screen.show(DoorView(name="door", state="approaching"), 10.0 + 2e-3)
        changed = read()
        screen.show(small, 20.0)
        assert "door: idle" in read()
    assert first.startswith("\x1b[?25l\x1b[2J\x1b[H")
    assert first.endswith("\x1b[J")
    assert changed.startswith("\x1b[H")
    assert "approaching" in changed
    assert read().replace("\r", "") == "\x1b[0m\x1b[?25h\n"


def test_a_stopped_terminal_does_not_stop_the_door(terminal):
    stream, read = terminal
    with DoorScreen(stream, "plain") as screen:
        screen.show(VIEW, 0.0)
        read()
        termios.tcflow(stream.fileno(), termios.TCOOFF)
        for second in range(1, 50):
            screen.show(VIEW, float(second))  # would hang
        termios.tcflow(stream.fileno(), termios.TCOON)
        read()
        screen.show(VIEW, 100.0)
        assert "Side door" in read()

"""A door in a terminal: what the camera sees, the state, the last decisions, times a stage."""

import os
import select
import shutil
import sys
import time
import unicodedata
from collections.abc import Mapping
from typing import Final, Literal, Self, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from edge_oneshot_device.door.states import STATES, State
from edge_oneshot_device.door.view import DoorView, ShownDecision
from edge_oneshot_device.text import one_line

Style = Literal["colours", "256", "plain", "lines"]
"""A picture in 24-bit colour, in 256 colours or in characters; or no screen but a line a decision."""

REDRAWN: Final = 5.0
"""Times a second that the screen is drawn anew, at most; a change of state comes at once."""

_WIDEST: Final = 100  # columns of the picture, so that a screen stays within 100 kB
_HIGHEST: Final = 30  # rows of the picture
_LEAST: Final = 6  # rows of a picture that still shows something
_DECISIONS: Final = 5
_RAMP: Final = np.array(list(" .:-=+*#%@"))  # from dark to light
_HALF: Final = "\u2580"  # the upper half of a cell in the foreground's colour, the lower in the background's
_STEPS: Final = (48, 115, 155, 195, 235)  # between the six levels of the colour cube: 0, 95, 135, 175, 215, 255
_BOXES: Final[Mapping[State, tuple[int, int, int]]] = {"unlocked": (0, 220, 0), "refused": (255, 60, 60)}
_BOX: Final = (255, 220, 0)
_GREEN, _RED, _BOLD, _RESET = "\x1b[1;32m", "\x1b[1;31m", "\x1b[1m", "\x1b[0m"
_HEADS: Final[Mapping[State, str]] = {"unlocked": _GREEN, "held": _GREEN, "refused": _RED, "faulty": _RED}


def style_of(stream: TextIO, environment: Mapping[str, str] = os.environ) -> Style:
    """How a door is shown on a stream.

    ``NO_COLOR`` is obeyed (no-color.org); ``COLORTERM`` says of 24-bit colour; a terminal called ``dumb`` cannot be
    drawn anew.

    Args:
        stream: Standard output, in general.
        environment: The environment variables.
    """
    if not stream.isatty() or environment.get("TERM", "dumb") == "dumb":
        return "lines"
    if environment.get("NO_COLOR") or (stream.encoding or "").lower().replace("-", "") != "utf8":
        return "plain"
    return "colours" if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit") else "256"


def draw(view: DoorView, columns: int, rows: int, style: Style = "colours") -> str:
    """A door as a screen.

    Args:
        view: The door.
        columns: Of the terminal.
        rows: Of the terminal; the picture gets what the text leaves, and none where that is too little.
        style: Not ``lines``.

    Returns:
        At most `rows` lines of at most `columns` columns, without a line break at the end.
    """
    below = [f"! {fault}" for fault in view.faults]
    below += [decision_line(one) for one in view.decisions[-_DECISIONS:]]
    if view.stages:
        below.append(", ".join(f"{stage} {took:.0f} ms" for stage, took in view.stages.items()))
    head = [f"{view.name}: {view.state} for {view.seconds:.0f} s, {STATES[view.state]}"]
    head += [f"> {view.prompt}"] if view.prompt else []
    space = min(rows - len(head) - len(below), _HIGHEST)
    picture = [] if view.frame is None or space < _LEAST else _picture(view, min(columns, _WIDEST), space, style)
    head, below = ([fit(line, columns) for line in lines] for lines in (head, below))
    if style != "plain":
        head[0] = _HEADS.get(view.state, _BOLD) + head[0] + _RESET
        below[: len(view.faults)] = [_RED + line + _RESET for line in below[: len(view.faults)]]
    return "\n".join([*head, *picture, *below][:rows])


def decision_line(decision: ShownDecision) -> str:
    """A decision on one line: local time, what was decided, why, and how long it took."""
    at = time.strftime("%H:%M:%S", time.localtime(decision.at))
    reason = f" ({decision.reason})" if decision.reason else ""
    return f"{at} {decision.text}{reason}, {decision.seconds:.1f} s"


def fit(text: str, columns: int) -> str:
    """Text from outside on one line of at most so many columns: escapes are escaped, wide characters count twice."""
    text = one_line(text)
    used = 0
    for place, character in enumerate(text):
        wide = unicodedata.east_asian_width(character) in "WF"
        used += 0 if unicodedata.combining(character) else 1 + wide
        if used > columns:
            return text[:place]
    return text


class DoorScreen:
    """Shows a door on a stream, drawn anew in place, or with a line a decision. A context manager.

    A terminal that takes nothing at the moment (stopped with Ctrl-S) is passed over: the door does not wait for it.

    Args:
        stream: Where to; None: standard output.
        style: As `style_of` says if None.
    """

    def __init__(self, stream: TextIO | None = None, style: Style | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._style: Style = style_of(self._stream) if style is None else style
        self._drawn = -1.0 / REDRAWN
        self._state: State | None = None
        self._decision = 0
        self._faults: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        """The screen itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the terminal back."""
        self.close()

    def show(self, view: DoorView, now: float) -> None:
        """Show the door, unless it was shown a moment ago.

        Args:
            view: The door.
            now: Seconds of a monotonic clock.
        """
        if self._style == "lines":
            self._print_news(view)
            return
        if (view.state == self._state and now - self._drawn < 1.0 / REDRAWN) or not self._ready():
            return
        size = shutil.get_terminal_size()
        # the last column stays empty: what clears the rest of a line would take a character there
        lines = draw(view, max(size.columns - 1, 1), size.lines, self._style).split("\n")
        start = "\x1b[?25l\x1b[2J\x1b[H" if self._state is None else "\x1b[H"
        self._stream.write(start + "\x1b[K\n".join(lines) + "\x1b[J")
        self._stream.flush()
        self._drawn, self._state = now, view.state

    def close(self) -> None:
        """Leave the last screen, with the cursor below it; closing twice is fine."""
        if self._state is not None:
            self._stream.write(_RESET + "\x1b[?25h\n")
            self._stream.flush()
            self._state = None

    def _ready(self) -> bool:
        return bool(select.select([], [self._stream], [], 0.0)[1])

    def _print_news(self, view: DoorView) -> None:
        """Every decision and every fault that was not there before, a line each."""
        lines = [f"! {one_line(fault)}" for fault in view.faults if fault not in self._faults]
        lines += [one_line(decision_line(one)) for one in view.decisions if one.number > self._decision]
        self._faults = view.faults
        self._decision = max([self._decision, *(one.number for one in view.decisions)])
        for line in lines:
            print(line, file=self._stream, flush=True)


def _picture(view: DoorView, columns: int, rows: int, style: Style) -> list[str]:
    """The frame as lines: a cell is two pixels, one above the other; the box around the face is drawn into it."""
    assert view.frame is not None
    scale = min(columns / view.frame.width, 2 * rows / view.frame.height)
    width, height = (max(int(side * scale), 1) for side in view.frame.size)
    height = max(height // 2 * 2, 2)
    small = view.frame.convert("RGB").resize((width, height), Image.Resampling.BOX)
    if view.box is not None:
        places = np.array(view.box).reshape(2, 2) * scale
        corners = np.clip(places, 0, (width - 1, height - 1)).round().astype(int)
        outline = (255, 255, 255) if style == "plain" else _BOXES.get(view.state, _BOX)
        ImageDraw.Draw(small).rectangle([*corners.ravel().tolist()], outline=outline)
    if style == "plain":
        luma = np.asarray(small.convert("L")).reshape(height // 2, 2, width).max(axis=1)
        return ["".join(line) for line in _RAMP[luma.astype(int) * len(_RAMP) // 256]]
    pixels = np.asarray(small)
    codes = _codes(pixels, style).reshape(height // 2, 2, width)
    return [_line(upper, lower, style) for upper, lower in codes]


def _codes(pixels: NDArray[np.uint8], style: Style) -> NDArray[np.int64]:
    """A number for each pixel's colour: 24 bits, or one of the 216 of the terminal's colour cube."""
    levels = pixels.astype(np.int64)
    codes: NDArray[np.int64]
    if style == "colours":
        codes = levels @ np.array((1 << 16, 1 << 8, 1))
    else:
        codes = np.digitize(levels, _STEPS) @ np.array((36, 6, 1)) + 16
    return codes


def _line(upper: NDArray[np.int64], lower: NDArray[np.int64], style: Style) -> str:
    """A row of cells; colours are named where they change."""

    def named(code: int) -> str:
        return f"2;{code >> 16};{code >> 8 & 255};{code & 255}" if style == "colours" else f"5;{code}"

    text, before = [], (-1, -1)
    for over, under in zip(upper.tolist(), lower.tolist(), strict=True):
        if over != before[0]:
            text.append(f"\x1b[38;{named(over)}m")
        if under != before[1]:
            text.append(f"\x1b[48;{named(under)}m")
        text.append(_HALF)
        before = over, under
    return "".join([*text, _RESET])

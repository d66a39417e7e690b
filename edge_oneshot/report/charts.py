"""Charts of evaluation results in the report's style, for its page or as a file."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from edge_oneshot.bundle_evaluation import handful
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.outputs import check_output
from edge_oneshot_export.judging.evaluation import OneShotResult, VerificationResult

INK, MUTED, LINE, PAGE, FIRST, SECOND = "#1b2430", "#5d6876", "#d9dee5", "#fffffe", "#1769aa", "#b9521a"
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edge-oneshot",
    "font.size": 8.0,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}
_SIZE: Final = (4.4, 2.7)
_MARGINS: Final = {"top": 0.97, "bottom": 0.17}
NO_METADATA: Final = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_SUFFIXES: Final = (".svg", ".png", ".pdf")
_FEW: Final = 10  # up to this count, each point gets a mark and a number
_APART: Final = 1.4  # least ratio of the last N to another N with a label, so that the labels do not touch


def require_figure(path: Path) -> None:
    """Check that a figure can be written to a path.

    Raises:
        InputError: Reason ``bad_figure``: another suffix than .svg, .png or .pdf; ``bad_output``: the file may not be
            replaced.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{path}: a figure ends in .svg, .png or .pdf; rename it", reason="bad_figure")
    check_output(path)


def write_figure(path: Path, result: Sequence[OneShotResult] | VerificationResult) -> None:
    """Draw accuracy against N, or the receiver operating characteristic, to a file.

    Args:
        path: The file, .svg, .png or .pdf.
        result: What `edge-oneshot evaluate` measured.

    Raises:
        InputError: As for `require_figure`.
        MachineError: The file cannot be written.
    """
    require_figure(path)
    kind = path.suffix.lower().removeprefix(".")
    buffer = io.BytesIO()
    with chart(right=0.885) as axes:
        if isinstance(result, VerificationResult):
            draw_roc(axes, result)
        else:
            draw_accuracy(axes, result)
        figure = axes.get_figure()
        assert isinstance(figure, Figure)
        # without dates, so that the same result gives the same bytes
        left_out = {"svg": NO_METADATA, "pdf": {"CreationDate": None}, "png": None}[kind]
        figure.savefig(buffer, format=kind, dpi=200, metadata=left_out)
    write_atomically(path, buffer.getvalue(), check=lambda: check_output(path))


@contextmanager
def chart(left: float = 0.1, right: float = 0.975) -> Iterator[Axes]:
    """Axes in the report's style.

    Args:
        left: Left margin, as a share of the width.
        right: Right edge of the axes, as a share of the width.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE)
        # the same margins for charts without names at the left, so that they align side by side
        figure.subplots_adjust(**_MARGINS, left=left, right=right)
        yield figure.add_subplot()


def draw_accuracy(axes: Axes, results: Sequence[OneShotResult], identities: str = "characters") -> None:
    """Draw accuracy against N for one protocol: the encoder with its interval, pixels, chance.

    Args:
        axes: Where to draw.
        results: Of one protocol, by rising N.
        identities: What there is to choose from.
    """
    ways = [result.ways for result in results]
    accuracy = np.array([result.accuracy for result in results])
    low, high = np.array([result.interval for result in results]).T
    few = len(results) <= _FEW
    axes.set_xscale("log")
    for values, colour, style, name in (
        ([result.chance for result in results], MUTED, (0, (2, 2)), "chance"),
        ([result.pixel_accuracy for result in results], SECOND, "-", "pixels"),
    ):
        marker = "o" if few else None
        axes.plot(ways, values, color=colour, linestyle=style, marker=marker, markersize=3, linewidth=1.2)
        axes.annotate(name, (ways[-1], values[-1]), (7, 0), textcoords="offset points", color=colour, va="center")
    axes.fill_between(ways, low, high, color=FIRST, alpha=0.18, linewidth=0)
    if few:
        reach = [np.maximum(accuracy - low, 0.0), np.maximum(high - accuracy, 0.0)]
        axes.errorbar(ways, accuracy, reach, color=FIRST, marker="o", markersize=4, capsize=2.5)
    else:
        axes.plot(ways, accuracy, color=FIRST)
    named = [one for one in handful(results) if few or one is results[-1] or one.ways * _APART < ways[-1]]
    for result in named:
        axes.annotate(
            percent(result.accuracy), (result.ways, result.interval[1]), (0, 4), textcoords="offset points",
            color=FIRST, ha="center", fontsize=7.5,
        )  # fmt: skip
    axes.annotate("encoder", (ways[-1], accuracy[-1]), (7, 0), textcoords="offset points", color=FIRST, va="center")
    axes.set_xticks([result.ways for result in named], [str(result.ways) for result in named])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(ways[0] / 1.25, ways[-1] * 1.12)
    axes.set_xlabel(f"N, {identities} to choose from")
    percent_axis(axes)
    axes.set_ylim(0.0, 1.1)


def draw_roc(axes: Axes, result: VerificationResult) -> None:
    """Draw the share of genuine pairs accepted against the false accept rate, with its interval.

    Args:
        axes: Where to draw.
        result: Of the verification.
    """
    points = [point for point in result.roc if point.far > 0.0]
    far = [point.far for point in points]
    low, high = np.array([point.interval for point in points]).T
    axes.set_xscale("log")
    axes.fill_between(far, low, high, color=FIRST, alpha=0.18, linewidth=0)
    axes.plot(far, [point.tpr for point in points], color=FIRST)
    axes.plot(far, far, color=MUTED, linestyle=(0, (2, 2)), linewidth=1.2)
    axes.annotate("chance", (0.5, 0.5), (-7, 0), textcoords="offset points", color=MUTED, ha="right", va="center")
    decades = 10.0 ** np.arange(np.floor(np.log10(far[0])), 1.0)
    axes.xaxis.set_major_locator(FixedLocator(list(decades)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{100.0 * decade:g} %" for decade in decades])
    axes.set_xlim(min(far[0], far[-1] / 10.0), 1.0)
    axes.set_xlabel("false accept rate")
    percent_axis(axes)
    axes.set_ylim(0.0, 1.03)  # above 1, or the line would be cut off there


def percent_axis(axes: Axes) -> None:
    """Set the y axis to shares from 0 to 1, shown as per cent."""
    axes.set_ylim(0.0, 1.0)
    axes.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))


def percent(rate: float) -> str:
    """A rate in per cent with one decimal."""
    return f"{100.0 * rate:.1f} %"

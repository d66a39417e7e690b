"""The report's figures: charts as SVG with the page's colours, drawings and spectrograms as PNG."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot.report.charts import (
    FIRST,
    INK,
    LINE,
    MUTED,
    NO_METADATA,
    PAGE,
    SECOND,
    chart,
    draw_accuracy,
    percent,
    percent_axis,
)
from edge_oneshot_device.bundle.manifest import Calibration
from edge_oneshot_export.judging.evaluation import OneShotResult

if TYPE_CHECKING:
    from edge_oneshot.training.runs import HistoryEntry

_VARIABLES: Final = {
    INK: "--ink", MUTED: "--muted", LINE: "--line", PAGE: "--page", FIRST: "--first", SECOND: "--second",
}  # fmt: skip

HUES: Final = (
    "#1f77c4", "#d1495b", "#2a9d5c", "#b07d12", "#7b5bd1", "#0f9aa8",
    "#c2571a", "#b0449a", "#5f8a1f", "#4d6fae", "#a0522d", "#6b7785",
)  # fmt: skip
"""Colours of characters on the map; mid-tones that are visible on white and on black."""

_PLAIN: Final[dict[str, Any]] = {"bbox": {"facecolor": PAGE, "edgecolor": "none", "pad": 1.0}}
_BINS: Final = 80
_MAP: Final = (1000.0, 620.0)
_THUMBNAIL: Final = 38.0
_RELAXATIONS: Final = 80
_LEVELS: Final = 64  # of a spectrogram: a decibel each


@dataclass(frozen=True, slots=True)
class Spot:
    """A drawing on the map: its corner and side in the map's units, and its image as a data URI."""

    x: float
    y: float
    side: float
    uri: str
    name: str


@dataclass(frozen=True, slots=True)
class Map:
    """The drawings on a plane of `width` x `height`."""

    width: float
    height: float
    spots: tuple[Spot, ...]


def loss_chart(history: Sequence["HistoryEntry"], images: str) -> str:
    """The loss against the images, or what else is named, that were seen."""
    with chart() as axes:
        axes.plot([moment.images for moment in history], [moment.loss for moment in history], color=FIRST)
        _images_axis(axes, history, images)
        axes.set_ylim(bottom=0.0)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        return svg(axes, "loss")


def held_out_chart(history: Sequence["HistoryEntry"], images: str) -> str:
    """One-shot accuracy on the held-out groups against the images, or what else is named, that were seen."""
    with chart() as axes:
        seen, accuracy = [moment.images for moment in history], [moment.accuracy for moment in history]
        chance = 1.0 / history[-1].ways
        axes.axhline(chance, color=MUTED, linestyle=(0, (2, 2)), linewidth=1.0)
        _note(axes, seen[-1], chance, "chance", MUTED, above=True)
        axes.plot(seen, accuracy, color=FIRST)
        axes.plot(seen[-1:], accuracy[-1:], "o", color=FIRST, markersize=4)
        _note(axes, seen[-1], accuracy[-1], percent(accuracy[-1]), FIRST, above=accuracy[-1] < 0.9)
        _images_axis(axes, history, images)
        percent_axis(axes)
        return svg(axes, "held-out")


def accuracy_chart(results: Sequence[OneShotResult], identity: str) -> str:
    """Accuracy of one protocol against N: the encoder with its interval, pixels, chance.

    Args:
        results: Of the protocol, by rising N.
        identity: What is told apart.
    """
    with chart(right=0.885) as axes:
        draw_accuracy(axes, results, f"{identity}s")
        return svg(axes, re.sub(r"\W+", "-", f"accuracy {results[0].protocol}"))


def score_chart(genuine: NDArray[np.float32], impostor: NDArray[np.float32], threshold: float) -> str:
    """Histograms of genuine and impostor scores, each as shares of its own total, with the threshold.

    Args:
        genuine: float32 (g,).
        impostor: float32 (m,).
        threshold: The score from which on pairs are accepted.
    """
    edges = _score_edges(genuine, impostor, threshold)
    with chart() as axes:
        tallest = 0.0
        for line, (scores, colour, name) in enumerate(((genuine, FIRST, "genuine"), (impostor, SECOND, "impostor"))):
            share = np.histogram(scores, edges)[0] / len(scores)
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.28, linewidth=0)
            axes.stairs(share, edges, color=colour, linewidth=1.2)
            down = (4, -2 - 11 * line)
            axes.annotate(name, (0, 1), down, "axes fraction", "offset points", color=colour, va="top", **_PLAIN)
            tallest = max(tallest, float(share.max()))
        axes.set_ylim(0.0, tallest * 1.25)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel("score")
        _threshold(axes, threshold)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        return svg(axes, "scores")


def degree_chart(
    calibration: Calibration, genuine: NDArray[np.float32], impostor: NDArray[np.float32], threshold: float
) -> str:
    """The degree of similarity that the calibration assigns to each score, over the range of the scores.

    Args:
        calibration: Gives the degrees of similarity.
        genuine: float32 (g,).
        impostor: float32 (m,).
        threshold: The score from which on pairs are accepted.
    """
    edges = _score_edges(genuine, impostor, threshold)
    known = calibration.similarity
    with chart() as axes:
        axes.plot(
            [edges[0], *known.scores, edges[-1]], [known.degrees[0], *known.degrees, known.degrees[-1]], color=FIRST
        )
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0.0, 1.1)
        _threshold(axes, threshold)
        axes.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
        axes.set_xlabel("score")
        return svg(axes, "degree")


def drawing_map(
    images: NDArray[np.uint8], labels: NDArray[np.int64], names: Sequence[str], points: NDArray[np.float64]
) -> Map:
    """Drawings on a plane, coloured by label, and moved apart where they would cover each other.

    Args:
        images: uint8 (n, h, w, c).
        labels: int64 (n,), positions in `names`.
        names: Name of each label.
        points: float64 (n, 2), x to the right, y up.
    """
    room = np.array(_MAP) - _THUMBNAIL
    low, high = points.min(axis=0), points.max(axis=0)
    # drawings that are pushed apart at the edge need room there
    places = (points - low) / np.maximum(high - low, 1e-9) * (room - 2 * _THUMBNAIL) + _THUMBNAIL
    places[:, 1] = room[1] - places[:, 1]
    places = _spread(places, room)
    spots = tuple(
        Spot(round(float(x), 1), round(float(y), 1), _THUMBNAIL, ink_uri(image, HUES[label % len(HUES)]), names[label])
        for image, label, (x, y) in zip(images, labels, places, strict=True)
    )
    return Map(*_MAP, spots)


def ink_uri(image: NDArray[np.uint8], colour: str) -> str:
    """A drawing, uint8 (h, w, c), as a data URI, with ink of one colour and transparent paper.

    Args:
        image: The drawing.
        colour: Of the ink, as ``#rrggbb``.
    """
    grey = image.astype(np.float64).mean(axis=2)
    paper, ink = grey.max(), grey.min()
    alpha = (paper - grey) / max(paper - ink, 1.0) * 255.0
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    # a palette of sixteen strengths of one colour takes a third of the bytes of RGBA
    levels = Image.fromarray(np.rint(alpha / 17.0).astype(np.uint8), "P")
    levels.putpalette([red, green, blue] * 16)
    buffer = io.BytesIO()
    levels.save(buffer, "PNG", optimize=True, bits=4, transparency=bytes(range(0, 256, 17)))
    return data_uri(buffer.getvalue())


def picture_uri(image: NDArray[np.uint8]) -> str:
    """An image, uint8 (h, w, c), as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(buffer, "PNG", optimize=True)
    return data_uri(buffer.getvalue())


def as_drawings(spectrograms: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Spectrograms, uint8 (n, bands, frames, 1), as drawings with low bands at the bottom.

    The ink is what is above the median of a spectrogram, so that no noise covers the map.
    """
    median = np.median(spectrograms, axis=(1, 2), keepdims=True).astype(np.uint8)
    return np.asarray(255 - (np.maximum(spectrograms, median) - median)[:, ::-1], np.uint8)


def spectrogram_uri(image: NDArray[np.uint8]) -> str:
    """A spectrogram as a data URI, see `spectrogram_png`."""
    return data_uri(spectrogram_png(image))


def spectrogram_png(image: NDArray[np.uint8]) -> bytes:
    """A spectrogram, uint8 (bands, frames, 1), as a PNG file in colour, with the low bands at the bottom."""
    levels = Image.fromarray(image[::-1, :, 0] // (256 // _LEVELS), "P")
    colours = colormaps["magma"](np.linspace(0.0, 1.0, _LEVELS))[:, :3]
    levels.putpalette(np.rint(255.0 * colours).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    levels.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri(png: bytes) -> str:
    """A PNG file as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def sound_uri(wav: bytes) -> str:
    """A WAV file as a data URI."""
    return f"data:audio/wav;base64,{base64.b64encode(wav).decode()}"


def svg(axes: Axes, name: str) -> str:
    """The figure for use inside a page: with unique ids, and with the page's colours and font.

    Args:
        axes: The figure's.
        name: Makes its ids unique in the page.
    """
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:xmlns(?::xlink)?|version)="[^"]*"', "", text)
    text = re.sub(r'<svg width="[^"]*" height="[^"]*"', '<svg aria-hidden="true"', text, count=1)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(href="|url\()#', rf"\g<1>#{name}-", text)
    text = re.sub(r"font-family: [^;\"]+;?", "", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text.strip()


def _spread(places: NDArray[np.float64], room: NDArray[np.float64]) -> NDArray[np.float64]:
    """Push points apart that are nearer than 0.8 of a thumbnail, and keep them inside the map."""
    wanted = 0.8 * _THUMBNAIL
    for _ in range(_RELAXATIONS):
        offset = places[:, np.newaxis] - places
        distance = np.linalg.norm(offset, axis=2)
        np.fill_diagonal(distance, np.inf)
        push = np.clip((wanted - distance) / wanted, 0.0, None) / np.maximum(distance, 1e-6)
        places = np.clip(places + 0.25 * wanted * (offset * push[:, :, np.newaxis]).sum(axis=1), 0.0, room)
    return places


def _images_axis(axes: Axes, history: Sequence["HistoryEntry"], images: str) -> None:
    axes.set_xlim(0, history[-1].images * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seen, _: f"{seen / 1000:g}k" if seen else "0"))
    axes.set_xlabel(f"{images} seen")


def _note(axes: Axes, x: float, y: float, text: str, colour: str, *, above: bool) -> None:
    shift, side = (4, "bottom") if above else (-5, "top")
    axes.annotate(text, (x, y), (0, shift), textcoords="offset points", color=colour, ha="right", va=side)


def _threshold(axes: Axes, threshold: float) -> None:
    low, high = axes.get_xlim()
    left = threshold > (low + high) / 2
    axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
    axes.annotate(
        f"threshold {threshold:.3f}",
        (threshold, axes.get_ylim()[1]),
        (-4 if left else 4, -2),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        **_PLAIN,
    )


def _score_edges(genuine: NDArray[np.float32], impostor: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    low = min(float(impostor.min()), float(genuine.min()), threshold)
    high = max(float(impostor.max()), float(genuine.max()), threshold)
    return np.linspace(low, high if high > low else low + 1.0, _BINS + 1)

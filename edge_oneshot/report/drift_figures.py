"""Charts of drift: each variant's change of the genuine accepts, and each int8 layer's quantization error."""

import textwrap
from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from edge_oneshot.report.charts import FIRST, INK, MUTED, SECOND, chart
from edge_oneshot.report.figures import svg
from edge_oneshot_device.bundle.drift_section import Change, Drift, LayerError

_LOSSLESS_DB: Final = 99.0
_LAYERS: Final = 14
_LEFT: Final = 0.25
_CHARACTER: Final = 0.0142  # of a chart's width
_LONGEST: Final = 42  # characters of a name in a line


def drift_chart(drifts: Sequence[tuple[str, Drift]]) -> str:
    """The change of the genuine accepts at each FAR, or of the EER where there are few people, with intervals.

    Args:
        drifts: Name and drift of each variant, all measured on the same images.
    """
    with chart(left=_LEFT) as axes:
        rates = list(drifts[0][1].tpr_at_fpr)[:2]
        shown = {f"FAR {100 * float(rate):g} %": [drift.tpr_at_fpr[rate] for _, drift in drifts] for rate in rates}
        shown = shown or {"EER": [drift.eer for _, drift in drifts]}
        for line, ((label, changes), colour) in enumerate(zip(shown.items(), (FIRST, SECOND), strict=False)):
            _forest(axes, changes, 0.16 * (2 * line - len(shown) + 1), colour)
            axes.annotate(
                label, (1, 1), (0, -2 - 11 * line), "axes fraction", "offset points", color=colour, ha="right", va="top"
            )
        axes.axvline(0.0, color=INK, linewidth=0.8)
        _names(axes, [name for name, _ in drifts])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:+.1f}" if share else "0"))
        axes.set_xlabel(f"points of {'genuine pairs accepted' if rates else 'equal error rate'}, against float")
        return svg(axes, "drift")


def layer_chart(variant: str, layers: Sequence[LayerError]) -> str:
    """Signal to quantization noise of the lossy layers of a variant, with the worst one highlighted.

    Args:
        variant: Name of the variant.
        layers: Its layers, in the order of computation.
    """
    lossy = [layer for layer in layers if layer.sqnr_db < _LOSSLESS_DB]
    kept = sorted(sorted(range(len(lossy)), key=lambda place: lossy[place].sqnr_db)[:_LAYERS])
    lossy = [lossy[place] for place in kept]
    worst = min(layer.sqnr_db for layer in lossy)
    names = [textwrap.fill(f"{layer.op.lower()} {layer.name.split(' + ')[0]}", _LONGEST) for layer in lossy]
    longest = max(len(line) for name in names for line in name.splitlines())
    with chart(left=max(_LEFT, _CHARACTER * longest)) as axes:
        colours = [SECOND if layer.sqnr_db == worst else MUTED for layer in lossy]
        axes.hlines(range(len(lossy)), 0, [layer.sqnr_db for layer in lossy], colours, linewidth=1.2)
        axes.scatter([layer.sqnr_db for layer in lossy], range(len(lossy)), s=14, c=colours, zorder=3)
        _names(axes, names)
        axes.set_xlim(left=0.0)
        axes.set_xlabel("signal to quantization noise, dB")
        return svg(axes, f"layers-{variant}")


def _forest(axes: Axes, changes: Sequence[Change], shift: float, colour: str) -> None:
    places = [place + shift for place in range(len(changes))]
    axes.hlines(places, [c.interval[0] for c in changes], [c.interval[1] for c in changes], colour, linewidth=1.4)
    axes.scatter([change.difference for change in changes], places, s=16, c=colour, zorder=3)


def _names(axes: Axes, names: Sequence[str]) -> None:
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -1.5)  # room for a legend

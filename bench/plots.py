"""Owns the plots of the page: SVG with text as text, which is readable on light and dark pages.

Must not know what is measured, nor where a plot stands in the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from bench.figures import OURS, Figure

INK = "#010203"
"""Stands for the colour of text, which the page of the reader decides."""
STYLE = (
    "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#d1d7e0}}"
    "text{font-family:system-ui,'DejaVu Sans',sans-serif}</style>"
)
# Readable on white and on black, and told apart by those who see red and green alike.
COLOURS = ("#d55e00", "#cc79a7", "#0d8f6f", "#4495d4", "#8a7a00", "#777fe0", "#8c8c8c", "#a5673f")
MARKERS = "osD^vPX*"
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ipsecd",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
WIDTH, COLUMNS = 7.7, 2


def bars(figures: Sequence[Figure], path: Path) -> None:
    """The median of each contestant as a bar, with a line from its lowest value to its highest."""
    with mpl.rc_context(SETTINGS):
        rows = -(-len(figures) // COLUMNS)
        tallest = max(len(figure.rounds) for figure in figures)
        canvas = Canvas(figsize=(WIDTH, rows * (0.2 * tallest + 0.75)), layout="constrained")
        grid = canvas.subplots(rows, COLUMNS, squeeze=False)
        places = [place for row in grid for place in row]
        for place, figure in zip(places, figures, strict=False):
            _bars_of(place, figure)
        for place in places[len(figures) :]:
            place.set_axis_off()
        _write(canvas, path)


def _bars_of(place: Axes, figure: Figure) -> None:
    names = list(figure.rounds)
    middles = [figure.middle(name) for name in names]
    below = [figure.middle(name) - min(figure.rounds[name]) for name in names]
    above = [max(figure.rounds[name]) - figure.middle(name) for name in names]
    colours = [COLOURS[0] if name.startswith(OURS) else COLOURS[6] for name in names]
    place.barh(names, middles, color=colours, height=0.72)
    place.errorbar(
        middles, names, xerr=[below, above], fmt="none", ecolor=INK, elinewidth=0.8, capsize=2
    )
    place.invert_yaxis()
    place.set_title(f"{figure.case} ({figure.unit})", loc="left", fontsize=9)
    place.margins(y=0.02)


def curves(figures: Iterable[Figure], path: Path, across: str) -> None:
    """The medians against the size, both on logarithmic axes, a curve for each contestant."""
    points = sorted((f for f in figures if f.size is not None), key=lambda f: f.size or 0)
    with mpl.rc_context(SETTINGS):
        canvas = Canvas(figsize=(WIDTH, 3.2), layout="constrained")
        place = canvas.subplots()
        names = list(dict.fromkeys(name for figure in points for name in figure.rounds))
        for number, name in enumerate(names):
            own = [figure for figure in points if name in figure.rounds]
            middles = [figure.middle(name) for figure in own]
            spread = [
                [f.middle(name) - min(f.rounds[name]) for f in own],
                [max(f.rounds[name]) - f.middle(name) for f in own],
            ]
            place.errorbar(
                [figure.size or 0 for figure in own],
                middles,
                yerr=spread,
                label=name,
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number % len(MARKERS)],
                markersize=4,
                linewidth=1.2,
                capsize=2,
                linestyle="-" if name.startswith(OURS) else "--",
            )
        place.set(xscale="log", yscale="log", xlabel=across, ylabel=points[0].unit)
        for axis, parts in ((place.xaxis, (1,)), (place.yaxis, (1, 2, 5))):
            axis.set_major_locator(LogLocator(subs=parts))
            axis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
            axis.set_minor_formatter(NullFormatter())
        place.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        _write(canvas, path)


def _write(canvas: Canvas, path: Path) -> None:
    """Write it with the reader's colours, without a date and with no more digits than are seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = path.read_text(encoding="utf-8").replace(INK, "currentColor")
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", text)
    text = re.sub(r"(<svg [^>]*>)", rf"\1{STYLE}", text, count=1)
    path.write_text(re.sub(r"[ \t]+\n", "\n", text), encoding="utf-8")

"""Figures: drawn once for the page (inline SVG in the page's own colours, light or dark) and once as a PNG file.

A drawing gets a `Style` with its colours. For the page they are stand-ins that become CSS variables, so that one
picture serves a light screen, a dark one and paper. People who see no red or green can tell the series' colours apart
(Okabe and Ito), and series differ in shape as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from sq.core.files import write_files
from sq.core.intervals import Interval
from sq.report.html import render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 5.0
"""Inches: 360 points, so that letters of 10 points are legible on a telephone too."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True, kw_only=True)
class Style:
    """The colours of a drawing."""

    text: str
    grid: str
    surface: str
    series: tuple[str, ...]

    def color(self, number: int) -> str:
        """The colour of a series by its number."""
        return self.series[number % len(self.series)]


PRINTED = Style(
    text="#222222",
    grid="#d9d9d9",
    surface="#ffffff",
    series=("#0072b2", "#d55e00", "#009e73", "#a6559d", "#b07a00", "#3d9bd1", "#6b6b6b"),
)
STAND_IN = Style(
    text="#0a0a01",
    grid="#0a0a02",
    surface="#0a0a03",
    series=tuple(f"#0b0b0{i}" for i in range(len(PRINTED.series))),
)
_VARIABLES = {
    STAND_IN.text: "currentColor",
    STAND_IN.grid: "var(--grid)",
    STAND_IN.surface: "var(--surface)",
    **{color: f"var(--s{i})" for i, color in enumerate(STAND_IN.series)},
}
Drawing = Callable[[Style], "Figure"]


@dataclass(kw_only=True)
class Plots:
    """Draws, keeps the PNG files beside the page, and remembers which there are."""

    directory: Path
    files: list[Path] = field(default_factory=list)

    def add(self, name: str, drawing: Drawing, alt: str, caption: str = "") -> Markup:
        """The figure as an element of the page; its PNG is written beside it.

        Args:
            name: of the PNG file, unique on the page.
            drawing: makes the figure in given colours.
            alt: what it shows, in words, for who cannot see it.
            caption: a line below it.
        """
        with _style(name, PRINTED):
            image = _saved(drawing(PRINTED), "png")
        write_files(self.directory, {f"{name}.png": image})
        self.files.append(self.directory / f"{name}.png")
        with _style(name, STAND_IN):
            view, shapes = _svg(_saved(drawing(STAND_IN), "svg").decode("utf-8"), f"figure-{name}")
        values = {"id": f"figure-{name}", "view": view, "drawing": shapes, "alt": alt, "caption": caption}
        return Markup(render("figure.html.j2", **values))


def axes(
    style: Style, *, height: float = 3.0, columns: int = 1, rows: int = 1, **kwargs: Any
) -> tuple[Figure, list[Any]]:
    """A figure with empty axes in the look of the page."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **kwargs)
    for ax in grid.flat:
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            ax.spines[side].set_color(style.grid)
        ax.tick_params(colors=style.text, length=3)
        ax.grid(True, axis="y", color=style.grid, linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, list(grid.flat)


def percent_axis(axis: Any) -> None:
    """Shares as percentages on an axis."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 6):g}%"))


def error_bars(
    ax: Any, places: Sequence[tuple[float, Interval, Sequence[Interval]]], style: Style, number: int, *,
    label: str | None = None, line: bool = True, aside: float = 0.0,
) -> None:  # fmt: skip
    """Means with their intervals; where a mean is of several seeds, each seed's as a small dot, so far aside."""
    marker, color = MARKERS[number % len(MARKERS)], style.color(number)
    xs, means = [x for x, _, _ in places], [mean.value for _, mean, _ in places]
    errors = [[m.value - m.low for _, m, _ in places], [m.high - m.value for _, m, _ in places]]
    ax.errorbar(xs, means, yerr=errors, fmt=marker + ("-" if line else ""), capsize=4, color=color, label=label,
                linewidth=1.2, markersize=6)  # fmt: skip
    for x, _, seeds in places:
        if len(seeds) > 1:
            ax.plot([x + aside] * len(seeds), [s.value for s in seeds], ".", color=color, alpha=0.7, markersize=5)


def named_places(ax: Any, names: Sequence[str]) -> None:
    """Names below the places 0, 1, ... of an axis, aslant where they are long."""
    ax.set_xticks(range(len(names)), names, rotation=0 if max(map(len, names)) < 15 else 20)
    ax.set_xlim(-0.5, len(names) - 0.5)


def histograms(
    bins: tuple[int, float, float], series: Mapping[str, Sequence[float]], label: str, style: Style
) -> Figure:
    """One below the other on the same axes: the share of each series' values in each bin, and a dotted mean.

    Args:
        bins: how many, from where, to where; a value outside counts to the nearest.
        series: values by name.
        label: what the values are.
        style: the colours.
    """
    count, low, high = bins
    figure, plots = axes(style, height=1.15 * len(series) + 0.6, rows=len(series), sharex=True, sharey=True)
    width = (high - low) / count
    for number, (ax, (name, values)) in enumerate(zip(plots, series.items(), strict=True)):
        middles = [low + (i + 0.5) * width for i in range(count)]
        ax.bar(middles, spread(values, *bins), width=0.86 * width, color=style.color(number))
        ax.axvline(sum(values) / len(values), color=style.text, linewidth=1, linestyle=":")
        ax.set_title(f"{name} ({len(values):,})", loc="left")
        percent_axis(ax.yaxis)
    plots[-1].set_xlabel(label)
    return figure


def spread(values: Sequence[float], bins: int, low: float, high: float) -> list[float]:
    """The share of the values in each of `bins` equal bins; what lies outside goes to the nearest."""
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int((value - low) / (high - low) * bins)))] += 1
    return [count / max(1, len(values)) for count in counts]


def horizontal_bars(ax: Any, names: Sequence[str], style: Style) -> None:
    """An axis for bars from left to right, the first name on top, their legend above."""
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.grid(False)
    ax.grid(True, axis="x", color=style.grid, linewidth=0.6)
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=3)


@contextmanager
def _style(name: str, style: Style) -> Iterator[None]:
    import matplotlib

    settings: Any = {
        "svg.fonttype": "none",  # letters stay letters: small, sharp, searchable
        "svg.hashsalt": name,
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.labelsize": 10,
        "text.color": style.text,
        "axes.labelcolor": style.text,
        "axes.titlecolor": style.text,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "legend.frameon": False,
        "legend.fontsize": 9,
        "text.parse_math": False,  # a label is a label, whatever dollars are in it
    }
    with matplotlib.rc_context(settings):
        yield


def _saved(figure: Figure, kind: str) -> bytes:
    target = io.BytesIO()
    if kind == "png":
        figure.savefig(target, format="png", dpi=200, facecolor=PRINTED.surface)
    else:
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    return target.getvalue()


def _svg(text: str, name: str) -> tuple[Markup, Markup]:
    """Matplotlib's SVG as a part of the page: its head and styles gone, its colours the page's, its ids its own.

    Returns:
        the attribute viewBox, and all that is inside the element.
    """
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id|xlink:href|href)="(#?)([^"]+)"', rf'\1="\2{name}-\3"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, variable)
    opening, inside = text[text.index("<svg") :].split(">", 1)
    view = re.search(r'viewBox="[^"]+"', opening)
    assert view is not None
    return Markup(view[0]), Markup(inside.rpartition("</svg>")[0])

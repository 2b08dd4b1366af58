"""Figures: drawn once, kept as a PNG file for slides and put on the page as inline SVG in the page's own colours.

On the page the colours become CSS variables, so that one picture serves a light screen, a dark one and paper. People
who see no red or green can tell the series' colours apart (Okabe and Ito), and series differ in shape as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from sq.core.files import write_files
from sq.core.intervals import Interval
from sq.report.render import render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 5.0  # inches: 360 points, so that letters of 10 points are legible on a telephone too
TEXT, GRID, SURFACE = "#222222", "#d9d9d9", "#ffffff"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#a6559d", "#b07a00", "#3d9bd1", "#6b6b6b")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_VARIABLES = {TEXT: "currentColor", GRID: "var(--grid)", SURFACE: "var(--surface)"}
_VARIABLES |= {color: f"var(--s{number})" for number, color in enumerate(SERIES)}
_SETTINGS: Any = {
    "svg.fonttype": "none",  # letters stay letters: small, sharp, searchable
    "text.parse_math": False,  # a label is a label, whatever dollars are in it
    "font.family": "DejaVu Sans", "font.size": 10, "axes.titlesize": 10, "axes.labelsize": 10, "legend.fontsize": 9,
    "text.color": TEXT, "axes.labelcolor": TEXT, "axes.titlecolor": TEXT, "axes.facecolor": "none",
    "figure.facecolor": "none", "legend.frameon": False,
}  # fmt: skip


@dataclass(kw_only=True)
class Plots:
    """Draws, keeps the PNG files beside the page, and remembers which there are."""

    directory: Path
    files: list[Path] = field(default_factory=list)

    def add(self, name: str, draw: Callable[[], Figure], alt: str, caption: str = "") -> Markup:
        """The figure as an element of the page; its PNG is written beside it, under a name unique on the page.

        `alt` says in words what it shows, for who cannot see it.
        """
        import matplotlib

        png, svg = io.BytesIO(), io.BytesIO()
        with matplotlib.rc_context(_SETTINGS | {"svg.hashsalt": name}):
            figure = draw()
            figure.savefig(png, format="png", dpi=200, facecolor=SURFACE)
            figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
        write_files(self.directory, {f"{name}.png": png.getvalue()})
        self.files.append(self.directory / f"{name}.png")
        view, shapes = _part_of_page(svg.getvalue().decode("utf-8"), f"figure-{name}")
        values = {"id": f"figure-{name}", "view": view, "drawing": shapes, "alt": alt, "caption": caption}
        return Markup(render("figure.html.j2", **values))

    def histograms(
        self, name: str, label: str, series: Mapping[str, Sequence[float]], bins: tuple[int, float, float]
    ) -> Markup:
        """Histograms one below the other: the share of each series' values in each bin, and a dotted mean.

        `bins` says how many, from where, to where; a value outside counts to the nearest.
        """
        means = [f"{key}, {len(v):,} values, mean {sum(v) / len(v):.2f}" for key, v in series.items()]
        alt, caption = f"Histograms of {label}: {'; '.join(means)}", f"Shares by {label}; dotted: the mean"
        return self.add(name, lambda: _histograms(label, series, *bins), alt, caption)


def color(number: int) -> str:
    """The colour of a series by its number."""
    return SERIES[number % len(SERIES)]


def axes(*, height: float = 3.0, rows: int = 1, **kwargs: Any) -> tuple[Figure, list[Any]]:
    """A figure with empty axes in the style of the page."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    plots = list(figure.subplots(rows, 1, squeeze=False, **kwargs).flat)
    for ax in plots:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(GRID)
        ax.tick_params(colors=TEXT, length=3)
        ax.grid(True, axis="y", color=GRID, linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, plots


def percent_axis(axis: Any) -> None:
    """Shares as percentages on an axis."""
    axis.set_major_formatter(lambda value, _: f"{round(100 * value, 6):g}%")


def error_bars(
    ax: Any, places: Sequence[tuple[float, Interval, Sequence[Interval]]], number: int, *,
    label: str | None = None, line: bool = True, aside: float = 0.0,
) -> None:  # fmt: skip
    """Means with their intervals; where a mean is of several seeds, each seed's as a small dot, so far aside."""
    marker, own = MARKERS[number % len(MARKERS)], color(number)
    xs, means = [x for x, _, _ in places], [mean.value for _, mean, _ in places]
    errors = [[m.value - m.low for _, m, _ in places], [m.high - m.value for _, m, _ in places]]
    ax.errorbar(xs, means, yerr=errors, fmt=marker + ("-" if line else ""), capsize=4, color=own, label=label,
                linewidth=1.2, markersize=6)  # fmt: skip
    for x, _, seeds in places:
        if len(seeds) > 1:
            ax.plot([x + aside] * len(seeds), [s.value for s in seeds], ".", color=own, alpha=0.7, markersize=5)


LABELS = 60  # characters of equally long names that stand side by side below an axis


def named_places(ax: Any, names: Sequence[str]) -> None:
    """Names below the places 0, 1, ... of an axis, aslant where they would run into each other."""
    ax.set_xticks(range(len(names)), names)
    if len(names) * max(map(len, names)) > LABELS:
        ax.figure.set_figheight(ax.figure.get_figheight() + 0.7)
        for label in ax.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")
    ax.set_xlim(-0.5, len(names) - 0.5)


def _histograms(label: str, series: Mapping[str, Sequence[float]], count: int, low: float, high: float) -> Figure:
    figure, plots = axes(height=1.15 * len(series) + 0.6, rows=len(series), sharex=True, sharey=True)
    for number, (ax, (name, values)) in enumerate(zip(plots, series.items(), strict=True)):
        inside = [min(high, max(low, value)) for value in values]
        ax.hist(inside, count, (low, high), weights=[1 / len(values)] * len(values), rwidth=0.86, color=color(number))
        ax.axvline(sum(values) / len(values), color=TEXT, linewidth=1, linestyle=":")
        ax.set_title(f"{name} ({len(values):,})", loc="left")
        percent_axis(ax.yaxis)
    plots[-1].set_xlabel(label)
    return figure


def horizontal_bars(ax: Any, names: Sequence[str]) -> None:
    """An axis for bars from left to right, the first name on top, their legend above."""
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.grid(False)
    ax.grid(True, axis="x", color=GRID, linewidth=0.6)
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=3)


def _part_of_page(text: str, name: str) -> tuple[Markup, Markup]:
    """Matplotlib's SVG without head and styles, its colours the page's, its ids its own: viewBox, and all inside."""
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id|xlink:href|href)="(#?)([^"]+)"', rf'\1="\2{name}-\3"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    for printed, variable in _VARIABLES.items():
        text = text.replace(printed, variable)
    opening, inside = text[text.index("<svg") :].split(">", 1)
    view = re.search(r'viewBox="[^"]+"', opening)
    assert view is not None
    return Markup(view[0]), Markup(inside.rpartition("</svg>")[0])

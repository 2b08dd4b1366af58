"""Figures: drawn once for the page (inline SVG in the page's own colours, light or dark) and once as a PNG file.

A drawing gets a `Style` with its colours. For the page they are stand-ins that become CSS variables, so that one
picture serves a light screen, a dark one and paper. The series' colours are told apart by people who see no red or
green (Okabe and Ito), and series differ in shape as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from sq.core.files import write_files
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
            view, drawing_of = _svg(_saved(drawing(STAND_IN), "svg").decode("utf-8"), f"figure-{name}")
        return render("figure.html.j2", id=f"figure-{name}", view=view, drawing=drawing_of, alt=alt, caption=caption)


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

"""Figures: on the page in the page's own colours and without anything from outside, beside it as PNG files."""

import itertools
import math
import re

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from sq.report.plots import SERIES, TEXT, Plots, axes, color, named_places

SOURCES = "backtranslate dart evol fewshot iqc kpmath magpie mathscale metamath orca prefix".split()


def drawing():
    figure, (ax,) = axes()
    ax.bar(["<a>", "$b$"], [1, 2], color=color(0))
    ax.scatter([0, 1], [1, 2], color=color(1))
    return figure


def test_a_figure_is_drawn_in_variables_and_saved_as_png(tmp_path):
    figures = Plots(directory=tmp_path)
    made = figures.add("f", drawing, 'bars of "a" & b', "a caption")
    (png,) = figures.files
    assert png == tmp_path / "f.png" and png.read_bytes().startswith(b"\x89PNG") and png.stat().st_size > 2_000
    assert "var(--s0)" in made and "var(--s1)" in made and "currentColor" in made
    assert not any(printed in made for printed in (*SERIES, TEXT)), "or it would not follow the reader's dark setting"
    assert 'role="img"' in made and "bars of &#34;a&#34; &amp; b</title>" in made and "a caption" in made
    assert "&lt;a&gt;" in made and "$b$" in made, "labels are text"
    assert "<style" not in made and "http" not in made and "<metadata" not in made


def test_two_figures_share_no_ids_and_a_second_drawing_is_the_same(tmp_path):
    figures = Plots(directory=tmp_path)
    first, second = figures.add("one", drawing, "x"), figures.add("two", drawing, "x")
    ids = [set(re.findall(r'\bid="([^"]+)"', made)) for made in (first, second)]
    assert ids[0] and not ids[0] & ids[1]
    for made, own in zip((first, second), ids, strict=True):
        assert {name for name in re.findall(r"url\(#([^)]+)\)", made)} <= own
    assert Plots(directory=tmp_path).add("one", drawing, "x") == first


@pytest.mark.parametrize(
    "names", [["raw", "+QFT", "+QPO", "+filter+reward"], SOURCES, [f"questions-{n}" for n in SOURCES]]
)
def test_names_of_places_do_not_run_into_each_other(names):
    """The boxes of level names; of slanted ones, the distance between their lines against the height of a line."""
    figure, (ax,) = axes(height=2.9)
    named_places(ax, names)
    FigureCanvasAgg(figure).draw()
    labels = ax.get_xticklabels()
    if not labels[0].get_rotation():
        boxes = [label.get_window_extent() for label in labels]
        assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))
        return
    ends = [ax.transData.transform((place, 0))[0] for place in ax.get_xticks()]
    apart = (ends[1] - ends[0]) * math.sin(math.radians(labels[0].get_rotation()))
    assert apart > labels[0].get_fontsize() * figure.dpi / 72
    assert {label.get_ha() for label in labels} == {"right"}, "each ends at its own place"

"""Figures: on the page in the page's own colours and without anything from outside, beside it as PNG files."""

import re

from sq.report.plots import SERIES, TEXT, Plots, axes, color


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

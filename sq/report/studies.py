"""The recipe's side studies: accuracy against data size (paper, Figure 1), one generator against a mix (Table 3), QPO
against the number of pairs (v2, Figure 9), best-of-n against n.

A stage says by its tags which study it serves and where it stands: figure, x (or size), seed, series.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from sq.core.intervals import Interval
from sq.report.artifacts import RunArtifacts, StageArtifacts
from sq.report.html import Section, heading, join, table
from sq.report.measure import ORACLE, accuracy, over_seeds, quality, selected_right, with_interval
from sq.report.style import MARKERS, Plots, Style, axes, percent_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a study is called and what its axis counts."""

    title: str
    axis: str
    paper: str = ""


KNOWN = {
    "data_size": Study(title="Accuracy by data size", axis="rows the student was tuned on", paper="Figure 1"),
    "generators": Study(title="One generator against a mix", axis="", paper="Table 3"),
    "qpo_pairs": Study(title="QPO by number of pairs", axis="preference pairs", paper="Figure 9 of v2"),
    "best_of_n": Study(title="Best of n", axis="solutions to each question (n)"),
}
Points = dict[tuple[str, str], list[Interval]]
"""By series and x: a figure a seed."""


def section(artifacts: RunArtifacts, figures: Plots) -> Section | None:
    """Every study that the run's stages were tagged for."""
    by_name: dict[str, list[StageArtifacts]] = defaultdict(list)
    for stage in artifacts.stages:
        if stage.tags.get("figure") and stage.directory.is_dir():
            by_name[stage.tags["figure"]].append(stage)
    parts: list[Markup] = []
    told = 0
    for name, stages in by_name.items():
        study = KNOWN.get(name, Study(title=name.replace("_", " ").capitalize(), axis="x"))
        measured = _measured(stages, artifacts)
        if not measured:
            continue
        told += 1
        parts.append(heading(study.title + (f" (paper: {study.paper})" if study.paper else "")))
        for measure, points in measured.items():
            parts.append(_shown(f"{_plain(name)}-{_plain(measure)}", study, measure, points, figures))
    if not parts:
        return None
    studies = "study" if told == 1 else "studies"
    says = f"{told} {studies} of what the result depends on, each figure with its 95% interval."
    return Section(id="studies", title="Side studies", says=says, body=join(parts))


def _measured(stages: Sequence[StageArtifacts], artifacts: RunArtifacts) -> dict[str, Points]:
    """What the stages of a study have to show, by measure."""
    told: dict[str, Points] = {}
    for stage in stages:
        place = (stage.tags.get("series", ""), stage.tags.get("x") or stage.tags.get("size") or stage.tags.get("n", ""))
        for measure, figure in _of_stage(stage, artifacts):
            told.setdefault(measure, {}).setdefault(place, []).append(figure)
    return told


def _of_stage(stage: StageArtifacts, artifacts: RunArtifacts) -> list[tuple[str, Interval]]:
    if stage.kind == "evaluate":
        return [(f"student's accuracy on {name}", accuracy(stage, name)) for name in stage.benchmarks]
    if stage.kind == "select":
        right = selected_right([stage], artifacts)
        return [("right answers selected", right)] if right else []
    if stage.kind in ("questions", "filter"):
        seen = quality([stage], artifacts)
        told = [(f"solvable questions by {by}", share) for by, share in seen.solvable.items()]
        scorers = {by: "" if by == ORACLE else f" by {by}" for by in seen.difficulty}
        return told + [(f"{seen.measure}{scorers[by]}", figure) for by, figure in seen.difficulty.items()]
    return []


def _shown(name: str, study: Study, measure: str, points: Points, figures: Plots) -> Markup:
    """A study's figure under one measure, and its table."""
    shares = not measure.startswith(("steps", "predicted"))
    places = sorted(points, key=lambda place: (place[0], _number(place[1])))
    told = {place: over_seeds(points[place]) for place in places}
    numeric = len({x for _, x in places}) > 1 and all(_number(x) != float("inf") for _, x in places)
    rows = [
        [series or measure, x or "–", f"{len(points[series, x])}", with_interval(told[series, x], shares=shares)]
        for series, x in places
    ]
    head = ["series", study.axis or "x", "seeds", measure]
    made = table(head, rows, caption=f"{study.title}: {measure}")
    alt = f"{study.title}, {measure}: " + "; ".join(
        f"{' '.join(filter(None, place))} {with_interval(figure, shares=shares)}" for place, figure in told.items()
    )

    def drawn(style: Style) -> Figure:
        figure, (ax,) = axes(style, height=2.9)
        (_lines if numeric else _dots)(ax, told, points, style)
        ax.set_ylabel(measure)
        ax.set_xlabel(study.axis if numeric else "")
        if shares:
            percent_axis(ax.yaxis)
        return figure

    return join([figures.add(name, drawn, alt), made])


def _lines(ax: object, told: Mapping[tuple[str, str], Interval], points: Points, style: Style) -> None:
    from matplotlib.axes import Axes
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    assert isinstance(ax, Axes)
    names = list(dict.fromkeys(series for series, _ in told))
    for number, name in enumerate(names):
        seen = [(_number(x), f, points[series, x]) for (series, x), f in told.items() if series == name]
        color = style.series[number % len(style.series)]
        xs = [x for x, _, _ in seen]
        errors = [[f.value - f.low for _, f, _ in seen], [f.high - f.value for _, f, _ in seen]]
        ax.errorbar(xs, [f.value for _, f, _ in seen], yerr=errors, fmt=f"{MARKERS[number % len(MARKERS)]}-",
                    capsize=4, color=color, label=name or None, linewidth=1.2)  # fmt: skip
        for x, _, singles in seen:
            if len(singles) > 1:
                ax.plot([x] * len(singles), [s.value for s in singles], ".", color=color, alpha=0.6)
    every = sorted({_number(x) for _, x in told})
    if every[0] > 0 and every[-1] / every[0] >= 4:
        ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(every))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FixedFormatter([f"{x:,.0f}" if x == int(x) else f"{x:g}" for x in every]))
    if len(names) > 1:
        ax.legend()


def _dots(ax: object, told: Mapping[tuple[str, str], Interval], points: Points, style: Style) -> None:
    from matplotlib.axes import Axes

    assert isinstance(ax, Axes)
    names = [" ".join(filter(None, place)) or "all" for place in told]
    for number, (place, f) in enumerate(told.items()):
        color = style.series[number % len(style.series)]
        ax.errorbar([number], [f.value], yerr=[[f.value - f.low], [f.high - f.value]], capsize=5, color=color,
                    fmt=MARKERS[number % len(MARKERS)], markersize=7)  # fmt: skip
        if len(points[place]) > 1:
            ax.plot([number + 0.12] * len(points[place]), [s.value for s in points[place]], ".", color=color, alpha=0.7)
    ax.set_xticks(range(len(names)), names)
    ax.set_xlim(-0.6, len(names) - 0.4)


def _number(text: str) -> float:
    try:
        return float(text.replace(",", "").replace("_", ""))
    except ValueError:
        return float("inf")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "study"

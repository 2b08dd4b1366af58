"""What the result depends on: accuracy by data size (paper, Figure 1), one generator against a mix (Table 3), QPO by
number of pairs (v2, Figure 9), best-of-n by n.

A stage says by its tags which sweep it serves and where it stands: figure, x (or size, or n), seed, series.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sq.core.intervals import Interval
from sq.report.artifacts import RunArtifacts, StageArtifacts
from sq.report.changes import accuracy, over_seeds
from sq.report.format import interval
from sq.report.html import Section, section
from sq.report.plots import Plots, Style, axes, error_bars, named_places, percent_axis
from sq.report.quality import ORACLE, quality, selected_right

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep is called and what its axis counts."""

    title: str
    axis: str = "x"
    paper: str = ""


SWEEPS = {
    "data_size": Sweep(title="Accuracy by data size", axis="rows the student was tuned on", paper="Figure 1"),
    "generators": Sweep(title="One generator against a mix", axis="", paper="Table 3"),
    "qpo_pairs": Sweep(title="QPO by number of pairs", axis="preference pairs", paper="Figure 9 of v2"),
    "best_of_n": Sweep(title="Best of n", axis="solutions to each question (n)"),
}
Values = dict[tuple[str, str], list[Interval]]
"""By series and x: a value a seed."""


def sweeps(artifacts: RunArtifacts, plots: Plots) -> Section | None:
    """Every sweep that the run's stages were tagged for."""
    by_name: dict[str, list[StageArtifacts]] = defaultdict(list)
    for stage in artifacts.stages:
        if stage.tags.get("figure") and stage.directory.is_dir():
            by_name[stage.tags["figure"]].append(stage)
    parts = []
    for name, stages in by_name.items():
        sweep = SWEEPS.get(name, Sweep(title=name.replace("_", " ").capitalize()))
        metrics = [_metric(name, sweep, m, values, plots) for m, values in _by_metric(stages, artifacts).items()]
        parts += [{"sweep": sweep, "metrics": metrics}] if metrics else []
    return section("sweeps", sweeps=parts) if parts else None


def _by_metric(stages: Sequence[StageArtifacts], artifacts: RunArtifacts) -> dict[str, Values]:
    """What the stages of a sweep have to show, by metric."""
    by_metric: dict[str, Values] = {}
    for stage in stages:
        place = (stage.tags.get("series", ""), stage.tags.get("x") or stage.tags.get("size") or stage.tags.get("n", ""))
        for metric, value in _of_stage(stage, artifacts):
            by_metric.setdefault(metric, {}).setdefault(place, []).append(value)
    return by_metric


def _of_stage(stage: StageArtifacts, artifacts: RunArtifacts) -> list[tuple[str, Interval]]:
    if stage.kind == "evaluate":
        return [(f"student's accuracy on {name}", accuracy(stage, name)) for name in stage.benchmarks]
    if stage.kind == "select":
        right = selected_right([stage], artifacts)
        return [("right answers selected", right)] if right else []
    if stage.kind in ("questions", "filter"):
        of_questions = quality([stage], artifacts)
        solvable = [(f"solvable questions by {by}", share) for by, share in of_questions.solvable.items()]
        scorers = {by: "" if by == ORACLE else f" by {by}" for by in of_questions.difficulty}
        return solvable + [(f"{of_questions.unit}{scorers[by]}", v) for by, v in of_questions.difficulty.items()]
    return []


def _metric(name: str, sweep: Sweep, metric: str, values: Values, plots: Plots) -> dict[str, Any]:
    """A sweep's figure under one metric, and the rows of its table."""
    shares = not metric.startswith(("steps", "predicted"))
    means = {place: over_seeds(values[place]) for place in sorted(values, key=lambda p: (p[0], _number(p[1])))}
    numeric = len({x for _, x in means}) > 1 and all(_number(x) != float("inf") for _, x in means)
    alt = f"{sweep.title}, {metric}: " + "; ".join(
        f"{' '.join(filter(None, place))} {interval(mean, shares)}" for place, mean in means.items()
    )

    def draw(style: Style) -> Figure:
        figure, (ax,) = axes(style, height=2.9)
        (_lines if numeric else _dots)(ax, means, values, style)
        ax.set_ylabel(metric)
        ax.set_xlabel(sweep.axis if numeric else "")
        if shares:
            percent_axis(ax.yaxis)
        return figure

    figure = plots.add("-".join(_plain(word) for word in (name, metric)), draw, alt)
    rows = [[s or metric, x or "–", len(values[s, x]), interval(mean, shares)] for (s, x), mean in means.items()]
    return {"name": metric, "figure": figure, "rows": rows}


def _lines(ax: Any, means: Mapping[tuple[str, str], Interval], values: Values, style: Style) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    names = list(dict.fromkeys(series for series, _ in means))
    for number, name in enumerate(names):
        own = [(_number(x), mean, values[series, x]) for (series, x), mean in means.items() if series == name]
        error_bars(ax, own, style, number, label=name or None)
    every = sorted({_number(x) for _, x in means})
    if every[0] > 0 and every[-1] / every[0] >= 4:
        ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(every))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FixedFormatter([f"{x:,.0f}" if x == int(x) else f"{x:g}" for x in every]))
    if len(names) > 1:
        ax.legend()


def _dots(ax: Any, means: Mapping[tuple[str, str], Interval], values: Values, style: Style) -> None:
    for number, (place, mean) in enumerate(means.items()):
        error_bars(ax, [(number, mean, values[place])], style, number, line=False, aside=0.12)
    named_places(ax, [" ".join(filter(None, place)) or "all" for place in means])


def _number(text: str) -> float:
    try:
        return float(text.replace(",", "").replace("_", ""))
    except ValueError:
        return float("inf")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "sweep"

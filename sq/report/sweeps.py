"""What the result depends on: accuracy by data size (paper, Figure 1), one generator against a mix (Table 3), QPO by
number of pairs (v2, Figure 9), best-of-n by n, QPO by round.

A stage says by its tags which sweep it serves and where it stands: figure, x (or size, or n), seed, series.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sq.core.intervals import Interval
from sq.report.artifacts import RunArtifacts, StageArtifacts
from sq.report.estimates import ORACLE, accuracy, by_oracle, over_seeds, quality, selected_right
from sq.report.plots import Plots, axes, error_bars, named_places, percent_axis
from sq.report.render import Section, interval, section
from sq.report.weak_topics import FIGURE, accuracy_by_weakness, weakness_notes
from sq.synth.question_value import kept_round, measured_questions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SWEEPS = {
    "data_size": ("Accuracy by data size", "rows the student was tuned on", "Figure 1"),
    "generators": ("One generator against a mix", "", "Table 3"),
    "question_sources": ("Question sources", "", "Table 2"),
    "qpo_pairs": ("QPO by number of pairs", "preference pairs", "Figure 9 of v2"),
    "rounds": ("QPO by round", "round", ""),
    FIGURE: ("Practice on weak topics", "topics", ""),
    "best_of_n": ("Best of n", "solutions to each question (n)", ""),
}
"""What a sweep is called, what its axis counts, and where the paper has it."""
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
        title, axis, paper = SWEEPS.get(name, (name.replace("_", " ").capitalize(), "x", ""))
        by_topic = name == FIGURE
        by_metric = accuracy_by_weakness(stages) if by_topic else _by_metric(stages, artifacts)
        metrics = [_metric(name, title, axis, metric, values, plots) for metric, values in by_metric.items()]
        note = "; ".join(weakness_notes(stages) if by_topic else _kept_rounds(stages))
        parts += [{"title": title, "axis": axis, "paper": paper, "note": note, "metrics": metrics}] if metrics else []
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
    if stage.kind == "filter" and "wanted" in stage.tags:
        return _of_round(stage, artifacts)
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


def _of_round(stage: StageArtifacts, artifacts: RunArtifacts) -> list[tuple[str, Interval]]:
    """All questions that the stage measured, those that its judge rejected too."""
    measured = measured_questions(stage.directory, float(stage.tags["wanted"]))
    values = [
        ("solvable questions by the judge", measured.share), ("fail rate of the solver", measured.fail_rate),
        ("solvable × wanted difficulty", measured.value),
    ]  # fmt: skip
    if artifacts.oracle is None:
        return values
    texts = [*(row["question"] for row in stage.rows("question")), *(row["question"] for row, _, _ in stage.rejects())]
    of = by_oracle(texts, artifacts.oracle)
    more = [(f"solvable questions by {ORACLE}", share) for share in of.solvable.values()]
    return [*values, *more, *((of.unit, value) for value in of.difficulty.values())]


def _kept_rounds(stages: Sequence[StageArtifacts]) -> Iterator[str]:
    """Of each seed's rounds, what each gained in value and which one is kept: the last that gained."""
    seeds: dict[str, list[StageArtifacts]] = defaultdict(list)
    for stage in stages:
        if stage.kind == "filter" and "wanted" in stage.tags:
            seeds[stage.tags.get("seed", "")].append(stage)
    for seed, rounds in seeds.items():
        rounds.sort(key=lambda stage: _number(stage.tags.get("x", "")))
        kept, gains = kept_round([measured_questions(s.directory, float(s.tags["wanted"])) for s in rounds])
        each = [f"round {n} {g.value:+.3f} ({g.low:+.3f} to {g.high:+.3f})" for n, g in enumerate(gains, 1)]
        of = f"seed {seed}: " if seed else ""
        yield f"{of}gain in value, {', '.join(each) or 'no round yet'}; kept is round {kept}"


def _metric(name: str, title: str, axis: str, metric: str, values: Values, plots: Plots) -> dict[str, Any]:
    """A sweep's figure under one metric, and the rows of its table."""
    shares = not metric.startswith(("steps", "predicted"))
    means = _means(values)
    alt = f"{title}, {metric}: " + "; ".join(
        f"{' '.join(filter(None, place))} {interval(mean, shares)}" for place, mean in means.items()
    )

    def draw() -> Figure:
        figure, (ax,) = axes(height=2.9)
        draw_sweep(ax, values, axis)
        ax.set_ylabel(metric)
        if shares:
            percent_axis(ax.yaxis)
        return figure

    figure = plots.add(f"{_plain(name)}-{_plain(metric)}", draw, alt)
    rows = [[s or metric, x or "–", len(values[s, x]), interval(mean, shares)] for (s, x), mean in means.items()]
    return {"name": metric, "figure": figure, "rows": rows}


def _means(values: Values) -> dict[tuple[str, str], Interval]:
    return {place: over_seeds(values[place]) for place in sorted(values, key=lambda p: (p[0], _number(p[1])))}


def best_of_n(artifacts: RunArtifacts) -> Values:
    """The share of right answers among those selected, by method and n; nothing where no stage is tagged so."""
    stages = [s for s in artifacts.stages if s.tags.get("figure") == "best_of_n" and s.directory.is_dir()]
    return next(iter(_by_metric(stages, artifacts).values()), {})


def draw_sweep(ax: Any, values: Values, axis: str) -> None:
    """Means with their intervals: a line a series where places are numbers, else a point a place."""
    means = _means(values)
    numeric = len({x for _, x in means}) > 1 and all(_number(x) != float("inf") for _, x in means)
    groups: Sequence[Any] = list(dict.fromkeys(series for series, _ in means)) if numeric else list(means)
    for number, group in enumerate(groups):
        own = [(_number(p[1]) if numeric else number, means[p], values[p]) for p in means if group in (p, p[0])]
        label = group if numeric and len(groups) > 1 else None
        error_bars(ax, own, number, label=label, line=numeric, aside=0 if numeric else 0.12)
    if numeric:
        _numeric_axis(ax, sorted({_number(x) for _, x in means}), axis)
    else:
        named_places(ax, [" ".join(filter(None, place)) or "all" for place in means])
    if numeric and len(groups) > 1:
        ax.legend()


def _numeric_axis(ax: Any, places: Sequence[float], label: str) -> None:
    if places[0] > 0 and places[-1] / places[0] >= 4:
        ax.set_xscale("log")
    ax.set_xticks(places, [f"{x:,.10g}" for x in places])
    ax.minorticks_off()
    ax.set_xlabel(label)


def _number(text: str) -> float:
    try:
        return float(text.replace(",", "").replace("_", ""))
    except ValueError:
        return float("inf")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "sweep"

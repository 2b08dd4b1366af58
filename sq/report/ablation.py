"""The headline: what each step of the method changed (paper, Figures 4 and 5 and the ablation's table).

Conditions are the recipe's variants (raw, +QFT, +QPO, +filter+reward). Each is compared with the one before it, and a
step that shows no gain is said to show none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sq.core.intervals import Interval
from sq.report.artifacts import RunArtifacts, StageArtifacts, find_run
from sq.report.estimates import (
    Change,
    Quality,
    accuracy,
    change,
    change_of_students,
    change_over_seeds,
    over_seeds,
    quality,
)
from sq.report.plots import Plots, axes, error_bars, named_places, percent_axis
from sq.report.render import Section, interval, points, section
from sq.report.sweeps import SWEEPS, Values, best_of_n, draw_sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS: tuple[tuple[str, str, bool], ...] = (
    ("solvable", "solvable share", True),
    ("difficulty", "mean difficulty", False),
    ("student", "student's accuracy", True),
)
"""What conditions are compared by: key, name, and whether it is a share."""
BY_ITS_OWN = {"solvable": "by its own judge", "difficulty": "by its own scorer"}
"""What stands in the place of a number that the filter's choice has made."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One condition of the ablation, over its seeds."""

    name: str
    sources: Sequence[StageArtifacts]
    """Where its questions are."""
    students: Mapping[str, StageArtifacts]
    """Its student's evaluation by seed."""
    qualities: Mapping[str, Quality]
    """Of its questions, by seed."""
    labeller: str = ""
    """Who says for all conditions what can be solved: shares by several do not stand beside each other."""
    scorer: str = ""
    """Who says how hard questions are."""
    benchmark: str = ""

    def by_seed(self, metric: str) -> dict[str, Interval]:
        """The metric of each seed that has it."""
        if metric == "student":
            tested = {k: s for k, s in self.students.items() if self.benchmark in s.benchmarks}
            return {k: accuracy(s, self.benchmark) for k, s in tested.items()}
        if metric == "solvable":
            return {k: q.solvable[self.labeller] for k, q in self.qualities.items() if self.labeller in q.solvable}
        return {k: q.difficulty[self.scorer] for k, q in self.qualities.items() if self.scorer in q.difficulty}

    @cached_property
    def metrics(self) -> dict[str, Interval | None]:
        """The three by name, over the seeds."""
        of_seeds = {key: self.by_seed(key) for key, _, _ in METRICS}
        return {key: over_seeds([*values.values()]) if values else None for key, values in of_seeds.items()}

    @property
    def by_its_own(self) -> dict[str, str]:
        """Metrics without a number, because only what chose the questions could give one."""
        chosen = {column for q in self.qualities.values() for column in q.chosen_by}
        return {key: text for key, text in BY_ITS_OWN.items() if key in chosen and self.metrics[key] is None}

    @property
    def unit(self) -> str:
        """What its difficulty is counted in."""
        return next((q.unit for q in self.qualities.values() if q.unit), "")

    @property
    def by_other_labellers(self) -> dict[str, Interval]:
        """The solvable share by judges that have labelled fewer conditions."""
        names = dict.fromkeys(by for q in self.qualities.values() for by in q.solvable if by != self.labeller)
        return {by: over_seeds([q.solvable[by] for q in self.qualities.values() if by in q.solvable]) for by in names}


def conditions(artifacts: RunArtifacts) -> list[Condition]:
    """The conditions there are; without a recipe, the stages of questions themselves."""
    rows: list[Condition] = []
    for name in artifacts.variants or [s.name for s in artifacts.of("questions", "filter")]:
        own = [s for s in artifacts.stages if s.directory.is_dir() and (s.variant or s.name) == name]
        sources = [s for s in own if s.kind == "filter"] or [s for s in own if s.kind == "questions"]
        students = {s.tags.get("seed", ""): s for s in own[::-1] if s.kind == "evaluate" and s.benchmarks}
        seeds = dict.fromkeys(s.tags.get("seed", "") for s in sources)
        if sources or students:
            rows.append(Condition(
                name=name, sources=sources, students=dict(reversed(students.items())),
                qualities={k: quality([s for s in sources if s.tags.get("seed", "") == k], artifacts) for k in seeds},
                benchmark=next((b for s in students.values() for b in s.benchmarks), ""),
            ))  # fmt: skip
    labeller = _commonest(by for c in rows for by in {by for q in c.qualities.values() for by in q.solvable})
    scorer = _commonest(by for c in rows for by in {by for q in c.qualities.values() for by in q.difficulty})
    return [replace(c, labeller=labeller, scorer=scorer) for c in rows]


def _commonest(names: Iterable[str]) -> str:
    return next((name for name, _ in Counter(names).most_common(1)), "")


def format_ablation(directory: Path) -> str:
    """The conditions of a run for a terminal: a line each, then what each step changed; nothing where it has none."""
    artifacts = find_run(directory)
    rows = [c for c in conditions(artifacts) if _has_values(c)]
    if not artifacts.variants or len(rows) < 2:
        return ""
    lines = [["", *(name for _, name, _ in METRICS)], *([c.name, *_cells(c)] for c in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*table, "", *(f"{a} -> {b}: {'; '.join(texts)}" for a, b, texts in _steps(rows))])


def record(rows: Sequence[Condition]) -> dict[str, Any]:
    """Conditions as plain values, for ablation.json: their metrics, and each step's change."""
    plain = [
        {"variant": c.name, "seeds": len(c.qualities) or len(c.students),
         **{name: asdict(value) if value else None for name, value in c.metrics.items()},
         "measure": c.unit, "judge": c.by_its_own.get("solvable", c.labeller)}
        for c in rows
    ]  # fmt: skip
    steps = [
        {"from": a.name, "to": b.name, "figure": key, **asdict(step), "verdict": step.direction}
        for a, b, key, _, _, step in _changes(rows)
    ]
    return {"rows": plain, "steps": steps}


def ablation(artifacts: RunArtifacts, plots: Plots, every: Sequence[Condition]) -> Section | None:
    """The table of conditions, the changes in words, and the figure."""
    rows = [c for c in every if _has_values(c)]
    if not rows:
        return None
    unit = _unit(rows)
    seeds = max(len(c.qualities) for c in rows)
    figure, panels = "", [panel for panel in METRICS if any(c.metrics[panel[0]] is not None for c in rows)]
    if panels:
        caption = "Points are means with 95% intervals" + ("; small dots are single seeds" if seeds > 1 else "")
        names = ", ".join(name for _, name, _ in METRICS)
        alt = f"By condition ({names} in {unit}): " + "; ".join(f"{c.name}: {', '.join(_cells(c))}" for c in rows)
        chosen = best_of_n(artifacts)
        figure = plots.add("stages", lambda: _draw(rows, panels, chosen), alt, caption)
    return section(
        "ablation", artifacts=artifacts, conditions=rows, cells={c.name: _cells(c) for c in rows}, unit=unit,
        steps=_steps(rows) if artifacts.variants else [], figure=figure, labeller=rows[0].labeller, seeds=seeds,
        questions=sum(c.metrics["solvable"].count for c in rows if c.metrics["solvable"]),
        problems=max((c.metrics["student"].count for c in rows if c.metrics["student"]), default=0),
        benchmark=rows[-1].benchmark or rows[0].benchmark,
    )  # fmt: skip


def _has_values(condition: Condition) -> bool:
    return any(condition.metrics.values()) or bool(condition.by_its_own)


def _cells(condition: Condition) -> list[str]:
    """A condition's metrics as text."""
    return [condition.by_its_own.get(key) or interval(condition.metrics[key], shares) for key, _, shares in METRICS]


def _unit(rows: Sequence[Condition]) -> str:
    return next((c.unit for c in rows if c.unit), "")


def _changes(rows: Sequence[Condition]) -> Iterator[tuple[Condition, Condition, str, str, bool, Change]]:
    """Each condition against the one before it, and the last against the first, by each metric that both have."""
    whole = [(rows[0], rows[-1])] if len(rows) > 2 else []
    for (before, after), (key, name, shares) in product([*zip(rows, rows[1:], strict=False), *whole], METRICS):
        a, b = before.by_seed(key), after.by_seed(key)
        if not (a and b):
            continue
        if not (seeds := [seed for seed in a if seed in b]):
            step = change(over_seeds([*a.values()]), over_seeds([*b.values()]))
        elif key == "student" and before.benchmark == after.benchmark:
            students = ((before.students[seed], after.students[seed]) for seed in seeds)
            step = change_over_seeds([change_of_students(*two, after.benchmark) for two in students])
        else:
            step = change_over_seeds([change(a[seed], b[seed]) for seed in seeds])
        yield before, after, key, name, shares, step


def _steps(rows: Sequence[Condition]) -> list[tuple[str, str, list[str]]]:
    """Each step in words; where no difference is shown, that."""
    steps: dict[tuple[str, str], list[str]] = {}
    for before, after, _, name, shares, step in _changes(rows):
        word = {"gain": "up", "loss": "down"}.get(step.direction, step.direction)
        text = f"{_titled(name, rows)} {word}, {points(step, shares)}{' points' if shares else ''}"
        steps.setdefault((before.name, after.name), []).append(text)
    return [(before, after, texts) for (before, after), texts in steps.items()]


def _titled(name: str, rows: Sequence[Condition]) -> str:
    return name.replace("difficulty", _unit(rows) or "difficulty")


def _draw(rows: Sequence[Condition], panels: Sequence[tuple[str, str, bool]], chosen: Values) -> Figure:
    """A panel a metric, and one of best of n where the run has tried that."""
    count = len(panels) + bool(chosen)
    figure, plots = axes(height=1.9 * count + (0.9 if chosen else 0.3), rows=count)
    for number, (ax, (key, title, shares)) in enumerate(zip(plots, panels, strict=False)):
        means = [(x, c.metrics[key], [*c.by_seed(key).values()]) for x, c in enumerate(rows)]
        error_bars(ax, [(x, m, seeds) for x, m, seeds in means if m is not None], number, aside=0.12)
        ax.set_title(_titled(title, rows), loc="left")
        named_places(ax, [c.name for c in rows])
        ax.tick_params(labelbottom=number == len(panels) - 1)
        ax.margins(y=0.15)
        if shares:
            percent_axis(ax.yaxis)
    if chosen:
        draw_sweep(plots[-1], chosen, SWEEPS["best_of_n"][1])
        plots[-1].set_title("right answers among those selected", loc="left")
        percent_axis(plots[-1].yaxis)
    return figure

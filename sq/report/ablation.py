"""The headline: what each step of the method changed (paper, Figures 4 and 5 and the ablation's table).

Conditions are the recipe's variants (raw, +QFT, +QPO, +filter+reward). Each is compared with the one before it, and a
step that shows no gain is said to show none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sq.core.intervals import Interval
from sq.report.artifacts import RunArtifacts, StageArtifacts, find_run
from sq.report.changes import Change, accuracy, change, change_of_students, over_seeds
from sq.report.format import interval, points
from sq.report.html import Section, section
from sq.report.plots import Plots, Style, axes, error_bars, named_places, percent_axis
from sq.report.quality import Quality, quality

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
    students: Sequence[StageArtifacts]
    """Its student's evaluation, one a seed."""
    qualities: Sequence[Quality]
    """Of its questions, one a seed."""
    judge: str = ""
    """Who says for all conditions what can be solved: shares by several judges do not stand beside each other."""
    scorer: str = ""
    """Who says how hard questions are."""
    benchmark: str = ""

    def by_seed(self, metric: str) -> list[Interval]:
        """The metric of each seed that has it."""
        if metric == "student":
            return [accuracy(s, self.benchmark) for s in self.students if self.benchmark in s.benchmarks]
        if metric == "solvable":
            return [q.solvable[self.judge] for q in self.qualities if self.judge in q.solvable]
        return [q.difficulty[self.scorer] for q in self.qualities if self.scorer in q.difficulty]

    @cached_property
    def metrics(self) -> dict[str, Interval | None]:
        """The three by name, over the seeds."""
        of_seeds = {key: self.by_seed(key) for key, _, _ in METRICS}
        return {key: over_seeds(values) if values else None for key, values in of_seeds.items()}

    @property
    def by_its_own(self) -> dict[str, str]:
        """Metrics without a number, because only what chose the questions could give one."""
        chosen = {column for q in self.qualities for column in q.chosen_by}
        return {key: text for key, text in BY_ITS_OWN.items() if key in chosen and self.metrics[key] is None}

    @property
    def has_values(self) -> bool:
        """Whether there is anything to say of it."""
        return any(self.metrics.values()) or bool(self.by_its_own)

    @property
    def unit(self) -> str:
        """What its difficulty is counted in."""
        return next((q.unit for q in self.qualities if q.unit), "")

    @property
    def by_other_judges(self) -> dict[str, Interval]:
        """The solvable share by judges that have not judged as many conditions."""
        names = dict.fromkeys(by for q in self.qualities for by in q.solvable if by != self.judge)
        return {by: over_seeds([q.solvable[by] for q in self.qualities if by in q.solvable]) for by in names}


def conditions(artifacts: RunArtifacts) -> list[Condition]:
    """The conditions there are; without a recipe, the stages of questions themselves."""
    all_of_them = []
    for name in artifacts.variants or [s.name for s in artifacts.of("questions", "filter")]:
        own = [s for s in artifacts.stages if s.directory.is_dir() and (s.variant or s.name) == name]
        sources = [s for s in own if s.kind == "filter"] or [s for s in own if s.kind == "questions"]
        students = {s.tags.get("seed", ""): s for s in own[::-1] if s.kind == "evaluate" and s.benchmarks}
        seeds = dict.fromkeys(s.tags.get("seed", "") for s in sources)
        if sources or students:
            all_of_them.append(
                Condition(
                    name=name,
                    sources=sources,
                    students=list(students.values())[::-1],
                    qualities=[quality([s for s in sources if s.tags.get("seed", "") == k], artifacts) for k in seeds],
                    benchmark=next((b for s in students.values() for b in s.benchmarks), ""),
                )
            )
    judge = _commonest(by for c in all_of_them for by in {by for q in c.qualities for by in q.solvable})
    scorer = _commonest(by for c in all_of_them for by in {by for q in c.qualities for by in q.difficulty})
    return [replace(c, judge=judge, scorer=scorer) for c in all_of_them]


def _commonest(names: Iterable[str]) -> str:
    return next((name for name, _ in Counter(names).most_common(1)), "")


def format_ablation(directory: Path) -> str:
    """The conditions of a run for a terminal: a line each, then what each step changed; nothing where it has none."""
    artifacts = find_run(directory)
    rows = [c for c in conditions(artifacts) if c.has_values]
    if not artifacts.variants or len(rows) < 2:
        return ""
    lines = [["", *(name for _, name, _ in METRICS)], *([c.name, *_cells(c)] for c in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*table, "", *(f"{a} -> {b}: {'; '.join(texts)}" for a, b, texts in _steps(rows))])


def record(rows: Sequence[Condition]) -> dict[str, Any]:
    """Conditions as plain values, for ablation.json: their metrics, and each step's change."""
    return {
        "rows": [
            {
                "variant": c.name,
                "seeds": len(c.qualities) or len(c.students),
                **{name: asdict(value) if value else None for name, value in c.metrics.items()},
                "measure": c.unit,
                "judge": c.by_its_own.get("solvable", c.judge),
            }
            for c in rows
        ],
        "steps": [
            {"from": a.name, "to": b.name, "figure": key, **asdict(step), "verdict": step.direction}
            for a, b in zip(rows, rows[1:], strict=False)
            for key, _, _ in METRICS
            if (step := _change(a, b, key)) is not None
        ],
    }


def ablation(artifacts: RunArtifacts, plots: Plots, every: Sequence[Condition]) -> Section | None:
    """The table of conditions, the changes in words, and the figure."""
    rows = [c for c in every if c.has_values]
    if not rows:
        return None
    unit = _unit(rows)
    seeds = max(len(c.qualities) for c in rows)
    panels = [panel for panel in METRICS if any(c.metrics[panel[0]] is not None for c in rows)]
    figure = ""
    if panels:
        caption = "Points are means with 95% intervals" + ("; small dots are single seeds" if seeds > 1 else "")
        alt = f"By condition (difficulty in {unit or 'no unit'}): " + "; ".join(map(_in_a_line, rows))
        figure = plots.add("stages", lambda style: _draw(rows, panels, style), alt, caption)
    return section(
        "ablation", artifacts=artifacts, conditions=rows, cells={c.name: _cells(c) for c in rows}, unit=unit,
        steps=_steps(rows) if artifacts.variants else [], figure=figure, judge=rows[0].judge, seeds=seeds,
        questions=sum(c.metrics["solvable"].count for c in rows if c.metrics["solvable"]),
        problems=max((c.metrics["student"].count for c in rows if c.metrics["student"]), default=0),
        benchmark=rows[-1].benchmark or rows[0].benchmark,
    )  # fmt: skip


def _in_a_line(condition: Condition) -> str:
    metrics = [(name, condition.metrics[key], shares) for key, name, shares in METRICS]
    return f"{condition.name}: {', '.join(f'{n} {interval(m, shares)}' for n, m, shares in metrics if m)}"


def _cells(condition: Condition) -> list[str]:
    """A condition's metrics as text."""
    return [condition.by_its_own.get(key) or interval(condition.metrics[key], shares) for key, _, shares in METRICS]


def _unit(rows: Sequence[Condition]) -> str:
    return next((c.unit for c in rows if c.unit), "")


def _steps(rows: Sequence[Condition]) -> list[tuple[str, str, list[str]]]:
    """Each condition against the one before it, in words; where no difference is shown, that."""
    steps = []
    for before, after in zip(rows, rows[1:], strict=False):
        texts = [
            f"{_titled(name, rows)} {_in_words(step, shares)}"
            for key, name, shares in METRICS
            if (step := _change(before, after, key)) is not None
        ]
        steps += [(before.name, after.name, texts)] if texts else []
    return steps


def _titled(name: str, rows: Sequence[Condition]) -> str:
    return name.replace("difficulty", _unit(rows) or "difficulty")


def _in_words(step: Change, shares: bool) -> str:
    word = {"gain": "up", "loss": "down"}.get(step.direction, step.direction)
    return f"{word}, {points(step, shares)}{' points' if shares else ''}"


def _change(before: Condition, after: Condition, metric: str) -> Change | None:
    a, b = before.metrics[metric], after.metrics[metric]
    if a is None or b is None:
        return None
    if metric == "student" and before.benchmark == after.benchmark:
        return change_of_students(before.students, after.students, after.benchmark)
    return change(a, b)


def _draw(rows: Sequence[Condition], panels: Sequence[tuple[str, str, bool]], style: Style) -> Figure:
    figure, plots = axes(style, height=1.9 * len(panels) + 0.3, rows=len(panels), sharex=True)
    for number, (ax, (key, title, shares)) in enumerate(zip(plots, panels, strict=True)):
        means = [(x, c.metrics[key], c.by_seed(key)) for x, c in enumerate(rows)]
        error_bars(ax, [(x, m, seeds) for x, m, seeds in means if m is not None], style, number, aside=0.12)
        ax.set_title(_titled(title, rows), loc="left")
        named_places(ax, [c.name for c in rows])
        ax.margins(y=0.15)
        if shares:
            percent_axis(ax.yaxis)
    return figure

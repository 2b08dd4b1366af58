"""The headline: what each step of the method changed (paper, Figures 4 and 5 and the ablation's table).

Conditions are the recipe's variants (raw, +QFT, +QPO, +filter+reward). Each is compared with the one before it, and a
step that shows no gain is said to show none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from sq.core.count import count_noun
from sq.core.intervals import Interval
from sq.report.artifacts import RunArtifacts, StageArtifacts, find_run
from sq.report.html import Section, join, note, render, table
from sq.report.measure import (
    Change,
    Quality,
    accuracy,
    change_of,
    change_of_students,
    over_seeds,
    points,
    quality,
    with_interval,
)  # fmt: skip
from sq.report.style import MARKERS, Plots, Style, axes, percent_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    judge: str
    """Who says for all conditions what can be solved: figures of several judges do not stand beside each other."""
    scorer: str
    """Who says how hard questions are."""
    benchmark: str = ""

    @property
    def solvable(self) -> Interval | None:
        """The share of its questions that can be solved."""
        return _over_seeds([q.solvable for q in self.qualities], self.judge)

    @property
    def difficulty(self) -> Interval | None:
        """How hard its questions are on average."""
        return _over_seeds([q.difficulty for q in self.qualities], self.scorer)

    @property
    def student(self) -> Interval | None:
        """How many problems a student solves that was tuned on it."""
        known = [accuracy(s, self.benchmark) for s in self.students if self.benchmark in s.benchmarks]
        return over_seeds(known) if known else None

    @cached_property
    def figures(self) -> dict[str, Interval | None]:
        """The three by name."""
        return {"solvable": self.solvable, "difficulty": self.difficulty, "student": self.student}

    @property
    def untold(self) -> dict[str, str]:
        """Figures that there are not, because only what chose the questions could tell them."""
        chosen = {column for q in self.qualities for column in q.chosen_by}
        return {column: said for column, said in CHOSEN.items() if column in chosen and self.figures[column] is None}

    @property
    def others(self) -> dict[str, Interval]:
        """The solvable share by judges that have not judged as many conditions."""
        names = dict.fromkeys(by for q in self.qualities for by in q.solvable if by != self.judge)
        reported = {by: _over_seeds([q.solvable for q in self.qualities], by) for by in names}
        return {by: share for by, share in reported.items() if share}


SHOWN: tuple[tuple[str, str, bool], ...] = (
    ("solvable", "solvable share", True),
    ("difficulty", "mean difficulty", False),
    ("student", "student's accuracy", True),
)
CHOSEN = {"solvable": "by its own judge", "difficulty": "by its own scorer"}
"""What is said in the place of a figure that the filter's choice has made."""


def conditions(artifacts: RunArtifacts) -> list[Condition]:
    """The conditions there are; without a recipe, the stages of questions themselves."""
    reported: list[Condition] = []
    for name in artifacts.variants or [s.name for s in artifacts.of("questions", "filter")]:
        own = [s for s in artifacts.stages if s.directory.is_dir() and (s.variant or s.name) == name]
        sources = _sources(own)
        students = {s.tags.get("seed", ""): s for s in own[::-1] if s.kind == "evaluate" and s.benchmarks}
        seeds = dict.fromkeys(s.tags.get("seed", "") for s in sources)
        if sources or students:
            reported.append(
                Condition(
                    name=name,
                    sources=sources,
                    students=list(students.values())[::-1],
                    qualities=[quality([s for s in sources if s.tags.get("seed", "") == k], artifacts) for k in seeds],
                    judge="",
                    scorer="",
                    benchmark=next((b for s in students.values() for b in s.benchmarks), ""),
                )
            )
    judge = _commonest(by for c in reported for by in {by for q in c.qualities for by in q.solvable})
    scorer = _commonest(by for c in reported for by in {by for q in c.qualities for by in q.difficulty})
    return [replace(c, judge=judge, scorer=scorer) for c in reported]


def _commonest(names: Iterable[str]) -> str:
    return next((name for name, _ in Counter(names).most_common(1)), "")


def _over_seeds(reported: Sequence[Mapping[str, Interval]], by: str) -> Interval | None:
    """One figure of all seeds, as one judge or scorer tells it."""
    known = [figures[by] for figures in reported if by in figures]
    return over_seeds(known) if known else None


def format_ablation(directory: Path) -> str:
    """The conditions of a run for a terminal: a line each, then what each step changed; nothing where it has none."""
    artifacts = find_run(directory)
    known = [c for c in conditions(artifacts) if any(c.figures.values()) or c.untold]
    if not artifacts.variants or len(known) < 2:
        return ""
    lines = [["", *(name for _, name, _ in SHOWN)], *([c.name, *_cells(c)] for c in known)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(SHOWN) + 1)]
    shown = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(
        [*shown, "", *(f"{a} -> {b}: {'; '.join(said)}" for a, b, said in changes(known, _measure(known)))]
    )


def record(known: Sequence[Condition]) -> dict[str, Any]:
    """Conditions as plain values, for ablation.json: their figures, and each step's change."""
    rows = [
        {
            "variant": c.name,
            "seeds": len(c.qualities) or len(c.students),
            **{name: asdict(f) if f else None for name, f in c.figures.items()},
            "measure": _measure([c]),
            "judge": c.untold.get("solvable", c.judge),
        }
        for c in known
    ]
    steps = [
        {"from": a.name, "to": b.name, "figure": key, **asdict(change), "verdict": change.verdict}
        for a, b in zip(known, known[1:], strict=False)
        for key, _, _ in SHOWN
        if (change := _change(a, b, key)) is not None
    ]
    return {"rows": rows, "steps": steps}


def section(artifacts: RunArtifacts, figures: Plots, known: Sequence[Condition]) -> Section | None:
    """The table of conditions, the changes in words, and the figure."""
    reported = [c for c in known if any(c.figures.values()) or c.untold]
    if not reported:
        return None
    by = reported[0].judge
    measure = _measure(reported)
    questions = sum(c.solvable.count for c in reported if c.solvable)
    seeds = max(len(c.qualities) for c in reported)
    says = f"{count_noun(questions, 'question')} of {count_noun(len(reported), 'condition')}" + (
        f", judged by {by}" if by else ""
    )
    problems = {c.student.count for c in reported if c.student}
    if problems:
        benchmark = reported[-1].benchmark or reported[0].benchmark
        says += f"; students tested on {count_noun(max(problems), 'problem')} of {benchmark}"
    says += f"; means over {seeds} seeds with Student's 95% interval." if seeds > 1 else "; 95% intervals."
    parts: list[str] = [_table(reported, artifacts, measure)]
    if artifacts.variants and len(reported) > 1:
        parts.append(render("changes.html.j2", steps=changes(reported, measure)))
    panels = [panel for panel in SHOWN if any(c.figures[panel[0]] is not None for c in reported)]
    caption = "Points are means with 95% intervals" + ("; small dots are single seeds" if seeds > 1 else "")
    if panels:
        alt = _alt(reported, measure)
        parts.append(figures.add("stages", lambda style: _drawn(reported, panels, measure, style), alt, caption))
    title = "What each step of the method changed" if artifacts.variants else "Questions by stage"
    return Section(id="ablation", title=title, says=says, body=join(parts), paper="Figures 4 and 5")


def _sources(own: Sequence[StageArtifacts]) -> list[StageArtifacts]:
    """A condition's questions: what its filter kept where it has one, else what was sampled."""
    filters = [s for s in own if s.kind == "filter"]
    return filters or [s for s in own if s.kind == "questions"]


def _table(reported: Sequence[Condition], artifacts: RunArtifacts, measure: str) -> Markup:
    head = ["condition", "questions", "solvable", measure or "difficulty", "student's accuracy"]
    rows = []
    for c in reported:
        taken = sum(s.manifest.rows for s in c.sources if s.manifest)
        rows.append([c.name, f"{taken:,}" if c.sources else "–", *_cells(c)])
    made: list[str] = [table(head, rows, caption="The conditions, each figure with its 95% interval")]
    places = [f"{c.name}: {', '.join(artifacts.shown(s.directory) for s in c.sources)}" for c in reported if c.sources]
    if places:
        made.append(note(f"Questions from {'; '.join(places)}."))
    if any(c.untold for c in reported):
        made.append(note(OWN))
    made += [
        note(f"{c.name}: {with_interval(share)} solvable by {by}.") for c in reported for by, share in c.others.items()
    ]
    return join(made)


OWN = (
    "By its own judge (or scorer): a filter keeps what its judge calls solvable, so that this judge's word on what was "
    "kept measures nothing. Another judge that reads the filter's output tells, or the same one by votes that it draws "
    "anew (docs/report.md)."
)


def _cells(condition: Condition) -> list[str]:
    """A condition's figures as text."""
    reported = [(condition.figures[key], condition.untold.get(key, "–"), shares) for key, _, shares in SHOWN]
    return [with_interval(figure, shares=shares) if figure else instead for figure, instead, shares in reported]


def changes(reported: Sequence[Condition], measure: str) -> list[tuple[str, str, list[str]]]:
    """Each step against the one before it, in words; where nothing is shown, that."""
    steps = []
    for before, after in zip(reported, reported[1:], strict=False):
        said = [
            f"{name.replace('difficulty', measure or 'difficulty')} {_said(key, change)}"
            for key, name, _ in SHOWN
            if (change := _change(before, after, key)) is not None
        ]
        if said:
            steps.append((before.name, after.name, said))
    return steps


def _measure(reported: Sequence[Condition]) -> str:
    """What difficulty is counted in."""
    return next((q.measure for c in reported for q in c.qualities if q.measure), "")


def _change(before: Condition, after: Condition, key: str) -> Change | None:
    a, b = before.figures[key], after.figures[key]
    if a is None or b is None:
        return None
    if key == "student" and before.benchmark == after.benchmark:
        return change_of_students(before.students, after.students, after.benchmark)
    return change_of(a, b)


def _said(key: str, change: Change) -> str:
    word = {"gain": "up", "loss": "down", "no difference shown": "no difference shown"}[change.verdict]
    unit = "" if key == "difficulty" else " points"
    return f"{word}, {points(change, shares=key != 'difficulty')}{unit}"


def _alt(reported: Sequence[Condition], measure: str) -> str:
    lines = []
    for c in reported:
        said = [f"{name} {with_interval(f, shares=s)}" for key, name, s in SHOWN if (f := c.figures[key]) is not None]
        lines.append(f"{c.name}: {', '.join(said)}")
    return f"By condition (difficulty in {measure or 'no unit'}): " + "; ".join(lines)


def _drawn(
    reported: Sequence[Condition], panels: Sequence[tuple[str, str, bool]], measure: str, style: Style
) -> Figure:
    figure, plots = axes(style, height=1.9 * len(panels) + 0.3, rows=len(panels), sharex=True)
    names = [c.name for c in reported]
    for number, (ax, (key, title, shares)) in enumerate(zip(plots, panels, strict=True)):
        known = [(x, c.figures[key]) for x, c in enumerate(reported)]
        seen = [(x, f) for x, f in known if f is not None]
        middle, below = [f.value for _, f in seen], [f.value - f.low for _, f in seen]
        above = [f.high - f.value for _, f in seen]
        ax.errorbar([x for x, _ in seen], middle, yerr=[below, above], fmt=f"{MARKERS[number]}-", capsize=4,
                    color=style.series[number], linewidth=1.2, markersize=6)  # fmt: skip
        for x, c in enumerate(reported):
            for value in _single(c, key):
                ax.plot(x + 0.12, value, ".", color=style.series[number], alpha=0.7, markersize=5)
        ax.set_title(title.replace("difficulty", measure or "difficulty"), loc="left")
        ax.set_xticks(range(len(names)), names, rotation=0 if max(map(len, names)) < 15 else 20)
        ax.set_xlim(-0.4, len(names) - 0.6)
        ax.margins(y=0.15)
        if shares:
            percent_axis(ax.yaxis)
    return figure


def _single(condition: Condition, key: str) -> list[float]:
    """Each seed's own figure, where there are several."""
    if len(condition.qualities) < 2 and len(condition.students) < 2:
        return []
    if key == "student":
        return [accuracy(s, condition.benchmark).value for s in condition.students]
    if key == "solvable":
        return [q.solvable[condition.judge].value for q in condition.qualities if condition.judge in q.solvable]
    return [q.difficulty[condition.scorer].value for q in condition.qualities if condition.scorer in q.difficulty]

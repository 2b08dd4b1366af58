"""What each step of the method gained, judged by the domain's oracle and by students (paper, Figures 4 and 5).

Stages of a recipe that carry the same `variant` make one condition: its questions (what its filter kept, where it has
one), and the students that learnt from it. Each condition is compared with the one before it. Where a step shows no
gain, that is what is said.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from sq.core.config import build, conf_dir
from sq.core.files import write_files
from sq.core.ledger import read_rows
from sq.domains.base import Domain, DomainConfig
from sq.eval.compare import benchmarks_in
from sq.eval.intervals import Difference, Interval, bootstrap, paired, wilson
from sq.recipe.record import DONE, StageRecord, read_record

NAME = "ablation.json"
Values = NDArray[np.float64]
FIGURES = {"solvable": "solvable questions", "steps": "steps of a solvable question", "accuracy": "students' accuracy"}


@dataclass(kw_only=True)
class Condition:
    """One variant, over all of its seeds: a value for each question, and for each problem of its students."""

    variant: str
    solvable: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    accuracy: dict[tuple[str, str], float] = field(default_factory=dict)
    """By seed and problem: the share of answers that are right."""
    seeds: set[str] = field(default_factory=set)

    def values(self, figure: str) -> Values:
        """The values behind a figure."""
        found = {"solvable": self.solvable, "steps": self.steps, "accuracy": list(self.accuracy.values())}[figure]
        return np.asarray(found, dtype=np.float64)

    def interval(self, figure: str) -> Interval | None:
        """The figure with its 95% interval; none where nothing is known of it."""
        values = self.values(figure)
        if not len(values):
            return None
        if figure == "solvable":
            low, high = wilson(int(values.sum()), len(values))
            return Interval(value=float(values.mean()), low=low, high=high, count=len(values))
        return bootstrap(values)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a condition has over the one before it, in one figure."""

    before: str
    after: str
    figure: str
    difference: Difference
    told: str


def ablation(directory: Path) -> str:
    """The table of a recipe's conditions with what each step gained; nothing where it has no two. Kept as JSON too."""
    record = read_record(directory)
    if record is None:
        return ""
    found = conditions(record.stages, domain_of(record.domain))
    if len(found) < 2:
        return ""
    made = steps(found)
    rows = [
        {"variant": c.variant, "seeds": sorted(c.seeds), **{f: _plain(c.interval(f)) for f in FIGURES}} for c in found
    ]
    doc = {"rows": rows, "steps": [{**asdict(s), "gain": gained(s.difference)} for s in made]}
    write_files(directory, {NAME: json.dumps(doc, indent=1).encode()})
    return "\n".join([table(found), "", *(step.told for step in made)])


def domain_of(name: str) -> Domain | None:
    """The domain of that name; none where there is no such YAML (it then has no oracle to ask)."""
    path = conf_dir() / "domain" / f"{name}.yaml"
    if not path.is_file():
        return None
    config: DomainConfig = build(OmegaConf.load(path), DomainConfig, key="domain")
    return config.create()


def conditions(stages: Sequence[StageRecord], domain: Domain | None) -> list[Condition]:
    """The variants in the order of the recipe, each with what its finished stages hold."""
    found: dict[str, Condition] = {}
    by_seed: dict[tuple[str, str], list[StageRecord]] = defaultdict(list)
    for stage in stages:
        if stage.variant and stage.status == DONE:
            found.setdefault(stage.variant, Condition(variant=stage.variant))
            by_seed[stage.variant, stage.tags.get("seed", "")].append(stage)
    for (variant, seed), own in by_seed.items():
        condition = found[variant]
        condition.seeds.add(seed)
        for kind in ("filter", "questions"):
            if sources := [stage for stage in own if stage.stage == kind]:
                _judge(condition, Path(sources[-1].output_dir), domain)
                break
        for stage in own:
            if stage.script == "evaluate":
                _grade(condition, seed, Path(stage.output_dir))
    return list(found.values())


def steps(found: Sequence[Condition]) -> list[Step]:
    """Each condition against the one before it, in every figure that both have."""
    made = []
    for before, after in zip(found, found[1:], strict=False):
        for figure in FIGURES:
            gap = _difference(before, after, figure)
            if gap is not None:
                told = _told(before.variant, after.variant, figure, gap)
                made.append(Step(before=before.variant, after=after.variant, figure=figure, difference=gap, told=told))
    return made


def gained(difference: Difference) -> bool:
    """Whether it is a gain that chance does not explain."""
    return difference.real and difference.value > 0


def table(found: Sequence[Condition]) -> str:
    """A line for each condition."""
    lines = [["", *FIGURES.values()]]
    for one in found:
        lines.append([one.variant, *(_cell(one.interval(figure), figure) for figure in FIGURES)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
                     for line in lines)  # fmt: skip


def _judge(condition: Condition, directory: Path, domain: Domain | None) -> None:
    for row in read_rows(directory, columns=["question"]):
        verdict = domain.verdict(row["question"]) if domain else None
        if verdict is not None:
            condition.solvable.append(float(verdict.solvable))
            if verdict.solvable:
                condition.steps.append(float(verdict.steps))


def _grade(condition: Condition, seed: str, directory: Path) -> None:
    """Under the first grader of each benchmark, as an evaluation's score is."""
    for name, scores in benchmarks_in(directory).items():
        marks: dict[str, list[float]] = defaultdict(list)
        profile = None
        for row in read_rows(scores, columns=["profile", "item", "correct"]):
            profile = profile or row["profile"]
            if row["profile"] == profile:
                marks[row["item"]].append(float(row["correct"]))
        for item, right in marks.items():
            condition.accuracy[f"{seed}:{name}", item] = sum(right) / len(right)


def _difference(before: Condition, after: Condition, figure: str) -> Difference | None:
    if figure == "accuracy":
        both = [key for key in before.accuracy if key in after.accuracy]
        if not both:
            return None
        return paired(*(np.asarray([c.accuracy[key] for key in both]) for c in (before, after)))
    first, second = before.values(figure), after.values(figure)
    return _independent(first, second) if len(first) > 1 and len(second) > 1 else None


def _independent(a: Values, b: Values) -> Difference:
    """Two samples' means compared, by the normal distribution: there are hundreds of questions on each side."""
    gap = float(b.mean() - a.mean())
    spread = math.sqrt(float(a.var(ddof=1)) / len(a) + float(b.var(ddof=1)) / len(b))
    half = 1.959964 * spread
    p = math.erfc(abs(gap) / spread / math.sqrt(2)) if spread else float(gap == 0)
    return Difference(a=float(a.mean()), b=float(b.mean()), value=gap, low=gap - half, high=gap + half, p=p,
                      count=len(a) + len(b))  # fmt: skip


def _told(before: str, after: str, figure: str, gap: Difference) -> str:
    what = FIGURES[figure]
    change = f"{_number(gap.a, figure)} -> {_number(gap.b, figure)}"
    between = f"{_signed(gap.low, figure)} to {_signed(gap.high, figure)}"
    if gained(gap):
        return f"{after} over {before}: {what} {change}, a gain of {_signed(gap.value, figure)} ({between})"
    if gap.real:
        return f"{after} over {before}: {what} {change}, a loss: {_signed(gap.value, figure)} ({between})"
    return f"{after} over {before}: {what} {change}, no gain shown ({between}, which chance alone may give)"


def _cell(interval: Interval | None, figure: str) -> str:
    if interval is None:
        return "-"
    between = f"{_number(interval.low, figure)} to {_number(interval.high, figure)}"
    return f"{_number(interval.value, figure)} ({between}) of {interval.count:,}"


def _number(value: float, figure: str) -> str:
    return f"{value:.2f}" if figure == "steps" else f"{value:.1%}"


def _signed(value: float, figure: str) -> str:
    return f"{value:+.2f}" if figure == "steps" else f"{100 * value:+.1f} points"


def _plain(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else asdict(interval)

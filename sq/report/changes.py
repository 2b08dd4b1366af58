"""What one step of the method changed: differences of means over seeds, and of students problem by problem."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from sq.core.intervals import Interval, paired_difference, share_interval, student, wilson
from sq.core.ledger import read_rows
from sq.report.artifacts import StageArtifacts


@dataclass(frozen=True, kw_only=True)
class Change:
    """A difference and its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def direction(self) -> str:
        """Whether it is more than chance, in words."""
        if self.low > 0:
            return "gain"
        return "loss" if self.high < 0 else "no difference shown"


def share(part: int, whole: int) -> Interval:
    """A share with Wilson's interval."""
    low, high = wilson(part, whole)
    return Interval(value=part / whole if whole else 0.0, low=low, high=high, count=whole)


def over_seeds(values: Sequence[Interval]) -> Interval:
    """One mean from those of several seeds, with Student's interval; of one seed, its own interval.

    Seeds that agree by chance do not make it narrower than what each was counted on allows, and a share stays one.
    """
    if len(values) == 1:
        return values[0]
    middle, seeds = fmean(v.value for v in values), len(values)
    between = student(seeds - 1) * stdev(v.value for v in values) / math.sqrt(seeds)
    width = max(between, math.hypot(*((v.high - v.low) / 2 for v in values)) / seeds)
    low = max(0.0, middle - width) if all(v.low >= 0 for v in values) else middle - width
    high = min(1.0, middle + width) if all(v.high <= 1 for v in values) else middle + width
    return Interval(value=middle, low=low, high=high, count=sum(v.count for v in values))


def change(before: Interval, after: Interval) -> Change:
    """The difference of two independent means, from their intervals (Newcombe's method for shares)."""
    gap = after.value - before.value
    down = math.hypot(after.value - after.low, before.high - before.value)
    up = math.hypot(after.high - after.value, before.value - before.low)
    return Change(value=gap, low=gap - down, high=gap + up)


def change_of_students(before: Sequence[StageArtifacts], after: Sequence[StageArtifacts], benchmark: str) -> Change:
    """The difference of two students' accuracies: paired by problem for one seed each, else over seeds."""
    if len(before) == len(after) == 1:
        a, b = accuracies(before[0], benchmark), accuracies(after[0], benchmark)
        if both := sorted(a.keys() & b.keys()):
            gap = paired_difference([a[i] for i in both], [b[i] for i in both])
            return Change(value=gap.value, low=gap.low, high=gap.high)
    return change(*(over_seeds([accuracy(stage, benchmark) for stage in stages]) for stages in (before, after)))


def accuracy(stage: StageArtifacts, benchmark: str) -> Interval:
    """Pass@1 of an evaluation on a benchmark, by its first grader."""
    return share_interval(list(accuracies(stage, benchmark).values()))


def accuracies(stage: StageArtifacts, benchmark: str) -> dict[str, float]:
    """The share of right answers to each problem, by the first grader."""
    return next(iter(accuracies_by_grader(stage, benchmark).values()), {})


def accuracies_by_grader(stage: StageArtifacts, benchmark: str) -> dict[str, dict[str, float]]:
    """By grader, the share of right answers to each problem."""
    right: dict[str, dict[str, list[bool]]] = {}
    if benchmark in stage.benchmarks:
        for row in read_rows(stage.benchmarks[benchmark], ["profile", "item", "correct"], unfinished=True):
            right.setdefault(row["profile"], {}).setdefault(row["item"], []).append(row["correct"])
    return {p: {item: sum(given) / len(given) for item, given in items.items()} for p, items in right.items()}

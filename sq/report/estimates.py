"""Estimates with 95% intervals: how good questions and answers are, how many problems students solve, what changed.

Where the domain has an exact oracle it labels questions; elsewhere the judges of filters that read them do. A filter
keeps what its own judge calls solvable, so that what this judge says of them measures nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from sq.core.intervals import Interval, mean_interval, paired_difference, share_interval, student, wilson
from sq.core.ledger import read_rows
from sq.core.yes_no import YesNo
from sq.report.artifacts import MOST, RunArtifacts, StageArtifacts

if TYPE_CHECKING:
    from sq.domains.base import Domain

ORACLE = "the exact oracle"
CHOOSERS = {"solvable": "judge_model", "difficulty": "difficulty_model", "pass_rate": "pass_rate_model"}
"""By what a filter chooses questions: the column, and the column of who filled it."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Questions of some stages as the oracle sees them, or those judges and scorers that did not choose them."""

    solvable: Mapping[str, Interval]
    """The share that can be solved, by who says so."""
    difficulty: Mapping[str, Interval]
    unit: str
    """What difficulty is counted in."""
    chosen_by: Collection[str] = ()
    """By which columns of `CHOOSERS` a filter chose these questions."""
    values: Sequence[float] = ()
    """The difficulty of each question that the oracle can solve."""


def quality(stages: Sequence[StageArtifacts], artifacts: RunArtifacts) -> Quality:
    """Solvable share and difficulty of the questions of some stages taken together."""
    if artifacts.oracle is not None:
        return by_oracle((text for stage in stages for text in stage.questions(MOST)), artifacts.oracle)
    replies, scores = (_by_reader(stages, artifacts, column) for column in ("solvable", "difficulty"))
    return Quality(
        solvable={by: share([*map(YesNo, values)].count(YesNo.YES), len(values)) for by, values in replies.items()},
        difficulty={by: mean_interval([float(score) for score in values]) for by, values in scores.items()},
        unit="predicted fail rate" if scores else "",
        chosen_by=[column for column in CHOOSERS if any(_choosers(stage, column) for stage in stages)],
    )


def by_oracle(questions: Iterable[str], domain: Domain) -> Quality:
    """As the domain's exact oracle sees them; difficulty is the steps that a solvable one needs."""
    labels = [label for label in map(domain.oracle_label, questions) if label is not None]
    steps = [float(label.steps) for label in labels if label.solvable]
    return Quality(
        solvable={ORACLE: share(len(steps), len(labels))} if labels else {},
        difficulty={ORACLE: mean_interval(steps)} if steps else {},
        unit="steps", values=steps,
    )  # fmt: skip


def selected_right(stages: Sequence[StageArtifacts], artifacts: RunArtifacts) -> Interval | None:
    """The share of selected answers that are right, by their references or the oracle."""
    domain, right = artifacts.oracle, []
    columns = ("question", "response_answer", "correct")
    for row in (row for stage in stages for row in stage.sample(MOST, *columns)):
        if row["correct"] is not None:
            right.append(bool(row["correct"]))
        elif domain is not None and (label := domain.oracle_label(row["question"])) is not None:
            answer = row["response_answer"]
            right.append(label.answer is not None and answer is not None and domain.check(answer, label.answer))
    return share(sum(right), len(right)) if right else None


def _choosers(stage: StageArtifacts, column: str) -> set[str]:
    """Who decided which questions are in a filter's output."""
    rows = stage.sample(MOST, column, CHOOSERS[column]) if stage.kind == "filter" else []
    return {row[CHOOSERS[column]] for row in rows if row.get(column) is not None}


def _by_reader(stages: Sequence[StageArtifacts], artifacts: RunArtifacts, column: str) -> dict[str, list[Any]]:
    """Values of the column for questions of all these stages, by who filled it, from filters that read them."""
    of_stages: list[dict[str, list[Any]]] = []
    for stage in stages:
        choosers = _choosers(stage, column)
        of_stage: dict[str, list[Any]] = {}
        for reader in (s for s in artifacts.of("filter") if _reads(s, stage, artifacts)):
            ids = {row["id"] for row in stage.rows("id")} if len(artifacts.inputs_of(reader)) > 1 else None
            held_out = column == "solvable" and _has_held_out_votes(reader, artifacts)
            values: dict[str, list[Any]] = {}
            for row in reader.sample_with_rejects(MOST, column, CHOOSERS[column]):
                who = row[CHOOSERS[column]]
                if (who not in choosers or held_out) and (ids is None or row["id"] in ids):
                    values.setdefault(_name(reader, column, who), []).append(row[column])
            of_stage |= values
        of_stages.append(of_stage)
    names = [by for by in of_stages[0] if all(by in values for values in of_stages)] if of_stages else []
    return {by: [value for values in of_stages for value in values[by]] for by in names}


def _reads(reader: StageArtifacts, stage: StageArtifacts, artifacts: RunArtifacts) -> bool:
    """Whether a filter reads a stage's rows, or what filters that ask no model have left of them."""
    inputs = artifacts.inputs_of(reader)
    plain = (s for s in inputs if s.kind == "filter" and not any(_choosers(s, column) for column in CHOOSERS))
    return stage in inputs or any(_reads(s, stage, artifacts) for s in plain)


def _has_held_out_votes(reader: StageArtifacts, artifacts: RunArtifacts) -> bool:
    """Whether a filter's judge drew its votes anew: no filter before it decided by the same ones."""
    config = reader.manifest.config if reader.manifest else {}
    earlier = [s for s in artifacts.chain([reader]) if s.kind == "filter" and s is not reader]
    return (
        list(config.get("filters", []))[:1] == ["solvability"]
        and config.get("filters.solvability.temperature", 0) > 0
        and all(s.manifest.config.get("seed") != config.get("seed") for s in earlier if s.manifest)
    )


def _name(reader: StageArtifacts, column: str, fingerprint: str) -> str:
    """A judge by the name its stage calls it, where that is known, and by the weights."""
    names = [o.partition("=")[2] for o in reader.overrides if o.startswith("model=")] if column == "solvable" else []
    return f"{names[0]} ({fingerprint[:8]})" if names else fingerprint


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
    """One mean from those of several seeds, with Student's interval; of one seed, its own. A share stays one."""
    if len(values) == 1:
        return values[0]
    middle, width = _mean_of_seeds(values)
    low = max(0.0, middle - width) if all(v.low >= 0 for v in values) else middle - width
    high = min(1.0, middle + width) if all(v.high <= 1 for v in values) else middle + width
    return Interval(value=middle, low=low, high=high, count=sum(v.count for v in values))


def _mean_of_seeds(values: Sequence[Interval | Change]) -> tuple[float, float]:
    """Their mean and half its interval: seeds that agree by chance make it no narrower than each one's own allows."""
    between = student(len(values) - 1) * stdev(v.value for v in values) / math.sqrt(len(values))
    within = math.hypot(*((v.high - v.low) / 2 for v in values)) / len(values)
    return fmean(v.value for v in values), max(between, within)


def change_over_seeds(changes: Sequence[Change]) -> Change:
    """The mean of what each seed changed, with Student's interval; of one seed, its own."""
    if len(changes) == 1:
        return changes[0]
    middle, width = _mean_of_seeds(changes)
    return Change(value=middle, low=middle - width, high=middle + width)


def change(before: Interval, after: Interval) -> Change:
    """The difference of two independent means, from their intervals (Newcombe's method for shares)."""
    gap = after.value - before.value
    down = math.hypot(after.value - after.low, before.high - before.value)
    up = math.hypot(after.high - after.value, before.value - before.low)
    return Change(value=gap, low=gap - down, high=gap + up)


def change_of_students(before: StageArtifacts, after: StageArtifacts, benchmark: str) -> Change:
    """The difference of two students' accuracies, problem by problem where both had the same ones."""
    a, b = accuracies(before, benchmark), accuracies(after, benchmark)
    if both := sorted(a.keys() & b.keys()):
        gap = paired_difference([a[i] for i in both], [b[i] for i in both])
        return Change(value=gap.value, low=gap.low, high=gap.high)
    return change(accuracy(before, benchmark), accuracy(after, benchmark))


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

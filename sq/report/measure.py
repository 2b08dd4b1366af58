"""What is measured of a run's questions and students, each figure with its 95% interval and what it was counted on.

Where the domain has an exact oracle it is the judge of questions; elsewhere the judges of filters that read them are. A
filter keeps what its own judge calls solvable, so that what this judge says of them measures nothing. A student's
accuracy is the share of a benchmark's problems it solves, by the evaluation's first grader.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from sq.core.intervals import Interval, mean_interval, paired_difference, share_interval, student, wilson
from sq.core.ledger import read_rows
from sq.core.yes_no import YesNo
from sq.report.artifacts import RunArtifacts, StageArtifacts

if TYPE_CHECKING:
    from sq.domains.base import Domain

ORACLE = "the exact oracle"
CHOOSERS = {"solvable": "judge_model", "difficulty": "difficulty_model"}
"""By what a filter chooses questions: the column, and the column of who filled it."""
MOST = 20_000
"""Questions of one stage that are looked at; of more, so many are drawn."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Questions of some stages as the oracle sees them, or those judges and scorers that did not choose them."""

    solvable: Mapping[str, Interval]
    """The share that can be solved, by who says so."""
    difficulty: Mapping[str, Interval]
    measure: str
    """What difficulty is counted in."""
    chosen_by: Collection[str] = ()
    """Of `solvable` and `difficulty`, by which of them a filter chose these questions."""
    values: Sequence[float] = ()
    """The difficulty of each question that the oracle can solve."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one step of the method changed, and whether that is more than chance."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """In words."""
        if self.low > 0:
            return "gain"
        return "loss" if self.high < 0 else "no difference shown"


def quality(stages: Sequence[StageArtifacts], artifacts: RunArtifacts) -> Quality:
    """Solvable share and difficulty of the questions of some stages taken together."""
    domain = artifacts.domain
    if domain is not None and domain.oracle_label("") is not None:
        texts = (row["question"] for stage in stages for row in stage.sample(MOST, "question"))
        return by_oracle(texts, domain)
    verdicts, scores = (_by_reader(stages, artifacts, column) for column in CHOOSERS)
    return Quality(
        solvable={by: share([*map(YesNo, said)].count(YesNo.YES), len(said)) for by, said in verdicts.items()},
        difficulty={by: mean_interval([float(score) for score in said]) for by, said in scores.items()},
        measure="predicted fail rate" if scores else "",
        chosen_by=[column for column in CHOOSERS if any(_choosers(stage, column) for stage in stages)],
    )


def by_oracle(questions: Iterable[str], domain: Domain) -> Quality:
    """As the domain's exact oracle sees them; difficulty is the steps that a solvable one needs."""
    verdicts = [v for v in map(domain.oracle_label, questions) if v is not None]
    steps = [float(v.steps) for v in verdicts if v.solvable]
    return Quality(
        solvable={ORACLE: share(len(steps), len(verdicts))} if verdicts else {},
        difficulty={ORACLE: mean_interval(steps)} if steps else {},
        measure="steps",
        values=steps,
    )


def share(part: int, whole: int) -> Interval:
    """A share with Wilson's interval."""
    low, high = wilson(part, whole)
    return Interval(value=part / whole if whole else 0.0, low=low, high=high, count=whole)


def over_seeds(values: Sequence[Interval]) -> Interval:
    """One figure from those of several seeds: their mean with Student's interval; of one seed, its own interval.

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


def change_of(before: Interval, after: Interval) -> Change:
    """The difference of two independent figures, from their intervals (Newcombe's method for shares)."""
    gap = after.value - before.value
    down = math.hypot(after.value - after.low, before.high - before.value)
    up = math.hypot(after.high - after.value, before.value - before.low)
    return Change(value=gap, low=gap - down, high=gap + up)


def change_of_students(before: Sequence[StageArtifacts], after: Sequence[StageArtifacts], benchmark: str) -> Change:
    """The difference of two students' accuracies: paired by problem for one seed each, else over seeds."""
    if len(before) == len(after) == 1:
        a, b = accuracies(before[0], benchmark), accuracies(after[0], benchmark)
        both = sorted(a.keys() & b.keys())
        if both:
            gap = paired_difference([a[i] for i in both], [b[i] for i in both])
            return Change(value=gap.value, low=gap.low, high=gap.high)
    told = [over_seeds([accuracy(stage, benchmark) for stage in stages]) for stages in (before, after)]
    return change_of(*told)


def accuracy(stage: StageArtifacts, benchmark: str) -> Interval:
    """Pass@1 of an evaluation on a benchmark, by its first grader."""
    return share_interval(list(accuracies(stage, benchmark).values()))


def accuracies(stage: StageArtifacts, benchmark: str) -> dict[str, float]:
    """The share of right answers to each problem, by the first grader."""
    return next(iter(graded(stage.benchmarks[benchmark]).values()), {}) if benchmark in stage.benchmarks else {}


def graded(scores: Path) -> dict[str, dict[str, float]]:
    """By grader, the share of right answers to each problem."""
    right: dict[str, dict[str, list[bool]]] = {}
    for row in read_rows(scores, ["profile", "item", "correct"], unfinished=True):
        right.setdefault(row["profile"], {}).setdefault(row["item"], []).append(row["correct"])
    return {p: {item: sum(given) / len(given) for item, given in items.items()} for p, items in right.items()}


def selected_right(stages: Sequence[StageArtifacts], artifacts: RunArtifacts) -> Interval | None:
    """The share of selected answers that are right, by their references or the oracle."""
    domain, known = artifacts.domain, []
    columns = ("question", "response_answer", "correct")
    for row in (row for stage in stages for row in stage.sample(MOST, *columns)):
        if row["correct"] is not None:
            known.append(bool(row["correct"]))
        elif domain is not None and (verdict := domain.oracle_label(row["question"])) is not None:
            answer = row["response_answer"]
            known.append(verdict.answer is not None and answer is not None and domain.check(answer, verdict.answer))
    return share(sum(known), len(known)) if known else None


def spread(values: Sequence[float], bins: int, low: float, high: float) -> list[float]:
    """The share of the values in each of `bins` equal bins; what lies outside goes to the nearest."""
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int((value - low) / (high - low) * bins)))] += 1
    return [count / max(1, len(values)) for count in counts]


def medians(values: Sequence[float]) -> tuple[float, float, float]:
    """The 5th percentile, the median and the 95th."""
    ranked = sorted(values)

    def at(place: float) -> float:
        return ranked[min(len(ranked) - 1, int(place * len(ranked)))]

    return at(0.05), at(0.5), at(0.95)


def percent(value: float, digits: int = 1) -> str:
    """A share as text."""
    return f"{100 * value:.{digits}f}%"


def with_interval(figure: Interval, *, shares: bool = True) -> str:
    """A figure and its interval as text."""
    show: Callable[[float], str] = percent if shares else lambda value: f"{value:.2f}"
    return f"{show(figure.value)} ({show(figure.low)} to {show(figure.high)})"


def points(change: Change, *, shares: bool = True) -> str:
    """A change and its interval as text: in percentage points, or plain."""
    scale, digits = (100, 1) if shares else (1, 2)
    value, low, high = (f"{scale * x:+.{digits}f}".replace("-", "−") for x in (change.value, change.low, change.high))
    return f"{value} ({low} to {high})"


def _choosers(stage: StageArtifacts, column: str) -> set[str]:
    """Whose verdicts (or scores) decided which questions are in a filter's output."""
    rows = stage.sample(MOST, column, CHOOSERS[column]) if stage.kind == "filter" else []
    return {row[CHOOSERS[column]] for row in rows if row.get(column) is not None}


def _by_reader(stages: Sequence[StageArtifacts], artifacts: RunArtifacts, column: str) -> dict[str, list[Any]]:
    """What was said of the questions of all these stages by filters that read them, kept or not, by who said it."""
    of_stages: list[dict[str, list[Any]]] = []
    for stage in stages:
        choosers = _choosers(stage, column)
        of_stage: dict[str, list[Any]] = {}
        for reader in (s for s in artifacts.of("filter") if stage in artifacts.made_from(s)):
            ids = {row["id"] for row in stage.rows("id")} if len(artifacts.made_from(reader)) > 1 else None
            held_out = column == "solvable" and _has_held_out_votes(reader, artifacts)
            said: dict[str, list[Any]] = {}
            for row in reader.sample_with_rejects(MOST, column, CHOOSERS[column]):
                who = row[CHOOSERS[column]]
                if (who not in choosers or held_out) and (ids is None or row["id"] in ids):
                    said.setdefault(_name(reader, column, who), []).append(row[column])
            of_stage |= said
        of_stages.append(of_stage)
    names = [by for by in of_stages[0] if all(by in said for said in of_stages)] if of_stages else []
    return {by: [value for said in of_stages for value in said[by]] for by in names}


def _has_held_out_votes(reader: StageArtifacts, artifacts: RunArtifacts) -> bool:
    """Whether a filter's judge drew its votes anew: no filter before it decided by the same ones."""
    config = reader.manifest.config if reader.manifest else {}
    before = [
        s.manifest.config for s in artifacts.chain([reader]) if s.kind == "filter" and s is not reader and s.manifest
    ]
    return (
        list(config.get("filters", []))[:1] == ["solvability"]
        and config.get("filters.solvability.temperature", 0) > 0
        and all(earlier.get("seed") != config.get("seed") for earlier in before)
    )


def _name(reader: StageArtifacts, column: str, identity: str) -> str:
    """A judge by the name its stage calls it, so far as that is known, and by the weights."""
    called = [o.partition("=")[2] for o in reader.overrides if o.startswith("model=")] if column == "solvable" else []
    return f"{called[0]} ({identity[:8]})" if called else identity


def wilson_text(part: int, whole: int) -> str:
    """Wilson's interval of a share as text."""
    low, high = wilson(part, whole)
    return f"{percent(low)} to {percent(high)}"

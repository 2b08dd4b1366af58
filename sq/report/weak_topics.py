"""Practice on weak topics (`recipe=weak-topics`): accuracy on them and on the rest, before and after.

Which topics are weak was decided on other problems than those that the accuracy is of: on what `source=concepts` read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sq.core.intervals import Interval, paired_difference, share_interval
from sq.report.artifacts import StageArtifacts
from sq.report.estimates import accuracies
from sq.synth.sources.weakness import Weakness, topics_of

FIGURE = "weak_topics"
COLUMNS = ("topic", "concepts", "correct", "fail_rate", "item")
GROUPS = ("weak topics", "the rest")


def accuracy_by_weakness(stages: Sequence[StageArtifacts]) -> dict[str, dict[tuple[str, str], list[Interval]]]:
    """By metric, student and group of topics: its accuracy on the benchmark, of each seed."""
    by_metric: dict[str, dict[tuple[str, str], list[Interval]]] = {}
    for own in _seeds(stages):
        for student, benchmark, groups in _students(own):
            values = by_metric.setdefault(f"student's accuracy on {benchmark}", {})
            for group, shares in groups.items():
                values.setdefault((student, group), []).append(share_interval(list(shares.values())))
    return by_metric


def weakness_notes(stages: Sequence[StageArtifacts]) -> Iterator[str]:
    """What is weak, and what each student has over the first one, problem by problem."""
    for own in _seeds(stages):
        seed = own[0].tags.get("seed")
        weak, every = _weak(own)
        yield f"{f'seed {seed}: ' if seed else ''}{len(weak)} of {every} topics are weak: {', '.join(weak[:12])}"
        students = list(_students(own))
        for (first, _, before), (student, _, after) in ((students[0], other) for other in students[1:]):
            for group in GROUPS:
                both = [i for i in before[group] if i in after[group]]
                if both:
                    gap = paired_difference([before[group][i] for i in both], [after[group][i] for i in both])
                    yield f"{student} over {first}, {group}: {gap.value:+.1%} ({gap.low:+.1%} to {gap.high:+.1%})"


def _seeds(stages: Sequence[StageArtifacts]) -> Iterator[list[StageArtifacts]]:
    """The stages of each seed that has all it takes."""
    for seed in dict.fromkeys(stage.tags.get("seed", "") for stage in stages):
        own = [stage for stage in stages if stage.tags.get("seed", "") == seed]
        if {"practised", "tested"} <= {stage.tags.get("of") for stage in own}:
            yield own


def _of(stages: Sequence[StageArtifacts], what: str) -> StageArtifacts:
    return next(stage for stage in stages if stage.tags.get("of") == what)


def _weak(stages: Sequence[StageArtifacts]) -> tuple[list[str], int]:
    """The weak topics, and how many topics there are."""
    weakness = Weakness.of(_of(stages, "practised").rows(*COLUMNS))
    return weakness.weak, len(weakness.topics)


def _students(stages: Sequence[StageArtifacts]) -> Iterator[tuple[str, str, dict[str, dict[str, float]]]]:
    """Each evaluation's student, its benchmark, and by group of topics the accuracy on each problem."""
    weak = set(_weak(stages)[0])
    is_weak = {row["item"]: not weak.isdisjoint(topics_of(row)) for row in _of(stages, "tested").rows(*COLUMNS)}
    for stage in (stage for stage in stages if stage.kind == "evaluate"):
        for benchmark in stage.benchmarks:
            shares = {item: share for item, share in accuracies(stage, benchmark).items() if item in is_weak}
            groups = {
                group: {i: s for i, s in shares.items() if is_weak[i] == (group == GROUPS[0])} for group in GROUPS
            }
            yield stage.tags.get("series", stage.name), benchmark, groups

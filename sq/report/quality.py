"""How good a run's questions and selected answers are, each share and mean with its 95% interval.

Where the domain has an exact oracle it labels questions; elsewhere the judges of filters that read them do. A filter
keeps what its own judge calls solvable, so that what this judge says of them measures nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sq.core.intervals import Interval, mean_interval
from sq.report.artifacts import RunArtifacts, StageArtifacts
from sq.report.changes import share
from sq.report.question_sets import MOST

if TYPE_CHECKING:
    from sq.domains.base import Domain

ORACLE = "the exact oracle"
CHOOSERS = {"solvable": "judge_model", "difficulty": "difficulty_model"}
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
    """Of `solvable` and `difficulty`, by which of them a filter chose these questions."""
    values: Sequence[float] = ()
    """The difficulty of each question that the oracle can solve."""


def quality(stages: Sequence[StageArtifacts], artifacts: RunArtifacts) -> Quality:
    """Solvable share and difficulty of the questions of some stages taken together."""
    if artifacts.oracle is not None:
        return by_oracle((text for stage in stages for text in stage.questions(MOST)), artifacts.oracle)
    replies, scores = (_by_reader(stages, artifacts, column) for column in CHOOSERS)
    return Quality(
        solvable={by: share(values.count("yes"), len(values)) for by, values in replies.items()},
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
        unit="steps",
        values=steps,
    )


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
        for reader in (s for s in artifacts.of("filter") if stage in artifacts.inputs_of(s)):
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

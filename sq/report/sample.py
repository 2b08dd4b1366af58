"""Rows to look at: selected ones and, for every reason there is, rejected ones, each with its story through the stages.

Which rows are shown is drawn by a hash of their ids. The page filters, searches and turns pages by itself; without
scripts all of them stand there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sq.core.count import count_noun
from sq.report.artifacts import RunArtifacts, StageArtifacts, chosen
from sq.report.formulas import rich
from sq.report.funnel import KINDS
from sq.report.html import Section, render

KEPT = 100
"""Selected rows that are shown."""
EACH_REASON = 5
"""Rejected rows that are shown of each stage and reason."""
LONGEST = 4_000
"""Characters of a text that are shown."""
TEXTS = ("question", "response", "query", "judge_reply", "extra", "chosen", "rejected", "rewrite_reply", "text", "file")
LABELS = {
    "question": "Question", "chosen": "Chosen", "rejected": "Rejected", "response": "Answer", "text": "Line"
}  # fmt: skip
STORY = (
    "id", "question_id", "generator", "index", "question_tokens", "source", "source_row", "model", "run", "seed",
    "language", "language_score", "solvable", "solvable_yes", "solvable_votes", "judge_model", "difficulty",
    "duplicate_of", "duplicate_kind", "duplicate_similarity", "overlap", "overlap_benchmark", "response_model",
    "response_answer", "response_tokens", "response_finish_reason", "correct", "reward", "votes", "rank", "selected_by",
    "candidates", "solver_model", "fail_rate", "k", "n",
)  # fmt: skip
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class SampleRow:
    """One row of the sample."""

    stage: StageArtifacts
    row: Row
    reason: str = ""
    detail: str = ""

    @property
    def question(self) -> str:
        """The id of the question that it is or answers."""
        return str(self.row.get("question_id") or self.row.get("id") or "")


@dataclass(frozen=True, kw_only=True)
class Event:
    """What one stage made of a question, or of a candidate solution to it."""

    stage: str
    kind: str
    row: Row
    reason: str = ""
    detail: str = ""


def section(artifacts: RunArtifacts) -> Section | None:
    """The rows, to be searched and paged through."""
    shown = rows_of(artifacts)
    if not shown:
        return None
    stories = _stories(artifacts, {s.question for s in shown if s.question})
    entries = [_entry(one, stories.get(one.question, [])) for one in shown]
    outcomes = list(dict.fromkeys(one.reason or "kept" for one in shown))
    stages = list(dict.fromkeys(one.stage.name for one in shown))
    kept = sum(not one.reason for one in shown)
    says = (
        f"{count_noun(kept, 'kept row')} and {count_noun(len(shown) - kept, 'rejected row')} of "
        f"{count_noun(len(stages), 'stage')}, drawn by a hash of their ids, "
        "every reason among them; each with what every stage made of it. "
        "The whole story of any row: sq why ID."
    )
    body = render("rows.html.j2", rows=entries, outcomes=outcomes, stages=stages)
    return Section(id="rows", title="Rows", says=says, body=body)


def rows_of(artifacts: RunArtifacts) -> list[SampleRow]:
    """The sample: rows of the final selection (else of the last filter, else questions), and rejects of every stage."""
    shown: list[SampleRow] = []
    full = [s for s in [*artifacts.of("questions"), *artifacts.of("filter")] if s.manifest and s.manifest.rows]
    last = artifacts.finals or full[-1:]
    for stage in last:
        shown += [SampleRow(stage=stage, row=row) for row in chosen(stage.rows(), KEPT // len(last))]
    for stage in artifacts.of(*KINDS):
        by_reason: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row, reason, detail in stage.rejects():
            by_reason[reason].append({"id": row.get("id"), "row": row, "detail": detail})
            if len(by_reason[reason]) >= 50 * EACH_REASON:
                by_reason[reason] = chosen(iter(by_reason[reason]), EACH_REASON)
        for reason, rows in by_reason.items():
            few = chosen(iter(rows), EACH_REASON)
            shown += [SampleRow(stage=stage, row=r["row"], reason=reason, detail=r["detail"]) for r in few]
    return shown


def _stories(artifacts: RunArtifacts, wanted: set[str]) -> dict[str, list[Event]]:
    """What each stage said of these questions and their candidates, in the run's order."""
    told: dict[str, list[Event]] = defaultdict(list)
    for stage in artifacts.of(*KINDS):
        if stage.kind == "rewrite":
            continue
        for row in stage.rows(*STORY):
            key = str(row.get("question_id") or row.get("id") or "")
            if key in wanted:
                told[key].append(Event(stage=stage.name, kind=stage.kind, row=row))
        for row, reason, detail in stage.rejects():
            key = str(row.get("question_id") or row.get("id") or "")
            if key in wanted:
                told[key].append(Event(stage=stage.name, kind=stage.kind, row=row, reason=reason, detail=detail))
    return told


def _entry(one: SampleRow, story: Sequence[Event]) -> dict[str, Any]:
    """A row as its template takes it."""
    row = one.row
    known = any(one.detail in str(row.get(key)) for key in TEXTS)
    columns = [(k, v) for k, v in row.items() if v not in (None, [], "") and k not in TEXTS]
    return {
        "id": str(row.get("id") or ""),
        "outcome": one.reason or "kept",
        "stage": one.stage.name,
        "texts": [(key, label, rich(_cut(str(row[key])))) for key, label in LABELS.items() if row.get(key)],
        "why": _cut(one.detail, 300) if one.reason and not known else "",
        "story": [_line(events, one) for events in _gathered(story)],
        "columns": [(name, _cut(_plain(value), 300)) for name, value in columns],
    }


def _gathered(story: Sequence[Event]) -> list[list[Event]]:
    """Events by stage, since a question has several candidates."""
    by_stage: dict[str, list[Event]] = {}
    for event in story:
        by_stage.setdefault(event.stage, []).append(event)
    return list(by_stage.values())


def _line(events: Sequence[Event], one: SampleRow) -> str:
    """What a stage made of the question, in words."""
    first = events[0]
    row, said = first.row, _rejected(first)
    if first.kind == "questions":
        made = f"written by {row.get('generator') or row.get('model') or 'a model'}"
        more = [f"sample {row['index']:,}"] if row.get("index") is not None else []
        more += [f"seed {row['seed']}"] if row.get("seed") is not None else []
        return f"{first.stage}: {', '.join([made, *more])}{said}"
    if first.kind == "filter":
        return f"{first.stage}: {'; '.join(_verdicts(row)) or 'looked at'}{said or '; kept'}"
    if first.kind == "fail_rate":
        solver = row.get("solver_model") or "the solver"
        return f"{first.stage}: {solver} wrong {row.get('k')} of {row.get('n')} times{said}"
    if first.kind == "answers":
        answers = ", ".join(str(e.row.get("response_answer") or "none") for e in events)
        solver = row.get("response_model") or "a model"
        return f"{first.stage}: {count_noun(len(events), 'candidate')} by {solver}: {answers}{said}"
    own = next((e for e in events if e.row.get("id") == one.row.get("id")), first)
    of = (
        f"this one of {count_noun(len(events), 'candidate')}"
        if own.row.get("id") == one.row.get("id")
        else "another candidate"
    )
    return f"{first.stage}: {of} {_rejected(own).removeprefix('; ') or 'selected'}{_standing(own.row)}"


def _rejected(event: Event) -> str:
    return (
        f"; rejected: {event.reason}" + (f" ({_cut(event.detail, 120)})" if event.detail else "")
        if event.reason
        else ""
    )


def _verdicts(row: Row) -> list[str]:
    told = []
    if row.get("language"):
        told.append(f"language {row['language']}")
    if row.get("solvable"):
        votes = f", {row['solvable_yes']} of {row['solvable_votes']}" if row.get("solvable_votes") else ""
        told.append(f"judged solvable: {row['solvable']}{votes}")
    if row.get("difficulty") is not None:
        told.append(f"difficulty {row['difficulty']:.2f}")
    if row.get("duplicate_of"):
        told.append(f"{row.get('duplicate_kind') or ''} duplicate of {str(row['duplicate_of'])[:12]}".strip())
    if row.get("overlap"):
        told.append(f"overlap with {row.get('overlap_benchmark') or 'a benchmark'} {row['overlap']:.0%}")
    return told


def _standing(row: Row) -> str:
    told = [f"{name} {row[name]:,}" for name in ("votes", "rank") if row.get(name) is not None]
    told += [f"reward {row['reward']:.3f}"] if row.get("reward") is not None else []
    told += [f"by {row['selected_by']}"] if row.get("selected_by") else []
    told += ["right" if row["correct"] else "wrong"] if row.get("correct") is not None else []
    return f" ({', '.join(told)})" if told else ""


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _cut(text: str, most: int = LONGEST) -> str:
    return text if len(text) <= most else f"{text[:most]} … ({len(text):,} characters)"

"""Rows to look at: selected ones and, for every reason there is, rejected ones, each with its story through the stages.

A hash of ids draws them, so that a second report has the same. The page filters, searches and turns pages by itself;
without scripts all of them stand there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sq.core.columns import TABLE
from sq.report.artifacts import RunArtifacts, StageArtifacts, draw
from sq.report.funnel import UNITS
from sq.report.render import Section, cut, section

KEPT = 100  # selected rows in the sample
EACH_REASON = 5  # rejected rows of each stage and reason
TEXTS = {name: name.capitalize() for name, column in TABLE.items() if column.sample == "text"}
TEXTS |= {"response": "Answer", "text": "Line"}
"""Columns that are drawn as texts, and their labels; `text` is a line of a file that was no row."""
VALUES = [name for name, column in TABLE.items() if column.sample == "value"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """What one stage made of a row: kept it, or rejected it for a reason."""

    stage: StageArtifacts
    row: Mapping[str, Any]
    reason: str = ""
    detail: str = ""

    @property
    def outcome(self) -> str:
        """Why it was rejected, else how an evaluation graded it, else that it was kept."""
        return self.reason or str(self.row.get("verdict") or "kept")

    @property
    def question(self) -> str:
        """The id of the question that it is or answers."""
        return str(self.row.get("question_id") or self.row.get("id") or "")

    @property
    def texts(self) -> list[tuple[str, str, str]]:
        """Its texts: column, label, text."""
        return [(key, label, str(self.row[key])) for key, label in TEXTS.items() if self.row.get(key)]

    @property
    def values(self) -> list[tuple[str, str]]:
        """Its other columns, but those that no sample shows."""
        hidden = {*TEXTS, *(TABLE.keys() - VALUES), "file"}
        return [(k, _plain(v)) for k, v in self.row.items() if v not in (None, [], "") and k not in hidden]

    @property
    def why(self) -> str:
        """The detail of its reason, where none of its texts says that itself."""
        return "" if any(self.detail in text for _, _, text in self.texts) else self.detail


def samples(artifacts: RunArtifacts) -> Section | None:
    """The rows, to be searched and paged through."""
    events = sample(artifacts)
    stories = _stories(artifacts, {event.question for event in events if event.question})
    rows = [(event, stories.get(event.question, {}).values()) for event in events]
    return section("rows", rows=rows) if rows else None


def sample(artifacts: RunArtifacts) -> list[Event]:
    """Rows of the final selection (else of the last filter, else questions), and rejects of every stage."""
    full = [s for s in [*artifacts.of("questions"), *artifacts.of("filter")] if s.row_count]
    last = artifacts.finals or full[-1:]
    events = [Event(stage=stage, row=row) for stage in last for row in _selected(stage, KEPT // len(last))]
    for stage in artifacts.of(*UNITS):
        by_reason: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row, reason, detail in stage.rejects():
            by_reason[reason].append({"id": row.get("id"), "row": row, "detail": detail})
            if len(by_reason[reason]) >= 50 * EACH_REASON:
                by_reason[reason] = draw(iter(by_reason[reason]), EACH_REASON)
        for reason, rejects in by_reason.items():
            few = draw(iter(rejects), EACH_REASON)
            events += [Event(stage=stage, row=r["row"], reason=reason, detail=r["detail"]) for r in few]
    return events


def _stories(artifacts: RunArtifacts, wanted: set[str]) -> Mapping[str, Mapping[str, Sequence[Event]]]:
    """What each stage made of these questions and their candidates: by question and by stage, in the run's order."""
    stories: dict[str, dict[str, list[Event]]] = defaultdict(lambda: defaultdict(list))
    for stage in artifacts.of(*(UNITS.keys() - {"rewrite"})):
        for stored in stage.index.of(wanted, made_from=wanted) if stage.index else ():
            row = stored.row if stored.reason else {name: stored.row[name] for name in VALUES if name in stored.row}
            event = Event(stage=stage, row=row, reason=stored.reason or "", detail=stored.detail)
            if event.question in wanted:
                stories[event.question][stage.name].append(event)
    return stories


def _selected(stage: StageArtifacts, count: int) -> Iterator[dict[str, Any]]:
    """A sample of its rows with all columns."""
    drawn = [row["id"] for row in stage.sample(count)]
    whole = {stored.id: stored.row for stored in stage.index.of(drawn) if not stored.reason} if stage.index else {}
    return (whole[name] for name in drawn)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return cut(f"{value:.6g}" if isinstance(value, float) else str(value), 300)

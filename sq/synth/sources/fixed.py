"""`source=fixed`: somebody's data set as it is, `input=`, as one more source to compare with.

A row keeps its id, its place in the file and its reference answer, so that its story begins where it came from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sq.core.ledger import WorkItem
from sq.core.rows import QUESTION, fit_row, row_id
from sq.data.records import BadRow
from sq.synth.sources.base import QuestionSource
from sq.synth.stage import ItemResult, StageInput, StageSpec

if TYPE_CHECKING:
    from sq.synth.config import SynthJob
    from sq.synth.questions import QuestionsStage


@dataclass(frozen=True, kw_only=True)
class FixedSource(QuestionSource):
    """The rows of `input=`, at most `stage.count` that can be used, as `limit` counts them. No model is asked."""

    asks_model: ClassVar = False
    need: ClassVar[tuple[str, ...]] = ("question",)

    def spec(self, job: SynthJob, stage: QuestionsStage) -> StageSpec:
        """Each row of the input, under its own id."""
        source = StageInput(job=job, domain=job.domain.create(), need=self.need)
        inputs, count = (self.check(source),), source.count()
        return StageSpec(
            schema=QUESTION,
            fingerprint_fields={},
            items=lambda: _first_used(source.items(self._key), stage.count),
            items_from=source.items_from(self._key) if count is not None and count <= stage.count else None,
            process=lambda items, run: self.results(items, run),
            close=lambda: None,
            inputs=inputs,
            ignored_fields=frozenset({"stage.temperature", "stage.top_p", "stage.max_tokens"}),
            total=stage.count if count is None else min(stage.count, count),
            unit="row",
        )

    def results(self, items: Iterator[WorkItem], run: str) -> Iterator[ItemResult]:
        """Each row as a question of this source."""
        for item in items:
            row = fit_row(item.payload, QUESTION) | {"question_source": self.name, **self.columns(item.payload)}
            yield ItemResult(key=item.key, rows=[row])

    def columns(self, row: dict[str, Any]) -> dict[str, Any]:
        """What it adds to a row."""
        return {}

    @staticmethod
    def _key(row: dict[str, Any]) -> str:
        return row_id("fixed", question=row["id"], text=row["question"])


def _first_used(items: Iterator[WorkItem], count: int) -> Iterator[WorkItem]:
    """The items up to the last of `count` that are rows; those that are left out or bad stay in their places."""
    for item in items:
        yield item
        count -= not isinstance(item.payload, BadRow)
        if not count:
            return

"""The cheap half of an evaluation: every answer graded under every profile, in a ledger beside the answers.

The grader's own version is part of what decides the grades. When it changes, scores made by the old one are renamed
and kept, and the answers, which are what costs, are graded again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from sq.core.ledger import Ledger, LedgerSummary, WorkItem
from sq.core.progress import Progress
from sq.core.rows import SCORE, fit_row, row_id
from sq.eval.answer import BenchmarkAnswers, archive_if_outdated, read_answers
from sq.eval.checkers import AnswerChecker, GradeRow

_CHUNK = 256


def score(directory: Path, answers: BenchmarkAnswers, checker: AnswerChecker) -> LedgerSummary:
    """Fill the ledger of a benchmark's scores: a row for each answer and profile.

    Args:
        directory: the benchmark's; the answers are in it.
        answers: what its ledgers hold.
        checker: grades them; its processes are ended.
    """
    identity = {"grader": checker.version, "profiles": ",".join(checker.profiles), **answers.reasoning}
    where, inputs, total = scores_dir(directory), answers.digests, answers.count
    archive_if_outdated(where, inputs, identity)
    try:
        with (
            Ledger.open(where, schema=SCORE, config=identity, inputs=inputs) as ledger,
            Progress(where, f"{directory.name} grades", "answer", total=total, done=lambda: ledger.done) as progress,
        ):
            items = (
                WorkItem(row["id"], {**row, "prediction": answers.as_graded(row["prediction"])})
                for row in read_answers(directory, len(answers.rounds))
            )
            for chunk in _chunks(ledger.todo(items)):
                for answer, grades in zip(chunk, checker.grade(chunk), strict=True):
                    rows = [_row(answer, profile, grade, checker.version) for profile, grade in grades.items()]
                    ledger.record(answer["id"], rows=rows)
                    progress.update()
            return ledger.finish()
    finally:
        checker.close()


def scores_dir(directory: Path) -> Path:
    """Where the scores of a benchmark are."""
    return directory / "scores"


def _chunks(items: Iterator[WorkItem]) -> Iterator[list[dict[str, Any]]]:
    while chunk := [item.payload for item in islice(items, _CHUNK)]:
        yield chunk


def _row(answer: dict[str, Any], profile: str, grade: GradeRow, version: str) -> dict[str, Any]:
    columns = {k: v for k, v in answer.items() if k != "solution"}
    parents = [answer["id"], *answer["parents"]]
    identity = {"id": row_id("score", answer=answer["id"], profile=profile, grader=version), "parents": parents}
    return fit_row({**columns, **identity, "profile": profile, **grade}, SCORE)

"""The cheap half of an evaluation: every answer graded under every profile, in a ledger beside the answers.

The grader's own version is part of what decides the verdicts. When it changes, scores made by the old one are set aside
under its version, and the answers, which are what costs, are graded again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from sq.core.ledger import Ledger, LedgerSummary, WorkItem, read_rows
from sq.core.rows import SCORE, fit_row, row_id
from sq.eval.answer import answers_dir
from sq.eval.checkers import AnswerChecker
from sq.eval.grade import Grade, Pair
from sq.eval.grader import Grader
from sq.eval.grader_config import GraderConfig
from sq.eval.outdated import archive_if_outdated

_CHUNK = 256
_GRADER = (
    "answer_text.py",
    "boxes.py",
    "extract.py",
    "grade.py",
    "grade_status.py",
    "negated_answers.py",
    "equal/*.py",
)


class LazyGrader:
    """Starts the grading processes when the first answer needs them."""

    def __init__(self, config: GraderConfig, profiles: Sequence[str]) -> None:
        self.profiles = tuple(profiles)
        self._config = config
        self._grader: Grader | None = None

    def grade(self, pairs: list[Pair], profile: str) -> list[Grade]:
        """The grades of some pairs, in order."""
        if self._grader is None:
            self._grader = Grader(self._config)
        return list(self._grader.grade(pairs, profile))

    def close(self) -> None:
        """End its processes, if there are any."""
        if self._grader is not None:
            self._grader.close()
            self._grader = None


def score(
    directory: Path,
    answers: Sequence[LedgerSummary],
    tolerances: dict[str, float],
    grader: LazyGrader,
    checker: AnswerChecker | None = None,
) -> LedgerSummary:
    """Fill the ledger of a benchmark's scores: a row for each answer and profile.

    Args:
        directory: the benchmark's; the answers are in it.
        answers: what the ledgers of answers hold, by round.
        tolerances: the absolute error that some problems allow, by item.
        grader: grades the answers, unless
        checker: does, as the benchmark has a check of its own.
    """
    profiles = (checker.profile,) if checker else grader.profiles
    version = checker.version if checker else grader_version()
    identity = {"grader": version, "profiles": ",".join(profiles)}
    inputs = {f"answers-{n}": summary.digest for n, summary in enumerate(answers, 1)}
    where = directory / "scores"
    archive_if_outdated(where, inputs, identity)
    with Ledger.open(where, schema=SCORE, config=identity, inputs=inputs) as ledger:
        waiting = ledger.todo(WorkItem(row["id"], row) for row in _answers(directory, len(answers)))
        while chunk := [item.payload for item in islice(waiting, _CHUNK)]:
            graded = [checker.grade(chunk)] if checker else [_graded(chunk, p, tolerances, grader) for p in profiles]
            for row, grades in zip(chunk, zip(*graded, strict=True), strict=True):
                named = zip(profiles, grades, strict=True)
                ledger.record(row["id"], rows=[_row(row, profile, grade, version) for profile, grade in named])
        return ledger.finish()


@lru_cache
def grader_version() -> str:
    """A digest of the grader: its code, and the release of the library it computes with."""
    from importlib.metadata import version

    digest = hashlib.blake2b(digest_size=6)
    here = Path(__file__).parent
    for file in sorted(p for pattern in _GRADER for p in here.glob(pattern)):
        digest.update(file.name.encode() + file.read_bytes())
    digest.update(version("mpmath").encode())
    return digest.hexdigest()


def scores_dir(directory: Path) -> Path:
    """Where the scores of a benchmark are."""
    return directory / "scores"


def _answers(directory: Path, rounds: int) -> Iterator[dict[str, Any]]:
    for number in range(1, rounds + 1):
        yield from read_rows(answers_dir(directory, number))


def _graded(
    rows: list[dict[str, Any]], profile: str, tolerances: dict[str, float], grader: LazyGrader
) -> list[dict[str, Any]]:
    pairs = [
        Pair(
            prediction=row["prediction"],
            reference=row["reference"],
            question=row["question"],
            tolerance=tolerances.get(row["item"]),
            finish_reason=row["prediction_finish_reason"],
        )
        for row in rows
    ]
    return [
        {
            "extracted": _storable(g.extracted) if g.location.value != "nowhere" else None,
            "correct": g.correct,
            "verdict": g.status.value,
            "reason": _storable(g.reason),
            "where": g.location.value,
        }
        for g in grader.grade(pairs, profile)
    ]


def _row(answer: dict[str, Any], profile: str, grade: dict[str, Any], version: str) -> dict[str, Any]:
    kept = {k: v for k, v in answer.items() if k != "solution"}
    parents = [answer["id"], *answer["parents"]]
    identity = {"id": row_id("score", answer=answer["id"], profile=profile, grader=version), "parents": parents}
    return fit_row({**kept, **identity, "profile": profile, **grade}, SCORE)


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def tolerance_of(problem: dict[str, Any]) -> float | None:
    """The absolute error a problem's reference allows, where its benchmark gives one."""
    value = problem.get("tolerance")
    try:
        return None if value in (None, "") else float(str(value))
    except ValueError:
        return None

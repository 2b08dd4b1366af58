"""How answers are graded where the graders of mathematics are not asked: by a domain's exact check, or by tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sq.domains.base import Domain

EXACT = "exact"
"""The profile of a domain that checks its own answers."""


class AnswerChecker(Protocol):
    """Grades a benchmark's answers."""

    @property
    def profile(self) -> str:
        """What its verdicts are called in tables."""
        ...

    @property
    def version(self) -> str:
        """What decides its verdicts; with another one, scores are made again."""
        ...

    def grade(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """For each answer, in order: `extracted`, `correct`, `verdict`, `reason` and, where it is known, `where`."""
        ...

    def close(self) -> None:
        """End its processes, if there are any."""
        ...


class DomainChecker:
    """A domain's exact check."""

    profile = EXACT

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self.version = domain.name

    def grade(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """As `AnswerChecker.grade`."""
        found = []
        for row in rows:
            answer = self._domain.final_answer(row["prediction"])
            correct = answer is not None and self._domain.check(answer, row["reference"])
            status = "unparsed" if answer is None else "correct" if correct else "wrong"
            found.append({"extracted": answer, "correct": correct, "verdict": status, "reason": "exact check"})
        return found

    def close(self) -> None:
        """Nothing is held."""

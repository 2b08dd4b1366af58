"""How answers are graded: by the graders of mathematics, by a domain's exact check, or (`code.py`) by tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sq.core import thinking
from sq.core.files import code_version
from sq.domains.base import Candidates, Domain, group_by_answer
from sq.eval.equal.numbers import EXACT as EXACT_VALUE
from sq.eval.equal.numbers import Tolerance
from sq.eval.grader_config import GraderConfig, Profile

if TYPE_CHECKING:
    from sq.eval.grade import Grade, Pair
    from sq.eval.grader import Grader

EXACT = "exact"
"""The profile of a domain that checks its own answers."""
_GRADER_CODE = (
    "announced",
    "answer_text",
    "boxes",
    "extract",
    "grade",
    "grade_status",
    "named_values",
    "negated_answers",
    "equal/*",
)
_MATH_VERIFY = ("math-verify", "latex2sympy2_extended", "sympy")
"""Whose releases decide what profile math-verify says."""
Answer = Mapping[str, Any]
GradeRow = dict[str, Any]
"""A grade's columns: `extracted`, `correct`, `verdict`, `reason` and, where it is known, `where` it stood."""


class AnswerChecker(Protocol):
    """Grades a benchmark's answers."""

    @property
    def profiles(self) -> Sequence[str]:
        """What its graders are called in tables; the first one's score is the score."""
        ...

    @property
    def version(self) -> str:
        """What decides its grades; with another one, answers are graded again."""
        ...

    def grade(self, answers: Sequence[Answer]) -> list[dict[str, GradeRow]]:
        """For each answer, in order, its grade by profile."""
        ...

    def vote(self, item: str, answers: Sequence[str]) -> Sequence[str]:
        """For each answer to the problem `item` a key, equal where two say the same, as selection has it."""
        ...

    def close(self) -> None:
        """End its processes, if there are any."""
        ...


class EqualityChecker:
    """The graders of mathematics, in worker processes that the first answer starts.

    Args:
        config: the bounds of a worker.
        profiles: whose rules decide, for each grade of an answer.
        tolerances: the errors that some problems allow, by their ids.
        allowed: the error that every other reference allows.
        columns: what the absolute and the relative errors were read from.
        choices: of multiple-choice questions, by their ids; profile strict takes the text of one for its letter.
    """

    def __init__(
        self,
        config: GraderConfig,
        profiles: Sequence[str],
        tolerances: Mapping[str, Tolerance] | None = None,
        allowed: Tolerance = EXACT_VALUE,
        columns: Sequence[str | None] = (None, None),
        choices: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.profiles = profiles
        constants = (f"-{mark}tol{error:g}" for mark, error in zip("ar", allowed, strict=True) if error)
        read = (f"-{mark}tol-{column}" for mark, column in zip("ar", columns, strict=True) if column)
        self.version = grader_version() + "".join((*constants, *read))
        if Profile.MATH_VERIFY in profiles:
            self.version += "-" + "-".join(version(name) for name in _MATH_VERIFY)
        self._config, self._tolerances, self._allowed = config, tolerances or {}, allowed
        self._choices = choices or {}
        self._grader: Grader | None = None

    def grade(self, answers: Sequence[Answer]) -> list[dict[str, GradeRow]]:
        """As `AnswerChecker.grade`."""
        pairs = [self._pair(answer) for answer in answers]
        grades = zip(*(self._started.grade(pairs, profile) for profile in self.profiles), strict=True)
        return [dict(zip(self.profiles, map(_grade_row, of_one), strict=True)) for of_one in grades]

    def vote(self, item: str, answers: Sequence[str]) -> Sequence[str]:
        """As `AnswerChecker.vote`."""
        relative = self._allowed.relative
        return group_by_answer([answers], lambda pairs: self._started.same_answers(pairs, relative))[0].keys

    def close(self) -> None:
        """As `AnswerChecker.close`."""
        if self._grader is not None:
            self._grader.close()
            self._grader = None

    @property
    def _started(self) -> Grader:
        from sq.eval.grader import Grader

        self._grader = self._grader or Grader(self._config)
        return self._grader

    def _pair(self, answer: Answer) -> Pair:
        from sq.eval.grade import Pair

        allowed = self._tolerances.get(answer["item"], self._allowed)
        return Pair(
            prediction=answer["prediction"],
            reference=answer["reference"],
            question=answer["question"],
            tolerance=allowed.absolute,
            relative_tolerance=allowed.relative,
            finish_reason=answer["prediction_finish_reason"],
            choices=self._choices.get(answer["item"], ()),
        )


class DomainChecker:
    """A domain's exact check, and its vote."""

    profiles = (EXACT,)

    def __init__(self, problems: Mapping[str, Mapping[str, Any]], domain: Domain) -> None:
        self._problems, self._domain = problems, domain
        self.version = "-".join((domain.name, domain.extractor, domain.checker))

    def grade(self, answers: Sequence[Answer]) -> list[dict[str, GradeRow]]:
        """As `AnswerChecker.grade`."""
        finals = [self._domain.final_answer(answer["prediction"]) for answer in answers]
        both = zip(finals, (answer["reference"] for answer in answers), strict=True)
        right = iter(self._domain.check_many([(final, reference) for final, reference in both if final is not None]))
        return [{EXACT: _exact_grade(final, final is not None and next(right))} for final in finals]

    def vote(self, item: str, answers: Sequence[str]) -> Sequence[str]:
        """As `AnswerChecker.vote`."""
        return self._domain.vote(Candidates(question=self._problems[item], answers=answers, responses=answers)).keys

    def close(self) -> None:
        """Nothing is held."""


@lru_cache
def grader_version() -> str:
    """A digest of the graders of mathematics: their code, and the release of the library they compute with."""
    here = Path(__file__).parent
    files = (file for pattern in _GRADER_CODE for file in here.glob(f"{pattern}.py"))
    return code_version([*files, Path(thinking.__file__)], version("mpmath"))


def storable(text: str) -> str:
    """A text without what UTF-8 cannot write."""
    return text.encode("utf-8", "replace").decode()


def _exact_grade(final: str | None, correct: bool) -> GradeRow:
    status = "unparsed" if final is None else "correct" if correct else "wrong"
    return {"extracted": final, "correct": correct, "verdict": status, "reason": "exact check"}


def _grade_row(grade: Grade) -> GradeRow:
    return {
        "extracted": storable(grade.extracted) if grade.location.value != "nowhere" else None,
        "correct": grade.correct,
        "verdict": grade.status.value,
        "reason": storable(grade.reason),
        "where": grade.location.value,
    }

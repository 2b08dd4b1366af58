"""What grading a pair can end in."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class GradeStatus(StrEnum):
    """How a prediction stands to its reference; only `CORRECT` scores."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSED = "unparsed"
    """No answer was found in the output."""
    TIMEOUT = "timeout"
    """Comparing took longer than the deadline, or more memory than allowed."""
    UNVERIFIABLE = "unverifiable"
    """The reference is prose, empty, or beyond what can be compared, and the answer is not the same text."""


class EqualityResult(NamedTuple):
    """Whether two answers are equal, and why."""

    status: GradeStatus
    reason: str

    @property
    def correct(self) -> bool:
        """Whether it scores."""
        return self.status is GradeStatus.CORRECT

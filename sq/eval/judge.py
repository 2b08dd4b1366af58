"""One pair judged, in this process: extraction, then equality, by the rules of a profile.

`grader.Grader` runs this in worker processes that can be killed; call it directly only on text you trust to be short.
"""

from __future__ import annotations

from dataclasses import dataclass

from sq.eval.equal import dart, strict
from sq.eval.extract import Extraction, Where, extract, extract_reference
from sq.eval.grader_config import Profile
from sq.eval.verdict import Outcome, Verdict


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A model's output and the reference it is held against.

    Attributes:
        prediction: the whole output, or an answer alone.
        reference: the true answer, or a solution that ends in one (a box, or `####`).
        question: the problem; profile dart looks for "find all ... separated by commas" in it.
        tolerance: an absolute error the reference allows.
        finish_reason: what ended the output; `length` means that it was cut off.
    """

    prediction: str
    reference: str
    question: str = ""
    tolerance: float | None = None
    finish_reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Grade:
    """What grading a pair gave."""

    profile: Profile
    verdict: Verdict
    reason: str
    extracted: str = ""
    where: Where = Where.NOWHERE
    cut_off: bool = False

    @property
    def correct(self) -> bool:
        """Whether it scores."""
        return self.verdict is Verdict.CORRECT


def judge(pair: Pair, profile: Profile = Profile.STRICT) -> Grade:
    """Extract the answer and compare it with the reference."""
    if profile is Profile.DART:
        found, outcome = _dart(pair)
    else:
        found, outcome = _strict(pair)
    return Grade(
        profile=profile,
        verdict=outcome.verdict,
        reason=outcome.reason,
        extracted=found.answer,
        where=found.where,
        cut_off=found.cut_off,
    )


def _strict(pair: Pair) -> tuple[Extraction, Outcome]:
    found = extract(pair.prediction, finish_reason=pair.finish_reason)
    reference = extract_reference(pair.reference)
    if not reference:
        return found, Outcome(Verdict.UNVERIFIABLE, "the reference is empty")
    if found.where is not Where.BOXED and strict.same_text(pair.prediction, reference):
        return Extraction(answer=pair.prediction.strip(), where=Where.WHOLE), Outcome(Verdict.CORRECT, "same text")
    if not found.found:
        return found, Outcome(Verdict.UNPARSED, "cut off before an answer" if found.cut_off else "no answer was found")
    return found, strict.equal(found.answer, reference, tolerance=pair.tolerance)


def _dart(pair: Pair) -> tuple[Extraction, Outcome]:
    found = dart.extract(pair.prediction, finish_reason=pair.finish_reason)
    if found.cut_off:
        return found, Outcome(Verdict.WRONG, "cut off at the token limit")
    if not found.found:
        return found, Outcome(Verdict.UNPARSED, "no answer was found")
    return found, dart.equal(found.answer, extract_reference(pair.reference), question=pair.question)
